//! `pmq submit`, and what waits for its tasks.

use std::io::Write;

use pmq_broker::task_queue::{How, Settings, State};
use pmq_broker::{TaskId, Work, envelope};

use crate::site::{End, Site, bare};

async fn works(site: &Site, queue: &str, n: usize) -> Vec<Vec<Vec<u8>>> {
    let mut works = Vec::new();
    for _ in 0..n {
        let (_, claim) = site.claim(queue).await;
        let Work::Command(argv) = envelope::decode(claim.id, &claim.envelope).unwrap().work else {
            panic!("no command");
        };
        works.push(argv);
    }
    works
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitted_command_is_queued_under_the_id_that_is_printed() {
    let site = Site::new();
    let submitted = site.pmq.run([
        "submit",
        "-q",
        "q",
        "-p",
        "7",
        "--timeout",
        "1.5s",
        "--",
        "echo",
        "hi",
    ]);
    let submitted = submitted.expect_code(0);
    let (_, claim) = site.claim("q").await;
    assert_eq!(submitted.lines(), [claim.id.to_string()]);
    let task = envelope::decode(claim.id, &claim.envelope).unwrap();
    assert_eq!(
        task.work,
        Work::Command(vec![b"echo".to_vec(), b"hi".to_vec()])
    );
    assert_eq!((task.priority, task.details.timeout_ms), (7, 1500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_arguments_are_its_body_as_they_are() {
    let site = Site::new();
    let args = r#"{"n": 12345678901234567890123}"#;
    let _ = site
        .pmq
        .run(["submit", "--name", "square", "--args", args])
        .expect_code(0);
    let (_, claim) = site.claim("default").await;
    let task = envelope::decode(claim.id, &claim.envelope).unwrap();
    assert_eq!(
        (task.work, &task.body[..]),
        (Work::Handler("square".into()), args.as_bytes())
    );

    let typed = [
        "submit",
        "--name",
        "square",
        "--body",
        "-",
        "--content-type",
        "x/y",
    ];
    let _ = site.pmq.feed(typed, b"\x00\xff").expect_code(0);
    let (_, claim) = site.claim("default").await;
    let task = envelope::decode(claim.id, &claim.envelope).unwrap();
    assert_eq!(
        (&task.body[..], task.details.content_type.as_str()),
        (&b"\x00\xff"[..], "x/y")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_with_the_same_task_runs_once_and_with_another_is_refused() {
    let site = Site::new();
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    for state in ["new", "exists"] {
        let again = site
            .pmq
            .run(["submit", "--json", "--id", id, "--", "true"])
            .expect_code(0);
        assert_eq!(
            (
                again.json()[0]["id"].as_str(),
                again.json()[0]["state"].as_str()
            ),
            (Some(id), Some(state))
        );
    }
    let other = site
        .pmq
        .run(["submit", "--id", id, "--", "false"])
        .expect_code(1);
    assert!(
        other.error_text().contains("exists with other content"),
        "{}",
        other.error_text()
    );
    assert_eq!(site.queue("default").await.status().await.unwrap().ready, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_with_nobody_to_run_it_is_taken_with_a_warning() {
    let site = Site::new();
    let alone = site
        .pmq
        .run(["submit", "-q", "q", "--", "true"])
        .expect_code(0);
    assert!(
        alone.error_text().contains("pmq worker -q q"),
        "{}",
        alone.error_text()
    );
    site.present("q").await;
    let served = site
        .pmq
        .run(["submit", "-q", "q", "--", "true"])
        .expect_code(0);
    assert_eq!(served.error_text(), "");
    let unknown = site
        .pmq
        .run(["submit", "-q", "q", "--name", "cube"])
        .expect_code(0);
    assert!(
        unknown.error_text().contains("\"cube\""),
        "{}",
        unknown.error_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_an_argument_also_one_that_is_not_utf8() {
    let site = Site::new();
    let bulk = [
        "submit",
        "-q",
        "q",
        "--each-line",
        "-",
        "--",
        "cp",
        "{}",
        "to/{/}",
    ];
    let fed = site.pmq.feed(bulk, b"a b\nx/\xff\n\nlast").expect_code(0);
    assert_eq!(fed.lines().len(), 4);
    assert!(fed.error_text().contains("--batch"), "{}", fed.error_text());
    let works = works(&site, "q", 4).await;
    assert_eq!(works[0], [&b"cp"[..], b"a b", b"to/a b"]);
    assert_eq!(works[1], [&b"cp"[..], b"x/\xff", b"to/\xff"]);
    assert_eq!(works[2], [&b"cp"[..], b"", b"to/"]);
    assert_eq!(works[3][1], b"last");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_submitted_again_runs_nothing_twice() {
    let site = Site::new();
    let lines: Vec<String> = (0..1200).map(|i| i.to_string()).collect();
    let input = lines.join("\n") + "\n";
    let bulk = ["submit", "--batch", "b", "--each-line", "-", "--", "echo"];
    let first = site.pmq.feed(bulk, input.as_bytes()).expect_code(0);
    let ids = first.lines();
    assert_eq!(ids.len(), 1200);
    assert!(ids.iter().all(|id| id.parse::<TaskId>().is_ok()));

    let longer = format!("{input}more\n");
    let again = site.pmq.feed(bulk, longer.as_bytes()).expect_code(0);
    assert_eq!(again.lines()[..1200], ids);
    assert_eq!(
        site.queue("default").await.status().await.unwrap().ready,
        1201
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_json_are_tasks_with_options_of_their_own() {
    let site = Site::new();
    let lines = concat!(
        r#"{"name": "square", "args": [3], "priority": 9}"#,
        "\n",
        r#"{"argv": ["echo", "hi"], "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "delay": "1h"}"#,
        "\n",
    );
    let bulk = [
        "submit",
        "-q",
        "q",
        "--from-json",
        "-",
        "--batch",
        "b",
        "--attempts",
        "2",
    ];
    let fed = site.pmq.feed(bulk, lines.as_bytes()).expect_code(0);
    assert_eq!(fed.lines()[1], "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    let queue = site.queue("q").await;
    let found = queue.find(fed.lines()[1].parse().unwrap()).await.unwrap();
    assert_eq!(found.state, State::Scheduled);
    let (_, claim) = site.claim("q").await;
    let task = envelope::decode(claim.id, &claim.envelope).unwrap();
    assert_eq!(
        (&task.body[..], task.priority, task.retry.attempts),
        (&b"[3]"[..], 9, 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_submitted_as_they_come() {
    let site = Site::new();
    let bulk = ["submit", "--each-line", "-", "--", "echo"];
    let (running, mut stdin) = site.pmq.spawn_with_stdin(bulk);
    stdin.write_all(b"one\n").unwrap();
    // The input has not ended, and the first task is there.
    let works = works(&site, "default", 1).await;
    assert_eq!(works[0][1], b"one");
    drop(stdin);
    let _ = running.wait().expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_makes_a_producer_wait_until_a_claim_makes_room() {
    let site = Site::new();
    let queue = site.queue("q").await;
    let shards = queue.open().await.unwrap().len() as u64;
    let settings = Settings {
        maxsize: Some(2 * shards),
        ..Settings::default()
    };
    queue.configure(&settings).await.unwrap();
    // All for one shard, which has its part of the room.
    let submit = ["submit", "-q", "q", "--key", "k"];
    let bulk = [&submit[..], &["--each-line", "-", "--", "echo"]].concat();
    let (running, mut stdin) = site.pmq.spawn_with_stdin(bulk);
    stdin.write_all(b"1\n2\n3\n4\n5\n").unwrap();
    drop(stdin);
    let said = running.wait_for_line("waiting for room");
    assert!(said.contains("queue q"), "{said}");

    let nowait = [&submit[..], &["--nowait", "--", "echo"]].concat();
    let nowait = site.pmq.run(nowait).expect_code(75);
    assert!(
        nowait
            .error_text()
            .contains("queue q is full: it holds 2 tasks"),
        "{}",
        nowait.error_text()
    );

    let works = works(&site, "q", 5).await;
    let order: Vec<_> = works.iter().map(|argv| argv[1].clone()).collect();
    assert_eq!(order, [b"1", b"2", b"3", b"4", b"5"]);
    assert_eq!(running.wait().expect_code(0).lines().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_that_waits_prints_what_the_task_prints_and_exits_with_its_code() {
    let site = Site::new();
    let running = site.pmq.spawn(["submit", "--wait", "--", "sh"]);
    let end = End {
        how: How::Failed,
        exit: Some(3),
        stdout: b"out\n",
        stderr: b"err\n",
        result: None,
    };
    site.run_one("default", end).await;
    let ended = running.wait().expect_code(3);
    assert_eq!(ended.text(), "out\n");
    assert!(
        ended.error_text().ends_with("err\n"),
        "{}",
        ended.error_text()
    );

    let running = site
        .pmq
        .spawn(["submit", "--wait", "--name", "square", "--args", "3"]);
    site.run_one(
        "default",
        End {
            result: Some(b"9"),
            ..End::default()
        },
    )
    .await;
    assert_eq!(running.wait().expect_code(0).text(), "9\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_submit_that_waits_and_leaves_the_task() {
    let site = Site::new();
    let running = site.pmq.spawn(["submit", "--wait", "--", "sh"]);
    let _ = running.wait_for_line("no live worker");
    running.interrupt();
    let ended = running.wait().expect_code(130);
    assert!(
        ended.error_text().contains("pmq cancel "),
        "{}",
        ended.error_text()
    );
    assert_eq!(site.queue("default").await.status().await.unwrap().ready, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_with_derived_ids_tell_when_they_were_queued() {
    let site = Site::new();
    let lines = [
        (vec!["--each-line", "-", "--", "echo", "{}"], "a\n"),
        (vec!["--from-json", "-"], "{\"argv\": [\"echo\", \"b\"]}\n"),
    ];
    for (flags, line) in lines {
        let submit = [&["submit", "--completions", "done"], &flags[..]].concat();
        let _ = site.pmq.feed(submit, line.as_bytes()).expect_code(0);
    }
    let worker = ["worker", "--burst", "--allow-commands"];
    let _ = site.pmq.run(worker).expect_code(0);
    let get = ["get", "default/done", "-n", "2", "--json"];
    let got = site.pmq.run(get).expect_code(0).json();
    for completion in &got {
        let queued = completion["queued"].as_str().unwrap();
        assert!(
            queued <= completion["started"].as_str().unwrap(),
            "{completion}"
        );
    }
    assert_eq!(got.len(), 2);
}

#[test]
fn what_would_be_ignored_is_refused() {
    let pmq = bare();
    let refused = [
        "submit --args 3 -- echo",
        "submit --body file -- echo",
        "submit --batch b -- echo",
        "submit --each-line nofile -- echo",
        "map --workers 2 -q q -- true ::: a",
        "worker --lease 0s",
        "worker --lease 1ms",
    ];
    for line in refused {
        let _ = pmq.run(line.split(' ')).expect_code(2);
    }
    let typed = pmq.run(["submit", "echo", "hi"]).expect_code(2);
    assert!(
        typed.error_text().contains("pmq submit -- CMD"),
        "{}",
        typed.error_text()
    );
}
