//! What users get wrong: one sentence, a hint, and an exit code each, and nothing is done.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::thread;
use std::time::{Duration, Instant};

use pmq_tests::RedisServer;
use pmq_tests::program::Finished;

use crate::site::{Site, bare};

/// One sentence, at most one hint, and no trace of what is inside.
#[track_caller]
fn sentence(finished: &Finished) -> String {
    let text = finished.error_text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("pmq: error: "), "{text}");
    assert!(
        lines.len() <= 2 && lines.iter().skip(1).all(|line| line.starts_with("hint: ")),
        "{text}"
    );
    assert!(
        !text.contains("panicked") && !text.contains("Error {"),
        "{text}"
    );
    text
}

#[test]
fn an_unreachable_broker_is_told_within_three_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("redis://user:hunter2@127.0.0.1:{port}");
    let start = Instant::now();
    let ended = bare().redis(url).run(["status"]).expect_code(69);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    let text = sentence(&ended);
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && text.contains("hint: "),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_broker_that_never_answers_is_told_within_three_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "redis://127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    );
    let start = Instant::now();
    let ended = bare().redis(url).run(["status"]).expect_code(69);
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    sentence(&ended);
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let server = RedisServer::builder().tcp(true).password("right").start();
    let url = format!("redis://:hunter2@127.0.0.1:{}", server.port().unwrap());
    let text = sentence(&bare().redis(url).run(["status"]).expect_code(69));
    assert!(
        text.contains("wrong user name or password") && text.contains("PMQ_REDIS_PASSWORD"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let url = format!("redis://127.0.0.1:{}", server.port().unwrap());
    let text = sentence(&bare().redis(&url).run(["status"]).expect_code(69));
    assert!(text.contains("it wants a password"), "{text}");
    let _ = bare()
        .redis(&url)
        .env("PMQ_REDIS_PASSWORD", "right")
        .run(["status"])
        .expect_code(0);
}

#[test]
fn a_server_that_is_no_redis_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "redis://127.0.0.1:{}",
        listener.local_addr().unwrap().port()
    );
    // It ends with the test process.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let text = sentence(&bare().redis(url).run(["status"]).expect_code(69));
    assert!(text.contains("is no Redis"), "{text}");
}

