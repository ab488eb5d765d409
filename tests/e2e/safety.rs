//! Brokers that are not safe to use, and secrets that nobody may see.

use std::fs;
use std::path::PathBuf;

use pmq_tests::program::{Finished, Running};
use pmq_tests::{Program, RedisServer};
use redis::cmd;

use crate::site::bare;

const SECRET: &str = "hunter2hunter2";

/// A server that wants the secret as its password, and its address without it.
fn guarded() -> (RedisServer, String) {
    let server = RedisServer::builder().tcp(true).password(SECRET).start();
    let url = format!("redis://127.0.0.1:{}", server.port().unwrap());
    (server, url)
}

/// The file that holds the secret.
fn password_file(pmq: &Program) -> PathBuf {
    let file = pmq.home().join("password");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    file
}

#[track_caller]
fn tells(ended: &Finished, parts: &[&str]) {
    let text = ended.error_text();
    for part in parts {
        assert!(text.contains(part), "{part} in: {text}");
    }
    assert!(
        text.lines().count() <= 2 && !text.contains(SECRET),
        "{text}"
    );
}

fn worker(pmq: &Program) -> Running {
    let worker = pmq.spawn(["worker", "-c", "2", "--allow-commands", "-vv"]);
    let _ = worker.wait_for_line("serves");
    worker
}

#[test]
fn a_broker_on_a_network_needs_a_password_and_on_a_public_one_tls() {
    let cases: [(&str, &[&str]); 4] = [
        (
            "redis://10.9.8.7",
            &[
                "10.9.8.7:6379",
                "no password",
                "--insecure",
                "PMQ_REDIS_PASSWORD_FILE",
            ],
        ),
        ("rediss://192.0.2.1", &["no password", "--insecure"]),
        (
            "redis://192.0.2.1",
            &[
                "without a password and without TLS",
                "--insecure",
                "rediss://",
            ],
        ),
        (
            "redis://100.64.0.1",
            &["without a password and without TLS"],
        ),
    ];
    for (url, parts) in cases {
        for command in ["status", "doctor", "worker"] {
            tells(&bare().redis(url).run([command]).expect_code(69), parts);
        }
    }
    let pmq = bare()
        .redis("redis://192.0.2.1")
        .env("PMQ_REDIS_PASSWORD", SECRET);
    tells(
        &pmq.run(["status"]).expect_code(69),
        &["not be encrypted", "--insecure", "rediss://"],
    );
}

#[test]
fn a_host_that_nobody_knows_is_told() {
    let ended = bare().redis("redis://no-such-host.invalid").run(["status"]);
    tells(
        &ended.expect_code(69),
        &["could not reach the broker at no-such-host.invalid"],
    );
}

#[test]
fn a_flag_a_variable_or_the_file_says_that_it_is_wanted() {
    // Nobody answers there; what matters is that somebody is asked.
    let tries_to_reach = |ended: Finished| {
        let text = ended.expect_code(69).error_text();
        assert!(
            text.contains("169.254.0.9:1") && !text.contains("insecure"),
            "{text}"
        );
    };
    let url = "redis://169.254.0.9:1";
    tries_to_reach(bare().redis(url).run(["--insecure", "status"]));
    tries_to_reach(bare().redis(url).env("PMQ_INSECURE", "1").run(["status"]));
    let pmq = bare();
    let file = pmq.home().join("file.toml");
    fs::write(
        &file,
        format!("[redis]\nurl = \"{url}\"\ninsecure = true\n"),
    )
    .unwrap();
    tries_to_reach(pmq.run(["--config", file.to_str().unwrap(), "status"]));
    let off = bare().redis(url).env("PMQ_INSECURE", "0");
    tells(&off.run(["status"]).expect_code(69), &["no password"]);
}

