//! Liveness that proves the claim loop turns, and a worker that would rather end than idle as a zombie.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use pmq_broker::Outcome;
use pmq_tests::{RedisServer, eventually};
use redis::cmd;

use crate::fleet::{Fleet, SOON, pmq_at};

#[tokio::test(flavor = "multi_thread")]
async fn the_health_file_is_touched_again_and_again_and_can_be_checked() {
    let fleet = Fleet::new().await;
    let file = fleet.path("health");
    let flags = format!("-c 1 --health-file {}", file.display());
    let check = || {
        let check = format!("worker --check --health-file {}", file.display());
        fleet.pmq().run(check.split(' '))
    };
    let _ = check().expect_code(1);
    let worker = fleet.worker(&flags);
    for _ in 0..2 {
        eventually("it is there", SOON, || file.exists().then_some(()));
        let _ = check().expect_code(0);
        fs::remove_file(&file).unwrap();
    }
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_address_answers_as_long_as_the_worker_works() {
    let fleet = Fleet::new().await;
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let _worker = fleet.worker(&format!(
        "-c 1 --allow-commands --health-addr 127.0.0.1:{port}"
    ));
    fleet.submit(&fleet.sh("record; exec sleep 600")).await;
    fleet.wait_for_record(1);
    // It answers also while all slots are full.
    for _ in 0..2 {
        let answer = eventually("it answers", SOON, || http_get(port));
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"),
            "{answer}"
        );
    }
}

fn http_get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_rights_are_taken_away_says_so_and_goes_on_when_it_has_them_back() {
    let server = RedisServer::start();
    let mut connection = server.connection();
    let mut acl = |rule: &[&str]| {
        cmd("ACL")
            .arg("SETUSER")
            .arg("w")
            .arg(rule)
            .exec(&mut connection)
            .unwrap();
    };
    acl(&["on", ">secret", "~*", "&*", "+@all"]);
    let fleet = Fleet::at(server.url()).await;
    let pmq = pmq_at(&format!("{}?user=w&pass=secret", server.url()));
    let mut worker = fleet.worker_of(&pmq, "-c 1 --lease 1s --allow-commands");
    fleet.submit(&fleet.sh("true")).await;
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
    acl(&["-fcall"]);
    let said = worker.wait_for_line("refuses this worker");
    assert!(said.contains("denied") && said.contains("hint="), "{said}");
    assert!(!said.contains("secret"), "{said}");
    acl(&["+fcall"]);
    fleet.submit(&fleet.sh("true")).await;
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
    assert!(worker.is_running());
}
