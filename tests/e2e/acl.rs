//! Redis's access rules for each role, on a real server: what a role does works, and everything else is denied.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, SystemTime};

use pmq_broker::acl::{Grant, Role, Version, verbs};
use pmq_broker::authkey::{Authkey, AuthkeySource};
use pmq_broker::functions::LIBRARY;
use pmq_broker::keys::ShardKeys;
use pmq_broker::{Broker, Completion, Config, Error, Outcome, Report, TaskId};
use pmq_tests::{Program, RedisServer, Scratch};
use redis::{Connection, RedisResult, Value, cmd};

use crate::fleet::{Fleet, SOON, name, pass, pmq_at};
use crate::store::Store;

/// A server with a user for each role of the queue `mail`, and the library, which no service may load.
struct Guarded {
    server: RedisServer,
    files: Scratch,
}

impl Guarded {
    fn new(objects: &[&str]) -> Self {
        let guarded = Self {
            server: RedisServer::start(),
            files: Scratch::new(),
        };
        fs::write(guarded.files.join("password"), "secret\n").unwrap();
        let _ = guarded.root().run(["functions", "load"]).expect_code(0);
        for role in Role::ALL {
            guarded.grant(&[role], objects);
        }
        guarded
    }

    /// Makes a user named after its first role, as an administrator does.
    fn grant(&self, roles: &[Role], objects: &[&str]) {
        let file = self.files.join("password");
        let mut arguments = vec!["acl", "-q", "mail", "--user", roles[0].as_str()];
        arguments.extend(["--password-file", file.to_str().unwrap()]);
        arguments.extend(roles.iter().flat_map(|role| ["--role", role.as_str()]));
        arguments.extend(objects.iter().flat_map(|object| ["--object", *object]));
        let ended = self.root().run(arguments).expect_code(0);
        assert!(ended.error_text().contains("without pmq's functions"));
        let line = ended.text();
        let mut words = line.split_whitespace();
        cmd(words.next().unwrap())
            .arg(words.collect::<Vec<_>>())
            .exec(&mut self.server.connection())
            .unwrap();
    }

    fn root(&self) -> Program {
        pmq_at(&self.server.url())
    }

    fn url(&self, role: Role) -> String {
        format!("{}?user={role}&pass=secret", self.server.url())
    }

    fn pmq(&self, role: Role) -> Program {
        pmq_at(&self.url(role))
    }

    fn connection(&self, role: Role) -> Connection {
        let mut connection = self.server.connection();
        let login = cmd("AUTH")
            .arg(role.as_str())
            .arg("secret")
            .exec(&mut connection);
        login.unwrap();
        connection
    }

    fn grant_of(role: Role) -> Grant {
        Grant {
            roles: vec![role],
            namespace: name("pmq"),
            queues: vec![name("mail")],
            objects: Vec::new(),
            version: Version(7, 0),
        }
    }
}

