//! What operators do: cancel, queue, dead, local, functions, doctor, generate.

use pmq_broker::task_queue::{How, State};
use serde_json::json;

use crate::site::{End, Site, bare};

fn submit(site: &Site, flags: &[&str]) -> String {
    let task = [&["submit", "-q", "q"], flags, &["--", "sh", "-c", "x"]].concat();
    site.pmq.run(task).expect_code(0).lines().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_says_of_each_task_what_became_of_it() {
    let site = Site::new();
    submit(&site, &[]);
    let (queue, claim) = site.claim("q").await;
    let running = claim.id.to_string();
    let waiting = submit(&site, &[]);
    let nobody = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let cancelled = site.pmq.run([
        "cancel", &running, &waiting, nobody, "--json", "--signal", "kill",
    ]);
    let answers = cancelled.expect_code(1).json();
    let answers: Vec<_> = answers
        .iter()
        .map(|a| (a["id"].as_str().unwrap(), a["answer"].as_str().unwrap()))
        .collect();
    for expected in [
        (running.as_str(), "stopping"),
        (&waiting, "cancelled"),
        (nobody, "unknown"),
    ] {
        assert!(answers.contains(&expected), "{answers:?}");
    }
    let found = queue.find(waiting.parse().unwrap()).await.unwrap();
    assert_eq!(found.state, State::Ended);
    let _ = site.pmq.run(["wait", &waiting]).expect_code(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_all_ends_what_waits_and_stops_what_runs() {
    let site = Site::new();
    submit(&site, &[]);
    let (_queue, _claim) = site.claim("q").await;
    submit(&site, &[]);
    submit(&site, &["--delay", "1h"]);
    let all = site
        .pmq
        .run(["cancel", "--all", "-q", "q", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(all[0], json!({"queue": "q", "cancelled": 2, "stopping": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_paused_resumed_set_up_and_listed() {
    let site = Site::new();
    let list = || {
        site.pmq
            .run(["queue", "ls", "--json"])
            .expect_code(0)
            .json()
            .remove(0)
    };
    let set = [
        "queue",
        "set",
        "q",
        "--maxsize",
        "70",
        "--retention",
        "1.5h",
        "--completions",
        "done",
    ];
    let _ = site.pmq.run(set).expect_code(0);
    let _ = site.pmq.run(["queue", "pause", "q"]).expect_code(0);
    let queue = list();
    assert_eq!(
        (&queue["queue"], &queue["paused"], &queue["maxsize"]),
        (&json!("q"), &json!(true), &json!(70))
    );
    assert_eq!(
        (&queue["retention_ms"], &queue["completions"]),
        (&json!(5_400_000), &json!("done"))
    );
    let table = site.pmq.run(["queue", "ls"]).expect_code(0).text();
    assert!(
        table.contains("paused") && table.contains("retention=1h30m"),
        "{table}"
    );
    let _ = site.pmq.run(["queue", "resume", "q"]).expect_code(0);
    assert_eq!(list()["paused"], json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_wants_a_yes_and_leaves_what_runs() {
    let site = Site::new();
    submit(&site, &[]);
    let (queue, _claim) = site.claim("q").await;
    for _ in 0..3 {
        submit(&site, &[]);
    }
    let refused = site.pmq.run(["queue", "purge", "q"]).expect_code(2);
    assert!(
        refused.error_text().contains("--yes"),
        "{}",
        refused.error_text()
    );
    assert_eq!(queue.status().await.unwrap().ready, 3);
    let purged = site
        .pmq
        .run(["queue", "purge", "q", "--yes", "--json"])
        .expect_code(0);
    assert_eq!(purged.json()[0]["cancelled"], 3);
    let status = queue.status().await.unwrap();
    assert_eq!((status.ready, status.running), (0, 1));
}

/// Has three tasks die.
async fn bury_three(site: &Site) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        submit(site, &[]);
        let end = End {
            how: How::FailedForGood,
            exit: Some(4),
            ..End::default()
        };
        ids.push(site.run_one("q", end).await.to_string());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_with_what_they_ran_and_why_they_died() {
    let site = Site::new();
    let ids = bury_three(&site).await;
    let listed = site
        .pmq
        .run(["dead", "ls", "-q", "q", "--json"])
        .expect_code(0)
        .json();
    let listed_ids: Vec<&str> = listed
        .iter()
        .filter_map(|letter| letter["id"].as_str())
        .collect();
    assert_eq!(listed_ids, ids);
    assert_eq!(
        (&listed[0]["argv"], &listed[0]["exit"]),
        (&json!(["sh", "-c", "x"]), &json!(4))
    );
    assert_eq!(listed[0]["error"], "exit code 4");
    let table = site
        .pmq
        .run(["dead", "ls", "-q", "q"])
        .expect_code(0)
        .text();
    assert!(table.contains("exit code 4"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_requeued_and_deleted() {
    let site = Site::new();
    let ids = bury_three(&site).await;
    let queue = site.queue("q").await;
    let counts = async || {
        let status = queue.status().await.unwrap();
        (status.dead, status.ready)
    };
    let dead = |words: &[&str]| site.pmq.run([&["dead"], words, &["-q", "q"]].concat());
    let _ = dead(&["requeue", &ids[0]]).expect_code(0);
    let _ = dead(&["requeue", &ids[0]]).expect_code(1);
    assert_eq!(counts().await, (2, 1));

    let _ = dead(&["purge", &ids[1]]).expect_code(2);
    let _ = dead(&["purge", &ids[1], "--yes"]).expect_code(0);
    assert_eq!(counts().await, (1, 1));
    let all = dead(&["requeue", "--all", "--json"]).expect_code(0);
    assert_eq!(all.json()[0]["requeued"], 1);
    assert_eq!(counts().await, (0, 2));
}

#[test]
fn the_local_broker_keeps_tasks_until_it_is_wiped() {
    let pmq = bare();
    let never = pmq
        .run(["local", "status", "--json"])
        .expect_code(0)
        .json()
        .remove(0);
    assert_eq!(
        (&never["running"], &never["data_bytes"]),
        (&json!(false), &json!(0))
    );
    let submitted = pmq.run(["submit", "--", "true"]).expect_code(0);
    assert!(
        submitted.error_text().contains("`pmq worker -q default`"),
        "{}",
        submitted.error_text()
    );
    let ready = || {
        pmq.run(["status", "-q", "default", "--json"])
            .expect_code(0)
            .json()[0]["ready"]
            .clone()
    };
    assert_eq!(ready(), 1);
    let _ = pmq.run(["local", "stop"]).expect_code(0);
    let _ = pmq.run(["local", "wipe"]).expect_code(2);
    assert_eq!(ready(), 1);
    let _ = pmq.run(["local", "wipe", "--yes"]).expect_code(0);
    assert_eq!(ready(), 0);
}

#[test]
fn a_local_broker_in_use_is_not_stopped_without_force() {
    let pmq = bare();
    let using = pmq.spawn(["submit", "--wait", "--", "true"]);
    let _ = using.wait_for_line("no live worker");
    let busy = pmq.run(["local", "stop"]).expect_code(75);
    assert!(
        busy.error_text().contains("in use"),
        "{}",
        busy.error_text()
    );
    using.interrupt();
    let _ = using.wait().expect_code(130);
    let left = pmq
        .run(["local", "status", "--json"])
        .expect_code(0)
        .json()
        .remove(0);
    assert_eq!(
        left["running"],
        json!(false),
        "the last user stops the server, also on Ctrl-C"
    );
}

#[test]
fn the_doctor_finds_a_good_server_good() {
    let site = Site::new();
    let _ = site.pmq.run(["functions", "load"]).expect_code(0);
    let checks = site.pmq.run(["doctor", "--json"]).expect_code(0).json();
    let level = |name| {
        checks
            .iter()
            .find(|check| check["check"] == name)
            .map(|check| check["level"].clone())
    };
    for name in [
        "address",
        "version",
        "functions",
        "rights",
        "clock",
        "latency",
    ] {
        assert_eq!(level(name), Some(json!("good")), "{name}: {checks:?}");
    }
    assert_eq!(
        level("persistence"),
        Some(json!("doubtful")),
        "the server has none"
    );
}

#[test]
fn the_doctor_looks_at_servers_that_pmq_refuses() {
    let server = pmq_tests::RedisServer::builder()
        .config("maxmemory", "100mb")
        .config("maxmemory-policy", "allkeys-lru")
        .aof(true)
        .start();
    let pmq = bare().redis(server.url());
    let _ = pmq.run(["status"]).expect_code(69);
    let checks = pmq.run(["doctor", "--json"]).expect_code(69).json();
    let check = |name| checks.iter().find(|check| check["check"] == name).unwrap();
    assert_eq!(check("memory")["level"], "bad");
    assert_eq!(check("latency")["level"], "good");
    let found = check("persistence")["found"].as_str().unwrap();
    assert!(found.starts_with("AOF, appendfsync "), "{found}");

    let nowhere = bare().redis("redis+unix:///nowhere/s");
    let lost = nowhere.run(["doctor"]).expect_code(69).error_text();
    assert!(
        lost.contains("hint: ") && !lost.contains("pmq doctor"),
        "{lost}"
    );
}

#[test]
fn a_queue_that_nobody_made_is_not_paused_or_purged() {
    let site = Site::new();
    for what in ["pause", "resume", "purge"] {
        let refused = site.pmq.run(["queue", what, "typo"]).expect_code(1);
        assert!(
            refused.error_text().contains("no queue typo"),
            "{}",
            refused.error_text()
        );
    }
}

#[test]
fn the_doctor_names_the_rights_that_a_user_lacks() {
    let server = pmq_tests::RedisServer::builder().tcp(true).start();
    let mut redis = server.connection();
    let rules = [
        "SETUSER",
        "weak",
        "on",
        ">pw",
        "~*",
        "&*",
        "+@all",
        "-zadd",
        "-function|load",
    ];
    redis::cmd("ACL").arg(&rules).exec(&mut redis).unwrap();
    let _ = bare()
        .redis(server.url())
        .run(["functions", "load"])
        .expect_code(0);
    let url = format!("redis://weak:pw@127.0.0.1:{}", server.port().unwrap());
    let checks = bare()
        .redis(url)
        .run(["doctor", "--json"])
        .expect_code(1)
        .json();
    let rights = checks
        .iter()
        .find(|check| check["check"] == "rights")
        .unwrap();
    assert_eq!(rights["level"], "bad");
    assert!(
        rights["found"]
            .as_str()
            .is_some_and(|found| found.contains("ZADD")),
        "{rights}"
    );
}

#[test]
fn completions_and_man_pages_are_generated() {
    let pmq = bare();
    for shell in ["bash", "zsh", "fish"] {
        let text = pmq
            .run(["generate", "completion", shell])
            .expect_code(0)
            .text();
        assert!(text.contains("submit"), "{shell}");
    }
    assert!(
        pmq.run(["generate", "man"])
            .expect_code(0)
            .text()
            .contains(".TH pmq")
    );
    let _ = pmq.run(["generate", "man", "pages"]).expect_code(0);
    assert!(pmq.home().join("pages/pmq-submit.1").exists());
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let site = Site::new();
    let url = pmq_tests::Redis::url(pmq_tests::shared());
    let nowhere = "redis+unix:///nowhere/s";
    let home = bare();
    let write = |url: &str| {
        let directory = home.home().join("config/pmq");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(
            directory.join("pmq.toml"),
            format!("[redis]\nurl = \"{url}\"\n"),
        )
        .unwrap();
    };
    write(&url);
    let status = ["status", "--json"];
    let _ = home.run(status).expect_code(0);
    let _ = home
        .clone()
        .env("PMQ_REDIS_URL", nowhere)
        .run(status)
        .expect_code(69);
    let _ = home
        .clone()
        .env("PMQ_REDIS_URL", nowhere)
        .redis(&url)
        .run(status)
        .expect_code(0);
    write(nowhere);
    let _ = home.run(status).expect_code(69);
    let _ = home
        .clone()
        .env("PMQ_REDIS_URL", &url)
        .run(status)
        .expect_code(0);

    // A file in the current directory is nobody's configuration.
    std::fs::write(site.pmq.home().join("pmq.toml"), "nonsense").unwrap();
    let _ = site.pmq.run(status).expect_code(0);
    let named = site
        .pmq
        .run(["status", "--config", "pmq.toml"])
        .expect_code(2);
    assert!(
        named.error_text().contains("pmq.toml: line 1"),
        "{}",
        named.error_text()
    );
}
