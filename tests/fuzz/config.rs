//! The configuration: any file is read or refused, and nothing that is said about it shows a password.

use std::fmt::Debug;

use pmq_broker::{Config, Password};
use pmq_cli::config_file::ConfigFile;
use pmq_tests::fuzz::{fuzz, mutated_text};
use proptest::prelude::*;
use proptest::sample::select;

const SECRET: &str = "hunter2";
const FILE: &str = r#"
namespace = "ns"
[redis]
url = "redis://u:hunter2@h:1/0"
username = "u"
[worker]
queues = ["a", "b"]
slots = 8
lease = "15s"
grace = 2.5
completions = "done"
allow_commands = true
[tasks.thumbnail]
argv = ["convert", "{input:path}", "-resize", "{width:int}"]
[runners.python]
argv = ["python3", "handlers.py"]
tasks = ["square"]
"#;
const WORDS: [&str; 22] = [
    "[redis]",
    "[worker]",
    "redis = ",
    "password = ",
    "\n",
    "=",
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "{",
    "}",
    ".",
    ",",
    "#",
    "-1",
    "nan",
    "1e308",
    "9223372036854775807",
    "1979-05-27",
    "\\uD800",
];

fn shown(value: &impl Debug) -> String {
    format!("{value:?} {value:#?}")
}

#[test]
fn a_file_is_read_or_refused_and_shows_no_password() {
    let valid = select(
        &[
            FILE,
            "[redis]\nurl = 'redis://:hunter2@h'",
            "redis.url = \"hunter2\"",
        ][..],
    );
    fuzz(
        mutated_text(valid.prop_map(str::to_owned), &WORDS),
        |text| {
            let shown = match ConfigFile::parse(&text) {
                Ok(file) => shown(&file),
                Err(error) => {
                    let text = error.to_string();
                    prop_assert!(text.starts_with("line "), "{}", text);
                    format!("{text} {}", shown(&error))
                }
            };
            prop_assert!(!shown.contains(SECRET), "{}", shown);
            Ok(())
        },
    );
}

#[test]
fn a_configuration_shows_no_url() {
    const WORDS: [&str; 6] = ["redis://", "://", ":", "@", "/", "?"];
    let valid = select(
        &[
            "redis://u:hunter2@h:1/0",
            "redis+unix:///s?user=u&pass=hunter2",
        ][..],
    );
    fuzz(mutated_text(valid.prop_map(str::to_owned), &WORDS), |url| {
        let config = Config {
            password: Password::Plain(SECRET.into()),
            ..Config::url(url)
        };
        prop_assert!(!shown(&config).contains(SECRET));
        Ok(())
    });
}
