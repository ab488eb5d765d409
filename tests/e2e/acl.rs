//! Redis's access rules for each role, on a real server: what a role does works, and everything else is denied.

use std::collections::BTreeSet;

use pmq_broker::Broker;
use pmq_broker::acl::{Role, verbs};
use pmq_broker::functions::LIBRARY;
use pmq_broker::keys::ShardKeys;
use pmq_tests::{Cluster, Program, RedisServer, SentinelGroup};
use redis::{RedisResult, Value, cmd};

use crate::fleet::name;
use crate::guarded::{Guarded, Site, grant_of};

fn is_denied(answer: &RedisResult<Value>) -> bool {
    answer
        .as_ref()
        .is_err_and(|error| error.code() == Some("NOPERM"))
}

#[test]
fn each_role_does_its_work() {
    each_role_works(&Guarded::new(RedisServer::start(), &[]));
}

#[test]
fn each_role_does_its_work_on_a_cluster() {
    each_role_works(&Guarded::new(Cluster::start(3), &[]));
}

#[test]
fn each_role_does_its_work_behind_sentinels() {
    each_role_works(&Guarded::new(SentinelGroup::start(), &[]));
}

fn each_role_works<S: Site>(guarded: &Guarded<S>) {
    let producer = guarded.pmq("producer");
    let worker = guarded.pmq("worker");
    let worker = worker.spawn(["worker", "-q", "mail", "--allow-commands", "-c", "2"]);
    let _ = worker.wait_for_line("serves");
    let said = |pmq: &Program, arguments: &[&str]| pmq.run(arguments).expect_code(0).text();

    assert_eq!(
        said(
            &producer,
            &["submit", "-q", "mail", "--wait", "--", "echo", "hi"]
        ),
        "hi\n"
    );
    assert_eq!(
        said(&producer, &["run", "-q", "mail", "--", "echo", "there"]),
        "there\n"
    );
    assert_eq!(
        said(
            &producer,
            &[
                "map", "-q", "mail", "-k", "--", "echo", "{}", ":::", "1", "2"
            ]
        ),
        "1\n2\n"
    );
    said(
        &producer,
        &[
            "submit",
            "-q",
            "mail",
            "--completions",
            "done",
            "--",
            "true",
        ],
    );
    said(&producer, &["get", "mail/done"]);
    let late = said(
        &producer,
        &["submit", "-q", "mail", "--delay", "1h", "--", "true"],
    );
    said(&producer, &["status", "-q", "mail", late.trim()]);
    said(&producer, &["cancel", "-q", "mail", late.trim()]);
    let long = said(
        &producer,
        &["run", "-q", "mail", "--detach", "--", "sleep", "600"],
    );

    let viewer = guarded.pmq("viewer");
    assert!(said(&viewer, &["status"]).contains("mail"));
    said(&viewer, &["status", "-q", "mail", late.trim()]);
    assert!(said(&viewer, &["ps", "-q", "mail"]).contains("sleep"));
    said(&viewer, &["dead", "ls", "-q", "mail"]);
    said(&producer, &["kill", "-q", "mail", long.trim()]);
}

#[test]
fn an_admin_sets_queues_up_and_looks_after_them() {
    an_admin_works(&Guarded::new(RedisServer::start(), &[]));
}

#[test]
fn an_admin_looks_after_the_queues_of_a_cluster() {
    an_admin_works(&Guarded::new(Cluster::start(3), &[]));
}

fn an_admin_works<S: Site>(guarded: &Guarded<S>) {
    let admin = guarded.pmq("admin");
    let said = |arguments: &[&str]| admin.run(arguments).expect_code(0).text();
    said(&["functions", "load"]);
    said(&["submit", "-q", "mail", "--", "true"]);
    said(&["queue", "pause", "mail"]);
    said(&["queue", "purge", "mail", "--yes"]);
    said(&["queue", "resume", "mail"]);
    said(&["dead", "requeue", "-q", "mail", "--all"]);
    said(&["doctor", "-q", "mail"]);
}

