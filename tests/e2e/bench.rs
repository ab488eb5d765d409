//! `pmq bench`: the figures that others read, and a broker that it leaves as it was.

use std::collections::BTreeSet;

use pmq_tests::{RedisServer, eventually};
use serde_json::Value;

use crate::site::{LIMIT, bare};

/// A server with a key of somebody else's.
fn server() -> RedisServer {
    let server = RedisServer::start();
    redis::cmd("SET")
        .arg("somebody's")
        .arg("value")
        .exec(&mut server.connection())
        .unwrap();
    server
}

fn keys(server: &RedisServer) -> BTreeSet<String> {
    let mut connection = server.connection();
    redis::cmd("KEYS").arg("*").query(&mut connection).unwrap()
}

#[test]
fn it_prints_one_object_and_leaves_the_broker_as_it_was() {
    let server = server();
    let pmq = bare().redis(server.url()).timeout(LIMIT * 4);
    let finished = pmq
        .run(["bench", "--tasks", "2000", "--runs", "1", "--json"])
        .expect_code(0);
    let text = finished.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let figures = [
        "submit",
        "drain",
        "end_to_end",
        "round_trip_us",
        "bytes_per_task",
    ];
    for figure in figures {
        for name in [figure.to_owned(), format!("{figure}_floor")] {
            assert!(
                report[&name].as_f64().unwrap_or(0.0) > 0.0,
                "{name}: {text}"
            );
        }
    }
    assert_eq!(keys(&server), BTreeSet::from(["somebody's".to_owned()]));
}

#[test]
fn interrupted_it_leaves_nothing_either() {
    let server = server();
    let pmq = bare().redis(server.url());
    let running = pmq.spawn(["bench", "--tasks", "100000", "--runs", "100"]);
    eventually("it has written tasks", LIMIT, || {
        (keys(&server).len() > 5).then_some(())
    });
    running.interrupt();
    let _ = running.wait().expect_code(130);
    assert_eq!(keys(&server), BTreeSet::from(["somebody's".to_owned()]));
}

#[test]
fn a_table_tells_what_the_floor_is_and_plots_are_svg() {
    let server = server();
    let pmq = bare().redis(server.url()).timeout(LIMIT * 4);
    let arguments = "bench --tasks 500 --runs 1 --only payload --plot plots";
    let table = pmq.run(arguments.split(' ')).expect_code(0).text();
    assert!(table.contains("| submit_100_bytes "), "{table}");
    assert!(table.contains("plain pipelined commands"), "{table}");
    let plot = std::fs::read_to_string(pmq.home().join("plots/payload.svg")).unwrap();
    assert!(
        plot.starts_with("<svg") && plot.contains("drain, floor"),
        "{plot}"
    );
}