#[test]
fn a_password_for_a_server_that_has_none_is_told() {
    let server = RedisServer::builder().tcp(true).start();
    for user in ["", "default"] {
        let pmq = bare()
            .redis(server.url())
            .env("PMQ_REDIS_PASSWORD", SECRET)
            .env("PMQ_REDIS_USERNAME", user);
        let ended = pmq.run(["status"]).expect_code(69);
        tells(&ended, &["asks nobody for a password", "requirepass"]);
    }
}

#[test]
fn who_asks_for_a_user_is_that_user_or_nobody() {
    let (server, url) = guarded();
    let mut redis = server.connection();
    let user = ["SETUSER", "app", "on", ">word", "~*", "&*", "+@all"];
    let _: () = cmd("ACL").arg(&user).query(&mut redis).unwrap();
    let app = || bare().redis(&url).env("PMQ_REDIS_USERNAME", "app");
    let _ = app()
        .env("PMQ_REDIS_PASSWORD", "word")
        .run(["status"])
        .expect_code(0);
    let wrong = app().env("PMQ_REDIS_PASSWORD", "other").run(["status"]);
    tells(&wrong.expect_code(69), &["wrong user name or password"]);
    // One that may not ask who it is, is believed.
    let deaf = ["SETUSER", "app", "-acl"];
    let _: () = cmd("ACL").arg(&deaf).query(&mut redis).unwrap();
    let _ = app()
        .env("PMQ_REDIS_PASSWORD", "word")
        .run(["status"])
        .expect_code(0);
    // Where everybody is let in, a user without a password would silently be the default one.
    let open = RedisServer::builder().tcp(true).start();
    let ended = bare()
        .redis(open.url())
        .env("PMQ_REDIS_USERNAME", "app")
        .run(["status"]);
    tells(
        &ended.expect_code(69),
        &["for the user 'default', not for 'app'"],
    );
}

#[test]
fn a_password_among_the_arguments_is_warned_of_once_and_apart_from_the_output() {
    let (_server, url) = guarded();
    let with_secret = url.replace("//", &format!("//:{SECRET}@"));
    let ended = bare()
        .redis(with_secret.clone())
        .run(["status", "--json"])
        .expect_code(0);
    let text = ended.error_text();
    assert!(
        text.lines().count() == 1
            && text.contains("PMQ_REDIS_PASSWORD_FILE")
            && !text.contains(SECRET),
        "{text}"
    );
    assert!(ended.json().is_empty());
    let quiet = bare()
        .env("PMQ_REDIS_URL", with_secret)
        .run(["status"])
        .expect_code(0);
    assert_eq!(quiet.error_text(), "");
}

#[test]
fn a_command_finds_the_broker_and_no_secret_in_its_environment() {
    let (_server, url) = guarded();
    let with_secret = url.replace("//", &format!("//:{SECRET}@"));
    let script = "env | sort; cat /proc/self/cmdline /proc/$PPID/cmdline | tr '\\0' ' '; \
        \"$pmq\" size fruit 2>&1; echo code $?";
    let pmq = bare()
        .env("PMQ_REDIS_URL", &with_secret)
        .env("PMQ_REDIS_PASSWORD", SECRET)
        .env("pmq", env!("CARGO_BIN_EXE_pmq-under-test"));
    let _worker = worker(&pmq);
    for command in ["submit --wait --", "run --", "lock l --", "sem -n 1 s --"] {
        let words = command.split(' ').chain(["sh", "-c", script]);
        let text = pmq.run(words).expect_code(0).text();
        assert!(!text.contains(SECRET), "{command}: {text}");
        assert!(
            text.contains(&format!("PMQ_REDIS_URL={url}\n")),
            "{command}: {text}"
        );
        assert!(
            text.ends_with("code 69\n"),
            "it finds no other broker: {text}"
        );
    }
}

