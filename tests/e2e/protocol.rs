//! `docs/protocol.md` is enough for a stranger.

use std::process::Command;

use pmq_tests::RedisServer;

use crate::site::bare;

const PROTOCOL: &str = include_str!("../../docs/protocol.md");

/// The document's script, without a letter changed.
fn script() -> &'static str {
    let (_, rest) = PROTOCOL
        .split_once("```sh\n")
        .expect("the document has a script");
    rest.split_once("```").expect("it ends").0
}

#[test]
fn a_stranger_submits_a_task_with_redis_cli_alone() {
    let server = RedisServer::start();
    let pmq = bare().redis(server.url());
    let _ = pmq.run(["functions", "load"]).expect_code(0);

    let submitted = Command::new("bash")
        .arg("-c")
        .arg(script())
        .arg("submit")
        .arg("-s")
        .arg(server.socket())
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&submitted.stdout).into_owned();
    let (answer, id) = answer.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(
        answer,
        "1\nok\nn",
        "{}",
        String::from_utf8_lossy(&submitted.stderr)
    );
    let status = pmq.run(["status", "--json"]).expect_code(0).json();
    assert_eq!(
        (&status[0]["queue"], &status[0]["ready"]),
        (&"default".into(), &1.into())
    );

    let _ = pmq
        .run([
            "worker",
            "--burst",
            "--allow-commands",
            "--completions",
            "done",
        ])
        .expect_code(0);
    let completions = pmq
        .run(["get", "default/done", "--nowait", "--json"])
        .expect_code(0)
        .json();
    assert_eq!(
        (&completions[0]["outcome"], &completions[0]["stdout"]),
        (&"ok".into(), &"hi\n".into())
    );
    assert_eq!(completions[0]["id"], id);
}

#[test]
fn the_document_names_every_key_in_its_order() {
    let name = pmq_broker::Name::new("default").unwrap();
    let keys = pmq_broker::keys::ShardKeys::new(&pmq_broker::Name::new("pmq").unwrap(), &name);
    let expanded = Command::new("bash")
        .arg("-c")
        .arg(script().replace("| redis-cli", "; : "))
        .output()
        .unwrap();
    let commands = String::from_utf8_lossy(&expanded.stdout).into_owned();
    let call = commands
        .lines()
        .find(|line| line.starts_with("FCALL"))
        .unwrap();
    let words: Vec<&str> = call.split(' ').skip(3).take(keys.fixed().len()).collect();
    assert_eq!(words, keys.fixed());
}