#[test]
fn a_url_that_is_none_is_a_usage_error() {
    let text = sentence(
        &bare()
            .redis("http://:hunter2@h")
            .run(["status"])
            .expect_code(2),
    );
    assert!(
        text.contains("redis://") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn a_body_over_the_limit_is_refused_before_anything_is_sent() {
    let site = Site::new();
    let body = vec![b'x'; (16 << 20) + 1];
    let big = [
        "submit",
        "--name",
        "square",
        "--body",
        "-",
        "--content-type",
        "x/y",
    ];
    let text = sentence(&site.pmq.feed(big, &body).expect_code(2));
    assert!(text.contains("more than the limit of 16777216"), "{text}");
    let _ = site
        .pmq
        .run(["submit", "--", &"x".repeat(70_000)])
        .expect_code(2);
    assert!(
        site.pmq
            .run(["status", "--json"])
            .expect_code(0)
            .json()
            .is_empty()
    );
}

#[test]
fn options_without_sense_are_usage_errors_that_show_how() {
    let cases: [(&[&str], &str); 12] = [
        (&["submit", "--delay", "-5", "--", "true"], "not negative"),
        (&["submit", "--delay", "-5s", "--", "true"], "not negative"),
        (&["submit", "--timeout", "soon", "--", "true"], "1.5s"),
        (
            &["submit", "--at", "noon", "--", "true"],
            "2026-08-01T12:00:00Z",
        ),
        (&["submit", "-p", "10", "--", "true"], "0..=9"),
        (&["submit", "--attempts", "0", "--", "true"], "--attempts"),
        (&["submit", "--id", "x", "--", "true"], "UUID"),
        (&["submit", "--label", "x", "--", "true"], "KEY=VALUE"),
        (&["submit", "--name", "x", "--args", "{"], "no JSON"),
        (&["submit", "--name", "x", "--cwd", "/"], "only a command"),
        (&["submit"], "nothing to run"),
        (&["queue", "set", "q"], "no setting"),
    ];
    let site = Site::new();
    for (arguments, expected) in cases {
        let ended = site.pmq.run(arguments).expect_code(2);
        let text = ended.error_text();
        assert!(
            text.starts_with("pmq: error: ") && text.contains(expected),
            "{arguments:?}: {text}"
        );
        assert_eq!(ended.text(), "", "{arguments:?}");
    }
}

#[test]
fn names_and_ids_that_are_none_are_usage_errors() {
    let site = Site::new();
    let cases: [&[&str]; 7] = [
        &["submit", "-q", "No", "--", "true"],
        &["submit", "-q", "a/b", "--", "true"],
        &["get", "No"],
        &["get", "q/No"],
        &["wait", "1234"],
        &["cancel", "x"],
        &["status", "--namespace", "{x}"],
    ];
    for arguments in cases {
        let ended = site.pmq.run(arguments).expect_code(2);
        assert!(
            ended.error_text().starts_with("pmq: error: "),
            "{arguments:?}: {}",
            ended.error_text()
        );
    }
}

#[test]
fn arguments_that_are_not_utf8_reach_a_command_and_are_refused_elsewhere() {
    let site = Site::new();
    let odd = OsStr::from_bytes(b"\xff");
    let taken = [
        OsStr::new("submit"),
        OsStr::new("--json"),
        OsStr::new("--"),
        OsStr::new("echo"),
        odd,
    ];
    let _ = site.pmq.run(taken).expect_code(0);
    for flag in ["-q", "--name", "--label", "--id"] {
        let refused = [
            OsStr::new("submit"),
            OsStr::new(flag),
            odd,
            OsStr::new("--"),
            OsStr::new("echo"),
        ];
        let ended = site.pmq.run(refused).expect_code(2);
        assert!(
            !ended.error_text().contains("panicked"),
            "{}",
            ended.error_text()
        );
    }
}

#[test]
fn a_bad_line_is_named_and_what_came_before_it_is_in() {
    let site = Site::new();
    let bulk = ["submit", "-q", "q", "--from-json", "-", "--batch", "b"];
    let lines = "{\"name\": \"a\"}\n{\"name\": \"b\"}\n{\"nam\": \"c\"}\n{\"name\": \"d\"}\n";
    let ended = site.pmq.feed(bulk, lines.as_bytes()).expect_code(2);
    assert_eq!(ended.lines().len(), 2);
    let text = ended.error_text();
    assert!(
        text.contains("pmq: error: line 3: unknown field `nam`"),
        "{text}"
    );
    assert!(
        text.contains("2 tasks went in") && text.contains("--batch b"),
        "{text}"
    );

    let mended = lines.replace("nam\"", "name\"").replace("namee", "name");
    let again = site.pmq.feed(bulk, mended.as_bytes()).expect_code(0);
    assert_eq!(again.lines()[..2], ended.lines());
    let status = site
        .pmq
        .run(["status", "-q", "q", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(status[0]["ready"], 4);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let site = Site::new();
    let missing = site
        .pmq
        .run(["submit", "--each-line", "missing", "--", "echo"])
        .expect_code(2);
    let text = sentence(&missing);
    assert!(text.contains("could not read missing"), "{text}");
    let config = site
        .pmq
        .run(["status", "--config", "missing"])
        .expect_code(2);
    assert!(sentence(&config).contains("could not read missing"));
}

#[test]
fn a_get_from_a_queue_that_nobody_knows_is_empty() {
    let site = Site::new();
    let _ = site
        .pmq
        .run(["get", "nobody/done", "--nowait"])
        .expect_code(75);
    let unknown = site
        .pmq
        .run(["wait", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"])
        .expect_code(1);
    assert!(
        unknown.error_text().contains("is known"),
        "{}",
        unknown.error_text()
    );
}
