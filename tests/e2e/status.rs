//! `pmq status`.

use pmq_broker::task_queue::How;
use serde_json::json;

use crate::site::{End, Site};

/// A task in each state but the last, on any of the shards.
fn check_sums(shards: &serde_json::Value) {
    let shards = shards.as_array().unwrap();
    for (number, shard) in shards.iter().enumerate() {
        assert_eq!(shard["shard"], number);
    }
    for (state, tasks) in [
        ("ready", 1),
        ("scheduled", 1),
        ("running", 1),
        ("dead", 1),
        ("suspects", 0),
    ] {
        let sum: u64 = shards
            .iter()
            .map(|shard| shard[state].as_u64().unwrap())
            .sum();
        assert_eq!(sum, tasks, "{state}: {shards:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_one_object_with_counts_completions_and_workers() {
    let site = Site::new();
    let submit = |flags: &[&str]| {
        let task = [
            &["submit", "-q", "q", "--completions", "done"],
            flags,
            &["--", "sh"],
        ]
        .concat();
        site.pmq.run(task).expect_code(0).lines().remove(0)
    };
    submit(&[]);
    site.run_one("q", End::default()).await;
    submit(&[]);
    site.run_one(
        "q",
        End {
            how: How::Failed,
            exit: Some(1),
            ..End::default()
        },
    )
    .await;
    submit(&[]);
    let (_queue, _claim) = site.claim("q").await;
    submit(&[]);
    submit(&["--delay", "1h"]);
    let _ = site.pmq.run(["queue", "pause", "q"]).expect_code(0);
    site.present("q").await;
    site.present("other").await;

    let status = site
        .pmq
        .run(["status", "-q", "q", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(status.len(), 1);
    let shards = &status[0]["shards"];
    check_sums(shards);
    let expected = json!({
        "queue": "q", "ready": 1, "scheduled": 1, "running": 1, "dead": 1, "suspects": 0, "paused": true,
        "shards": shards,
        "completions": {"done": 2},
        "workers": [{"name": "w-1", "host": "h", "pid": 1, "queues": ["q"], "slots": 4, "running": 2,
            "commands": true, "tasks": ["square"], "started": "1970-01-01T00:00:00.001Z", "version": "0.1.0"}],
    });
    assert_eq!(status[0], expected);

    let all = site.pmq.run(["status", "--json"]).expect_code(0).json();
    assert_eq!((all.len(), &all[0]), (3, &expected));
    assert_eq!(all[1]["name"], "w-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_a_table_without_colours_where_it_is_no_terminal() {
    let site = Site::new();
    assert!(
        site.pmq
            .run(["status"])
            .expect_code(0)
            .text()
            .starts_with("no queues")
    );
    let _ = site
        .pmq
        .run(["submit", "-q", "mail", "--", "sh"])
        .expect_code(0);
    site.present("mail").await;
    let lines = site.pmq.run(["status"]).expect_code(0).lines();
    assert!(
        lines[0].starts_with("QUEUE") && lines[0].contains("READY"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("mail") && lines[1].contains(" 1 "),
        "{lines:?}"
    );
    assert!(
        lines[4].starts_with("w-1") && lines[4].contains("2 of 4"),
        "{lines:?}"
    );
    assert!(lines.iter().all(|line| !line.contains('\x1b')));
    let _ = site.pmq.run(["queue", "pause", "mail"]).expect_code(0);
    let coloured = site.pmq.run(["status", "--color", "always"]).expect_code(0);
    assert!(coloured.text().contains("\x1b["), "{}", coloured.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_in_whatever_queue_it_is() {
    let site = Site::new();
    let submit = ["submit", "-q", "deep", "--delay", "1h", "--", "echo", "hi"];
    let id = site.pmq.run(submit).expect_code(0).lines().remove(0);
    let found = site
        .pmq
        .run(["status", &id, "--json"])
        .expect_code(0)
        .json()
        .remove(0);
    assert_eq!(
        (&found["queue"], &found["state"]),
        (&json!("deep"), &json!("scheduled"))
    );
    assert_eq!(
        (&found["argv"], &found["id"]),
        (&json!(["echo", "hi"]), &json!(id))
    );
    assert!(found["due"].as_str().is_some_and(|due| due.ends_with('Z')));

    let shown = site.pmq.run(["status", &id]).expect_code(0).text();
    assert!(
        shown.contains("state     scheduled\n") && shown.contains("echo hi"),
        "{shown}"
    );

    let nobody = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let unknown = site
        .pmq
        .run(["status", nobody, "--json"])
        .expect_code(1)
        .json()
        .remove(0);
    assert_eq!(unknown["state"], "unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ended_shows_its_completion() {
    let site = Site::new();
    let _ = site.pmq.run(["submit", "--name", "square"]).expect_code(0);
    let id = site
        .run_one(
            "default",
            End {
                result: Some(b"[4]"),
                ..End::default()
            },
        )
        .await;
    let found = site
        .pmq
        .run(["status", &id.to_string(), "--json"])
        .expect_code(0)
        .json()
        .remove(0);
    assert_eq!(
        (&found["state"], &found["completion"]["result"]),
        (&json!("ended"), &json!([4]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_runs_tells_its_attempt_and_since_when() {
    let site = Site::new();
    let _ = site.pmq.run(["submit", "--", "sh"]).expect_code(0);
    let (_queue, claim) = site.claim("default").await;
    let id = claim.id.to_string();
    let found = site
        .pmq
        .run(["status", &id, "--json"])
        .expect_code(0)
        .json()
        .remove(0);
    assert_eq!(
        (&found["state"], &found["attempt"]),
        (&json!("running"), &json!(1))
    );
    assert!(
        found["started"].as_str() >= found["queued"].as_str(),
        "{found}"
    );
    let shown = site.pmq.run(["status", &id]).expect_code(0).text();
    assert!(shown.contains("attempt   1\nstarted   20"), "{shown}");
}