fn is_denied(answer: &RedisResult<Value>) -> bool {
    answer
        .as_ref()
        .is_err_and(|error| error.code() == Some("NOPERM"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_work() {
    let guarded = Guarded::new(&[]);
    let producer = guarded.pmq(Role::Producer);
    let worker = guarded.pmq(Role::Worker);
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

    let viewer = guarded.pmq(Role::Viewer);
    assert!(said(&viewer, &["status"]).contains("mail"));
    said(&viewer, &["status", "-q", "mail", late.trim()]);
    assert!(said(&viewer, &["ps", "-q", "mail"]).contains("sleep"));
    said(&viewer, &["dead", "ls", "-q", "mail"]);
    said(&producer, &["kill", "-q", "mail", long.trim()]);
}

#[test]
fn an_admin_sets_queues_up_and_looks_after_them() {
    let guarded = Guarded::new(&[]);
    let admin = guarded.pmq(Role::Admin);
    let said = |arguments: &[&str]| admin.run(arguments).expect_code(0).text();
    said(&["functions", "load"]);
    said(&["submit", "-q", "mail", "--", "true"]);
    said(&["queue", "pause", "mail"]);
    said(&["queue", "purge", "mail", "--yes"]);
    said(&["queue", "resume", "mail"]);
    said(&["dead", "requeue", "-q", "mail", "--all"]);
    said(&["doctor", "-q", "mail"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_work_for_who_was_granted_them() {
    let kinds = [
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
    let objects = kinds.map(|kind| format!("{kind}:mine.*"));
    let guarded = Guarded::new(&objects.each_ref().map(String::as_str));
    let producer = guarded.pmq(Role::Producer);
    let said = |arguments: &[&str]| producer.run(arguments).expect_code(0).text();
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
    let denied = producer
        .run(["put", "yours.fruit", "apple"])
        .expect_code(69);
    assert!(
        denied.error_text().contains("denied"),
        "{}",
        denied.error_text()
    );

    let config = Config::url(guarded.url(Role::Producer));
    let broker = Broker::connect(&config).await.unwrap();
    let dict = broker.dict::<String, i64>(&name("mine.dict"));
    dict.insert(&"a".to_owned(), &1).await.unwrap();
    assert_eq!(dict.get(&"a".to_owned()).await.unwrap(), Some(1));
    let viewer = guarded.pmq(Role::Viewer);
    assert_eq!(
        viewer.run(["size", "mine.fruit"]).expect_code(0).text(),
        "0\n"
    );
    let _ = viewer.run(["put", "mine.fruit", "apple"]).expect_code(69);
}

#[test]
fn a_function_of_another_role_is_denied() {
    let guarded = Guarded::new(&[]);
    let keys = ShardKeys::new(&name("pmq"), &name("mail"));
    for role in Role::ALL {
        let mine = Guarded::grant_of(role).verbs();
        let mut connection = guarded.connection(role);
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
    let guarded = Guarded::new(&[]);
    for role in Role::ALL {
        let mut connection = guarded.connection(role);
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
    let guarded = Guarded::new(&[]);
    let mut connection = guarded.server.connection();
    let all: Vec<String> = cmd("COMMAND").arg("LIST").query(&mut connection).unwrap();
    let all: BTreeSet<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|command| !command.contains('|'))
        .collect();
    for role in Role::ALL {
        let granted = Guarded::grant_of(role).commands();
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

/// What rules cannot prevent, an authkey finds: by the very rights of a producer and of a worker.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_authkey_what_the_rules_leave_open_is_found() {
    let guarded = Guarded::new(&[]);
    let key = guarded.files.join("key");
    fs::write(&key, Authkey::generate()).unwrap();
    let config = Config {
        authkey: AuthkeySource::File(key.clone()),
        ..Config::url(guarded.url(Role::Producer))
    };
    let fleet = Fleet::serving(config, &name("mail")).await;
    let pmq = guarded.pmq(Role::Worker).env("PMQ_AUTHKEY_FILE", &key);
    let worker = fleet.worker_of(&pmq, "--allow-commands");
    for role in [Role::Producer, Role::Worker] {
        let mut store = Store::on(&guarded.server, &fleet).await;
        store.log_in(role.as_str(), "secret");
        tamper(&fleet, &mut store).await;
    }
    assert!(
        fleet.record().iter().all(|line| line.ends_with("true one")),
        "{:?}",
        fleet.record()
    );
    let _ = worker.wait_for_line("rejected a task");
}

async fn tamper(fleet: &Fleet, store: &mut Store) {
    let queue = &fleet.queue;
    let mut task = fleet.sh("record true one");
    let good = queue.sealing().seal_task(&task).unwrap().to_vec();
    let other = fleet.sh("record forged");
    let unsigned = pmq_broker::envelope::encode(&other).unwrap().to_vec();
    let mut control = good.clone();
    control[6] += 1;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis() as u64;
    task.expires_ms = Some(now + 1);
    let expired = queue.sealing().seal_task(&task).unwrap().to_vec();
    pass(Duration::from_millis(5));
    // Overwritten; invented; moved to another id; its control part edited; put back when its time was over.
    let cases = [
        (task.id, unsigned.clone(), "not signed"),
        (TaskId::new(), unsigned, "not signed"),
        (TaskId::new(), good, "does not fit"),
        (task.id, control, "does not fit"),
        (task.id, expired, "expired"),
    ];
    for (id, envelope, why) in cases {
        store.push_as(id, &envelope);
        let completion = fleet.completion().await;
        let error = completion.report.error.unwrap_or_default();
        assert!(
            completion.outcome == Outcome::Dead && error.contains(why),
            "{why}: {error}"
        );
        queue.purge_dead(Some(&[id])).await.unwrap();
    }
    forge_ends(fleet, store).await;
}

/// Forges how a task that waits has ended, for a consumer and for who waits for it.
async fn forge_ends(fleet: &Fleet, store: &mut Store) {
    let queue = &fleet.queue;
    let task = fleet.sh("record true one");
    let id = fleet.submit(&task).await;
    let completion = fleet.completion().await;
    assert_eq!((completion.id, completion.outcome), (id, Outcome::Ok));
    let forged = Completion {
        report: Report::default(),
        body: "7".into(),
        ..completion
    };
    store.post(&forged.encode());
    store.rewrite_record(id, |_| forged.encode().to_vec());
    assert!(matches!(
        queue.wait(&[id], SOON).await,
        Err(Error::Untrusted { .. })
    ));
    // The true completion of one task, given out as another's.
    let other = TaskId::new();
    let sealed = queue.sealing().seal_completion(&forged, b"");
    store.put_record(other, &sealed);
    let ended = queue.wait(&[other], SOON).await;
    assert!(matches!(ended, Err(Error::Untrusted { .. })), "{ended:?}");
}
