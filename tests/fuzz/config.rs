//! The configuration: any file is read or refused, and nothing that is said about it shows a password.

use std::fmt::Debug;

use pmq_broker::{Broker, Config, Password};
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
                    prop_assert!(
                        text.starts_with("line ") && text.chars().count() < 2000,
                        "{}",
                        text
                    );
                    format!("{text} {}", shown(&error))
                }
            };
            prop_assert!(!shown.contains(SECRET), "{}", shown);
            Ok(())
        },
    );
}

/// URLs that can't be used, or lead to this machine's port 1, where nobody listens.
fn url() -> impl Strategy<Value = String> {
    let valid = select(
        &[
            "redis://u:hunter2@[::1]:1/0",
            "redis://:hunter2@[::1]:1",
            "rediss://u:hunter2@[::1]:1/1#insecure",
            "redis+unix:///nowhere/s?db=1&user=u&pass=hunter2",
            "unix:///nowhere/s?pass=hunter2",
        ][..],
    );
    const WORDS: [&str; 18] = [
        "redis://",
        "rediss://",
        "redis+unix://",
        "://",
        ":",
        "@",
        "/",
        "?",
        "#",
        "[",
        "]",
        "%",
        "%00",
        "%zz",
        "&",
        "pass=",
        "db=",
        "\n",
    ];
    mutated_text(valid.prop_map(str::to_owned), &WORDS)
}

#[test]
fn no_url_shows_its_password() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    fuzz((url(), any::<bool>()), |(url, elsewhere)| {
        let mut config = Config::url(url);
        if elsewhere {
            config.password = Password::Plain(SECRET.into());
        }
        let mut said = shown(&config);
        // What might lead to another machine is not tried, and what leads nowhere is given up at once.
        let url = config.url.as_deref().unwrap_or_default();
        let stays = url.contains("[::1]:1") || url.contains("nowhere");
        let scheme = url.split("://").next().unwrap_or_default();
        if !stays && matches!(scheme, "redis" | "rediss") {
            return Ok(());
        }
        let connecting = Broker::connect_to_any(&config);
        let answer = runtime.block_on(async {
            tokio::time::timeout(std::time::Duration::from_millis(5), connecting).await
        });
        if let Ok(Err(error)) = answer {
            said.push_str(&format!("{error} {error:?} {:?}", error.hint()));
        }
        prop_assert!(!said.contains(SECRET), "{}", said);
        Ok(())
    });
}