#[test]
fn a_pmq_inside_a_command_works_by_the_name_of_a_password_file() {
    let (_server, url) = guarded();
    let pmq = bare().env("pmq", env!("CARGO_BIN_EXE_pmq-under-test"));
    let pmq = pmq
        .clone()
        .env("PMQ_REDIS_URL", url)
        .env("PMQ_REDIS_PASSWORD_FILE", password_file(&pmq));
    let _worker = worker(&pmq);
    let script = "\"$pmq\" put fruit apple && \"$pmq\" run -- echo inner";
    for command in ["submit --wait --", "run --", "lock l --"] {
        let words = command.split(' ').chain(["sh", "-c", script]);
        assert_eq!(pmq.run(words).expect_code(0).text(), "inner\n", "{command}");
    }
    assert_eq!(pmq.run(["size", "fruit"]).expect_code(0).text(), "3\n");
}

#[test]
fn a_runner_finds_no_secret_either() {
    let (_server, url) = guarded();
    let pmq = bare()
        .env(
            "PMQ_REDIS_URL",
            url.replace("//", &format!("//default:{SECRET}@")),
        )
        .env("PMQ_REDIS_PASSWORD", SECRET);
    let seen = pmq.home().join("seen");
    let program = format!("env >{}; exec cat >/dev/null", seen.display());
    let file = pmq.home().join("runner.toml");
    let text = format!("[runners.x]\nargv = [\"sh\", \"-c\", {program:?}]\ntasks = [\"x\"]\n");
    fs::write(&file, text).unwrap();
    let worker = pmq.spawn(["worker", "--config", file.to_str().unwrap()]);
    let _ = worker.wait_for_line("serves");
    let seen = pmq_tests::eventually("the runner has started", crate::site::LIMIT, || {
        fs::read_to_string(&seen)
            .ok()
            .filter(|text| text.contains("PMQ_REDIS_URL"))
    });
    assert!(!seen.contains(SECRET), "{seen}");
}

#[test]
fn logs_at_their_loudest_and_errors_show_no_secret() {
    let (mut server, url) = guarded();
    let with_secret = url.replace("//", &format!("//default:{SECRET}@"));
    let pmq = bare()
        .env("PMQ_REDIS_URL", with_secret)
        .env("PMQ_LOG", "trace");
    let worker = pmq.spawn(["worker", "-c", "1", "--allow-commands"]);
    let _ = worker.wait_for_line("serves");
    let ended = pmq
        .run(["submit", "--wait", "--", "echo", "hi"])
        .expect_code(0);
    assert!(!ended.error_text().contains(SECRET));
    server.kill();
    let ended = pmq.run(["status"]).expect_code(69);
    assert!(
        !ended.error_text().contains(SECRET),
        "{}",
        ended.error_text()
    );
    server.restart();
    let _ = pmq
        .run(["submit", "--wait", "--", "echo", "hi"])
        .expect_code(0);
    worker.terminate();
    let said = worker.wait().expect_code(0).error_text();
    assert!(said.contains("DEBUG") && !said.contains(SECRET), "{said}");
}

#[test]
fn the_doctor_tells_how_far_a_server_is_open() {
    let found = |pmq: &Program| {
        let checks = pmq.run(["doctor", "--json"]).expect_code(0).json();
        move |subject: &str| {
            let check = checks.iter().find(|check| check["check"] == subject);
            check.map(|check| format!("{} {}", check["level"], check["found"]))
        }
    };
    let open = RedisServer::builder().tcp(true).start();
    let of_open = found(&bare().redis(open.url()));
    assert!(of_open("login").unwrap().contains("doubtful"));
    assert!(of_open("login").unwrap().contains("protected-mode is off"));
    assert!(of_open("width").unwrap().contains("FLUSHALL"));
    assert!(of_open("tls").unwrap().contains("good"));
    let (_server, url) = guarded();
    let of_guarded = found(&bare().redis(url).env("PMQ_REDIS_PASSWORD", SECRET));
    assert!(of_guarded("login").unwrap().contains("good"));
    let of_local = found(&bare());
    assert!(of_local("login").unwrap().contains("good"));
    assert_eq!(of_local("width"), None);
}
