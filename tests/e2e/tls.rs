//! TLS: who is believed, who is let in, and what is said where one of them is not.

use std::time::Duration;

use pmq_tests::certificates::{Authority, HERE, Identity};
use pmq_tests::program::Running;
use pmq_tests::{Program, RedisServer};

use crate::site::bare;

/// A server with a certificate for this machine, and the authority that signed it.
fn server() -> (RedisServer, Authority) {
    let authority = Authority::new();
    let server = RedisServer::builder().tls(&authority.issue(&HERE), None);
    (server.start(), authority)
}

/// The command, which trusts this authority.
fn trusting(url: impl Into<String>, authority: &Authority) -> Program {
    bare().redis(url).env("PMQ_TLS_CA", authority.file())
}

/// The command, which proves who it is as well.
fn with_certificate(url: impl Into<String>, authority: &Authority, own: &Identity) -> Program {
    trusting(url, authority)
        .env("PMQ_TLS_CERT", &own.cert)
        .env("PMQ_TLS_KEY", &own.key)
}

/// One sentence with a hint, and the exit code of a broker that can't be used.
#[track_caller]
fn refused(pmq: &Program, expected: [&str; 2]) {
    let text = pmq.run(["status"]).expect_code(69).error_text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines.len() == 2
            && lines[0].starts_with("pmq: error: ")
            && lines[0].contains(expected[0])
            && lines[1].starts_with("hint: ")
            && lines[1].contains(expected[1]),
        "{text}"
    );
}

fn worker(pmq: &Program) -> Running {
    let worker = pmq.spawn(["worker", "-c", "1", "--allow-commands"]);
    let _ = worker.wait_for_line("serves");
    worker
}

#[test]
fn a_server_whose_authority_is_named_is_believed() {
    let (server, authority) = server();
    let _ = trusting(server.url(), &authority)
        .run(["status"])
        .expect_code(0);
    let by_name = format!("rediss://localhost:{}", server.port().unwrap());
    let ca = authority.file();
    let flag = ["--tls-ca", ca.to_str().unwrap(), "status"];
    let _ = bare().redis(by_name).run(flag).expect_code(0);
    // As the authorities of a system are found.
    let system = bare().redis(server.url()).env("SSL_CERT_FILE", ca);
    let _ = system.run(["status"]).expect_code(0);
}

#[test]
fn the_configuration_file_names_it_as_well() {
    let (server, authority) = server();
    let pmq = bare();
    let text = format!(
        "[redis]\nurl = {:?}\ntls_ca = {:?}\n",
        server.url(),
        authority.file()
    );
    let file = pmq.home().join("tls.toml");
    std::fs::write(&file, text).unwrap();
    let _ = pmq
        .run(["--config", file.to_str().unwrap(), "status"])
        .expect_code(0);
}

#[test]
fn a_server_that_nobody_vouches_for_is_refused() {
    let (server, _) = server();
    let expected = ["nobody who is trusted here has signed", "--tls-ca"];
    refused(&bare().redis(server.url()), expected);
    refused(&trusting(server.url(), &Authority::new()), expected);
}

#[test]
fn a_certificate_that_expired_or_is_for_another_name_is_refused() {
    let authority = Authority::new();
    let expired = RedisServer::builder()
        .tls(&authority.issue_expired(&HERE), None)
        .start();
    refused(
        &trusting(expired.url(), &authority),
        ["has expired", "renewed"],
    );
    let other = RedisServer::builder()
        .tls(&authority.issue(&["redis.example"]), None)
        .start();
    refused(
        &trusting(other.url(), &authority),
        ["is for another name", "subjectAltName"],
    );
}

#[test]
fn a_server_that_speaks_another_language_is_told() {
    let (server, authority) = server();
    let plain = RedisServer::builder().tcp(true).start();
    let url = format!("rediss://127.0.0.1:{}", plain.port().unwrap());
    refused(
        &trusting(url, &authority),
        ["does not speak TLS", "redis://"],
    );
    let url = format!("redis://127.0.0.1:{}", server.port().unwrap());
    refused(&bare().redis(url), ["speaks nothing else", "rediss://"]);
}

