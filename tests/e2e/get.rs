//! `pmq get` and `pmq wait`.

use std::process::Command;

use pmq_broker::TaskId;
use pmq_broker::task_queue::How;
use pmq_tests::{Redis, eventually_async, shared};
use serde_json::{Value, json};

use crate::site::{End, LIMIT, Site};

fn submit(site: &Site, count: usize) {
    for _ in 0..count {
        let task = ["submit", "-q", "q", "--completions", "done", "--", "sh"];
        let _ = site.pmq.run(task).expect_code(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_is_one_line_with_the_fields_of_the_interface() {
    let site = Site::new();
    submit(&site, 1);
    let end = End {
        how: How::Failed,
        exit: Some(-9),
        stdout: b"o\xff",
        stderr: b"e\n",
        result: None,
    };
    let id = site.run_one("q", end).await;
    let got = site
        .pmq
        .run(["get", "q/done", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(got.len(), 1);
    let mut got = got[0].clone();
    for time in ["queued", "started", "finished"] {
        let text = got[time].take();
        assert!(
            text.as_str()
                .is_some_and(|t| t.len() == 24 && t.ends_with('Z')),
            "{text}"
        );
    }
    let expected = json!({
        "id": id.to_string(), "outcome": "failed", "attempt": 1, "worker": "w-1", "exit": -9,
        "stdout": "o\u{fffd}", "stdout_base64": "b/8=", "stderr": "e\n", "result": null, "error": null,
        "queued": null, "started": null, "finished": null,
    });
    assert_eq!(got, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_does_not_wait_takes_what_is_there_once() {
    let site = Site::new();
    let empty = site.pmq.run(["get", "q/done", "--nowait"]).expect_code(75);
    assert_eq!(
        (empty.text(), empty.error_text()),
        (String::new(), String::new())
    );
    submit(&site, 3);
    for _ in 0..3 {
        site.run_one("q", End::default()).await;
    }
    assert_eq!(
        site.pmq
            .run(["get", "q/done", "--nowait"])
            .expect_code(0)
            .lines()
            .len(),
        1
    );
    let rest = site
        .pmq
        .run(["get", "q/done", "--nowait", "-n", "10", "--json"])
        .expect_code(0);
    assert_eq!(rest.json().len(), 2);
    let _ = site
        .pmq
        .run(["get", "q/done", "--nowait", "-n", "10"])
        .expect_code(75);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_waits_for_as_many_as_it_was_asked_for() {
    let site = Site::new();
    submit(&site, 2);
    let running = site.pmq.spawn(["get", "q/done", "-n", "2", "--json"]);
    let first = site.run_one("q", End::default()).await;
    let _ = running.wait_for_line(&first.to_string());
    let second = site.run_one("q", End::default()).await;
    let got = running.wait().expect_code(0).json();
    let ids: Vec<&Value> = got.iter().map(|completion| &completion["id"]).collect();
    assert_eq!(ids, [&json!(first.to_string()), &json!(second.to_string())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_prints_what_came_when_its_time_is_up() {
    let site = Site::new();
    let _ = site
        .pmq
        .run(["get", "q/done", "--timeout", "50ms"])
        .expect_code(124);
    submit(&site, 1);
    site.run_one("q", End::default()).await;
    let got = site
        .pmq
        .run(["get", "q/done", "-n", "5", "--timeout", "100ms"])
        .expect_code(0);
    assert_eq!(got.lines().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_read_was_not_confirmed_and_comes_again() {
    let site = Site::new();
    submit(&site, 3);
    for _ in 0..3 {
        site.run_one("q", End::default()).await;
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let deaf = Command::new(env!("CARGO_BIN_EXE_pmq-under-test"))
        .args(["get", "q/done", "-n", "3", "--namespace", site.namespace()])
        .args(["--redis", &shared().url()])
        .env("XDG_CONFIG_HOME", site.pmq.home())
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(
        (deaf.status.code(), deaf.stderr.as_slice()),
        (Some(141), &b""[..])
    );
    // They come back when its lease has ended, also where no worker is up.
    let again = site
        .pmq
        .run(["get", "q/done", "-n", "3", "--timeout", "55s"])
        .expect_code(0);
    assert_eq!(again.lines().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_exits_with_the_highest_code_of_its_tasks() {
    let site = Site::new();
    let mut ids = Vec::new();
    for exit in [Some(0), Some(-9), Some(3)] {
        let _ = site
            .pmq
            .run(["submit", "-q", "q", "--", "sh"])
            .expect_code(0);
        let how = if exit == Some(0) {
            How::Ok
        } else {
            How::Failed
        };
        ids.push(
            site.run_one(
                "q",
                End {
                    how,
                    exit,
                    ..End::default()
                },
            )
            .await
            .to_string(),
        );
    }
    let wait = |ids: &[String]| {
        site.pmq.run(
            ["wait", "--json"]
                .into_iter()
                .chain(ids.iter().map(String::as_str)),
        )
    };
    assert_eq!(wait(&ids[..1]).code(), 0);
    assert_eq!(wait(&ids[2..]).code(), 3);
    let all = wait(&ids);
    assert_eq!((all.code(), all.json().len()), (137, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_ends_with_the_task_or_with_its_time() {
    let site = Site::new();
    let id = site
        .pmq
        .run(["submit", "-q", "q", "--", "sh"])
        .expect_code(0)
        .lines()
        .remove(0);
    let late = site
        .pmq
        .run(["wait", &id, "--timeout", "50ms"])
        .expect_code(124);
    assert!(
        late.error_text().contains("has not ended"),
        "{}",
        late.error_text()
    );

    let running = site.pmq.spawn(["wait", &id, "-q", "q"]);
    let queue = site.queue("q").await;
    let shards = queue.shards().await.unwrap();
    let shard = id.parse::<TaskId>().unwrap().shard(shards.len());
    let watched = shards[shard].keys().fixed()[10].clone();
    eventually_async("somebody waits", LIMIT, async || {
        let mut redis = shared().raw();
        redis::cmd("SCARD")
            .arg(&watched)
            .query::<u64>(&mut redis)
            .ok()
            .filter(|n| *n > 0)
    })
    .await;
    site.run_one("q", End::default()).await;
    let _ = running.wait().expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_completion_queue_knows_is_null_by_id() {
    let site = Site::new();
    submit(&site, 1);
    let id = site.run_one("q", End::default()).await.to_string();
    let waited = site.pmq.run(["wait", &id, "--json"]).expect_code(0).json();
    let status = site
        .pmq
        .run(["status", &id, "--json"])
        .expect_code(0)
        .json();
    for completion in [&waited[0], &status[0]["completion"]] {
        for field in ["attempt", "worker", "started", "finished", "stdout"] {
            assert_eq!(completion[field], Value::Null, "{field}: {completion}");
        }
        assert_eq!(
            (&completion["outcome"], &completion["exit"]),
            (&json!("ok"), &json!(0))
        );
    }
}