/// The kinds of objects.
const KINDS: [&str; 10] = [
    "lock",
    "semaphore",
    "event",
    "barrier",
    "queue",
    "list",
    "dict",
    "namespace",
    "array",
    "value",
];

#[tokio::test(flavor = "multi_thread")]
async fn objects_work_for_who_was_granted_them() {
    objects_work(RedisServer::start()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_cluster_work_for_who_was_granted_them() {
    objects_work(Cluster::start(3)).await;
}

async fn objects_work<S: Site>(site: S) {
    let objects = KINDS.map(|kind| format!("{kind}:mine.*"));
    let objects = objects.each_ref().map(String::as_str);
    let guarded = Guarded::new(site, &objects);
    guarded.grant("nobody-else", &[], &objects);
    // Who has no role in any queue uses objects as well as a producer does.
    for user in [Role::Producer.as_str(), "nobody-else"] {
        words_of(&guarded.pmq(user));
        let broker = Broker::connect(&guarded.config(user)).await.unwrap();
        let dict = broker.dict::<String, i64>(&name("mine.dict"));
        dict.insert(&"a".to_owned(), &1).await.unwrap();
        assert_eq!(dict.get(&"a".to_owned()).await.unwrap(), Some(1));
        let event = broker.event(&name("mine.event"));
        event.set().await.unwrap();
        event.wait().await.unwrap();
        let barrier = broker.barrier(&name("mine.barrier"), 1);
        barrier.wait().await.unwrap();
        let list = broker.list::<i64>(&name("mine.list"));
        list.extend([2, 1]).await.unwrap();
        list.sort().await.unwrap();
        broker.value(&name("mine.value"), &1).await.unwrap();
    }
    let viewer = guarded.pmq(Role::Viewer.as_str());
    assert_eq!(
        viewer.run(["size", "mine.fruit"]).expect_code(0).text(),
        "0\n"
    );
    let _ = viewer.run(["put", "mine.fruit", "apple"]).expect_code(69);
}

/// Locks, semaphores and queues through the command.
fn words_of(pmq: &Program) {
    let said = |arguments: &[&str]| pmq.run(arguments).expect_code(0).text();
    assert_eq!(
        said(&["lock", "mine.deploy", "--", "echo", "held"]),
        "held\n"
    );
    assert_eq!(
        said(&["sem", "-n", "2", "mine.licence", "--", "echo", "held"]),
        "held\n"
    );
    said(&["put", "mine.fruit", "apple"]);
    assert_eq!(said(&["size", "mine.fruit"]), "1\n");
    assert_eq!(said(&["get", "mine.fruit"]), "apple\n");
    let denied = pmq.run(["put", "yours.fruit", "apple"]).expect_code(69);
    assert!(
        denied.error_text().contains("denied"),
        "{}",
        denied.error_text()
    );
}

#[test]
fn a_function_of_another_role_is_denied() {
    functions_are_denied(&Guarded::new(RedisServer::start(), &[]));
}

#[test]
fn a_function_of_another_role_is_denied_by_each_node() {
    functions_are_denied(&Guarded::new(Cluster::start(2), &[]));
}

fn functions_are_denied<S: Site>(guarded: &Guarded<S>) {
    let keys = ShardKeys::new(&name("pmq"), &name("mail"));
    for (role, mut connection) in guarded.connections() {
        let mine = grant_of(role).verbs();
        for verb in verbs() {
            let mut call = cmd("FCALL");
            call.arg(format!("{LIBRARY}_{verb}"))
                .arg(keys.fixed().len())
                .arg(keys.fixed());
            // Without arguments most fail, but not for want of the right to call them.
            let answer = call.query(&mut connection);
            assert_eq!(
                is_denied(&answer),
                !mine.contains(verb),
                "{role} {verb}: {answer:?}"
            );
        }
    }
}

/// Keys of nobody whose queue is `mail`.
const FOREIGN: &[&str] = &[
    "pmq:{mails/0}:tasks",
    "pmq:{mail.b/0}:tasks",
    "pmq:{mail}:tasks",
    "other:{mail/0}:tasks",
    "pmq:lock:{mail}:meta",
];
/// What nobody may do to the server.
const SERVER: &[&str] = &[
    "EVAL return(1) 0",
    "EVALSHA x 0",
    "SCRIPT LOAD x",
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG SET maxmemory 1",
    "ACL LIST",
    "ACL SETUSER x on",
    "CLIENT KILL ID 1",
    "CLIENT LIST",
    "FUNCTION DELETE x",
    "FUNCTION FLUSH",
    "FUNCTION RESTORE x",
    "KEYS *",
    "SCAN 0",
    "MONITOR",
    "SAVE",
    "BGSAVE",
    "REPLICAOF NO ONE",
    "MIGRATE h 1 k 0 1",
    "RESTORE k 0 x",
    "SWAPDB 0 1",
    "CLUSTER FORGET x",
    "CLUSTER FAILOVER",
    "CLUSTER SETSLOT 0 STABLE",
    "DEBUG SLEEP 0",
    "MODULE LIST",
    "PSUBSCRIBE *",
    "SORT k",
    "MEMORY DOCTOR",
    "LATENCY RESET",
    "COMMAND",
];

#[test]
fn nobody_touches_other_queues_or_the_server() {
    others_are_denied(&Guarded::new(RedisServer::start(), &[]));
}

#[test]
fn nobody_touches_other_queues_or_a_node() {
    others_are_denied(&Guarded::new(Cluster::start(2), &[]));
}

fn others_are_denied<S: Site>(guarded: &Guarded<S>) {
    for (role, mut connection) in guarded.connections() {
        let mut ask = |line: &str| {
            let mut words = line.split(' ');
            cmd(words.next().unwrap())
                .arg(words.collect::<Vec<_>>())
                .query::<Value>(&mut connection)
        };
        for line in SERVER {
            let answer = ask(line);
            assert!(is_denied(&answer), "{role}: {line}: {answer:?}");
        }
        let (loads, reads) = (ask("FUNCTION LOAD x"), ask("CONFIG GET port"));
        assert_eq!(
            [is_denied(&loads), is_denied(&reads)],
            [role != Role::Admin; 2],
            "{role}"
        );
        for key in FOREIGN {
            let is_foreign = role != Role::Admin || !key.starts_with("pmq:");
            let answer = ask(&format!("HGET {key} f"));
            assert_eq!(is_denied(&answer), is_foreign, "{role}: {key}: {answer:?}");
        }
        assert!(is_denied(&ask("SUBSCRIBE other:{mail/0}:ended")), "{role}");
        if role == Role::Viewer {
            for line in [
                "HSET pmq:{mail/0}:tasks f v",
                "RPUSH pmq:{mail/0}:ready:5 x",
                "UNLINK pmq:{mail/0}:tasks",
                "ZADD pmq:fleet:{workers}:leases 1 x",
            ] {
                assert!(is_denied(&ask(line)), "{line}");
            }
        }
    }
}

#[test]
fn a_role_has_no_command_but_those_that_its_rules_name() {
    let guarded = Guarded::new(RedisServer::start(), &[]);
    let mut connection = guarded.site.connection();
    let all: Vec<String> = cmd("COMMAND").arg("LIST").query(&mut connection).unwrap();
    let all: BTreeSet<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|command| !command.contains('|'))
        .collect();
    for role in Role::ALL {
        let granted = grant_of(role).commands();
        let granted: BTreeSet<&str> = granted
            .iter()
            .map(|command| command.split('|').next().unwrap())
            .collect();
        let others = all
            .difference(&granted)
            .filter(|command| !["fcall", "quit", "reset"].contains(*command));
        for command in others {
            let arguments = ["1"; 6];
            let mut dry_run = cmd("ACL");
            dry_run
                .arg("DRYRUN")
                .arg(role.as_str())
                .arg(command)
                .arg(&arguments);
            let answer = dry_run.query::<String>(&mut connection);
            // What does not take six arguments, or has parts, is denied as a whole as well.
            assert!(
                answer
                    .as_ref()
                    .map_or(true, |answer| answer.contains("no permissions")),
                "{role}: {command}: {answer:?}"
            );
        }
    }
}