#[test]
fn who_has_no_certificate_of_the_right_authority_is_not_let_in() {
    let authority = Authority::new();
    let server = RedisServer::builder()
        .tls(&authority.issue(&HERE), Some(&authority))
        .start();
    refused(
        &trusting(server.url(), &authority),
        ["wants a client certificate", "--tls-cert"],
    );
    let stranger = Authority::new();
    refused(
        &with_certificate(server.url(), &authority, &stranger.issue(&[])),
        ["refused the client certificate", "tls-ca-cert-file"],
    );
    let old = authority.issue_expired(&[]);
    refused(
        &with_certificate(server.url(), &authority, &old),
        ["refused the client certificate", "still valid"],
    );
}

#[test]
fn work_and_locks_go_over_tls_with_a_client_certificate() {
    let authority = Authority::new();
    let server = RedisServer::builder()
        .tls(&authority.issue(&HERE), Some(&authority))
        .password("p@ss")
        .start();
    let pmq = with_certificate(server.url(), &authority, &authority.issue(&[]));
    let _worker = worker(&pmq);
    let ended = pmq.run(["submit", "--wait", "--", "echo", "hi"]);
    assert_eq!(ended.expect_code(0).text(), "hi\n");
    let locked = pmq.run(["lock", "l", "--", "sh", "-c", "echo $PMQ_LOCK"]);
    assert_eq!(locked.expect_code(0).text(), "l\n");
    let checks = pmq.run(["doctor", "--json"]).expect_code(0).json();
    let tls = checks.iter().find(|check| check["check"] == "tls").unwrap();
    assert_eq!(tls["level"], "good", "{tls}");
}

#[test]
fn a_worker_outlives_a_restart_with_a_new_certificate() {
    let authority = Authority::new();
    let identity = authority.issue(&HERE);
    let mut server = RedisServer::builder()
        .tls(&identity, None)
        .aof(true)
        .start();
    let pmq = trusting(server.url(), &authority);
    let worker = worker(&pmq);
    server.kill();
    let renewed = authority.issue(&HERE);
    std::fs::copy(&renewed.cert, &identity.cert).unwrap();
    std::fs::copy(&renewed.key, &identity.key).unwrap();
    server.restart();
    let ended = pmq
        .timeout(Duration::from_secs(30))
        .run(["submit", "--wait", "--", "echo", "hi"]);
    assert_eq!(ended.expect_code(0).text(), "hi\n");
    drop(worker);
}

#[test]
fn files_that_can_not_be_used_are_named() {
    let (server, authority) = server();
    let own = authority.issue(&[]);
    let other = authority.issue(&[]);
    let pmq = || trusting(server.url(), &authority);
    let empty = pmq().home().join("empty");
    let programs = [
        (
            pmq().env("PMQ_TLS_CA", "/no/such"),
            "could not read the authorities /no/such",
        ),
        (pmq().env("PMQ_TLS_CA", &own.key), "has no certificate"),
        (pmq().env("PMQ_TLS_CERT", &own.cert), "--tls-key"),
        (pmq().env("PMQ_TLS_KEY", &own.key), "--tls-cert"),
        (
            pmq()
                .env("PMQ_TLS_CERT", &own.key)
                .env("PMQ_TLS_KEY", &own.key),
            "no readable certificate",
        ),
        (
            pmq()
                .env("PMQ_TLS_CERT", &own.cert)
                .env("PMQ_TLS_KEY", &own.cert),
            "no readable private key",
        ),
        (
            pmq()
                .env("PMQ_TLS_CERT", &own.cert)
                .env("PMQ_TLS_KEY", &other.key),
            "is not that of the certificate",
        ),
        (pmq().env("PMQ_TLS_CA", &empty), "could not read"),
        (
            bare().redis(format!("{}/#insecure", server.url())),
            "#insecure",
        ),
    ];
    for (pmq, expected) in programs {
        let text = pmq.run(["status"]).expect_code(2).error_text();
        assert!(
            text.contains(expected) && text.lines().count() <= 2,
            "{text}"
        );
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
}
