//! `pmq.toml`: the configuration file of a user or a worker.
//!
//! ```toml
//! namespace = "pmq"
//! durability = "replicated"
//!
//! [redis]
//! url = "redis://redis.example:6379"
//! password_file = "/run/secrets/redis"
//!
//! [worker]
//! queues = ["default"]
//! slots = 4
//!
//! [tasks.thumbnail]
//! argv = ["convert", "{input:path}", "-resize", "{width:int}", "out.png"]
//!
//! [runners.python]
//! argv = ["python3", "handlers.py"]
//! tasks = ["square"]
//! ```

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, io};

use anyhow::Context as _;
use pmq_broker::{Durability, Name};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::duration;
use crate::failure::Failure;
use crate::link_url::Url;
use crate::task_template::TaskTemplate;

/// All that the file may say. Unknown keys are errors, so that a typo does not go unnoticed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigFile {
    /// The file of the authkey.
    pub authkey_file: Option<PathBuf>,
    /// Whether bodies and results are encrypted.
    pub encrypt: bool,
    /// The prefix of every key in Redis.
    pub namespace: Option<Name>,
    /// How far a change has got when it is acknowledged.
    #[serde(deserialize_with = "read_durability")]
    pub durability: Option<Durability>,
    /// Which broker.
    pub redis: RedisTable,
    /// What `pmq worker` does where its flags do not say.
    pub worker: WorkerTable,
    /// Commands that producers may run by name, with arguments of given types.
    pub tasks: BTreeMap<String, TaskTable>,
    /// Long-lived programs that run handlers.
    pub runners: BTreeMap<String, RunnerTable>,
}

/// `[redis]`: which broker, and how to log in. `Debug` shows no secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisTable {
    /// `redis://`, `rediss://`, `redis+unix://`, `redis+cluster://` or `redis+sentinel://`.
    pub url: Option<Url>,
    /// The user, where the URL names none.
    pub username: Option<String>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The user at the sentinels, which have users of their own.
    pub sentinel_username: Option<String>,
    /// A file whose first line is the password at the sentinels.
    pub sentinel_password_file: Option<PathBuf>,
    /// The authorities that may sign the server's certificate.
    pub tls_ca: Option<PathBuf>,
    /// This client's certificate.
    pub tls_cert: Option<PathBuf>,
    /// The private key of `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Whether a broker on a network is used without a password, and one on a public network without TLS.
    pub insecure: bool,
}

/// `[worker]`: defaults of `pmq worker`'s flags of the same names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerTable {
    /// Its queues, in the order in which it asks them; none for the default.
    pub queues: Vec<Name>,
    /// How many tasks it runs at once.
    pub slots: Option<usize>,
    /// How long it may be silent before others take its tasks over; at least 1 s.
    #[serde(deserialize_with = "duration::deserialize_lease")]
    pub lease: Option<Duration>,
    /// How long running tasks may go on when it is asked to stop.
    #[serde(deserialize_with = "duration::deserialize")]
    pub grace: Option<Duration>,
    /// The completion queue of tasks that name none.
    pub completions: Option<Name>,
    /// Whether it runs any command that a producer sends.
    pub allow_commands: bool,
}

/// `[tasks.NAME]`: a command that is run for tasks of this name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskTable {
    /// The command, with typed slots for the task's arguments.
    pub argv: TaskTemplate,
}

/// `[runners.NAME]`: a long-lived program that runs handlers, one task a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerTable {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The names of the tasks that it runs.
    pub tasks: Vec<String>,
    /// How many tasks it works on at once; 1 unless set.
    #[serde(default = "one")]
    pub depth: usize,
}

fn read_durability<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Durability>, D::Error> {
    let word = String::deserialize(from)?;
    word.parse().map(Some).map_err(D::Error::custom)
}

fn one() -> usize {
    1
}

impl ConfigFile {
    /// Reads `named` (`--config`), else `$PMQ_CONFIG`, else the user's file if there is one.
    ///
    /// A file in the current directory is never read: it may be somebody else's, and it says what to run.
    pub fn load(named: Option<&Path>) -> anyhow::Result<Self> {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let must_exist = named
            .map(Path::to_owned)
            .or_else(|| variable("PMQ_CONFIG").map(Into::into));
        if let Some(path) = must_exist {
            return Self::read(&path);
        }
        match users_file(variable) {
            Some(path) if path.exists() => Self::read(&path),
            _ => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error: io::Error| {
            Failure::usage(format!("could not read {}: {error}", path.display()))
        })?;
        Self::parse(&text).with_context(|| format!("could not use {}", path.display()))
    }

    /// Reads the text of a configuration file.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            // The error's own text quotes the line, which may hold a password.
            let line = error.span().map_or(1, |span| {
                1 + text
                    .bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
            });
            Failure::usage(format!("line {line}: {}", without_value(error.message())))
        })
    }
}

/// What serde says about a value of a wrong type, without the value, which may be a password in a wrong place.
fn without_value(message: &str) -> String {
    let parts = message
        .split_once(" string \"")
        .zip(message.rsplit_once("\", expected "));
    match parts {
        Some(((kind, _), (_, expected))) if kind.starts_with("invalid ") => {
            format!("{kind} string, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

fn users_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))?;
    Some(directory.join("pmq/pmq.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_file_is_read() {
        let file = ConfigFile::parse(
            r#"
            namespace = "ns"
            [redis]
            url = "redis://h"
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
            "#,
        )
        .unwrap();
        assert_eq!(file.namespace, Some(Name::new("ns").unwrap()));
        assert_eq!(file.worker.lease, Some(Duration::from_secs(15)));
        assert_eq!(file.worker.grace, Some(Duration::from_millis(2500)));
        assert_eq!(file.worker.queues.len(), 2);
        assert_eq!(file.runners["python"].depth, 1);
        let argv = file.tasks["thumbnail"]
            .argv
            .expand(br#"{"input": "a.png", "width": 40}"#);
        assert_eq!(argv.unwrap(), ["convert", "a.png", "-resize", "40"]);
    }

    #[test]
    fn the_documented_file_is_read() {
        let document = include_str!("../../docs/configuration.md");
        let (_, rest) = document.split_once("```toml\n").unwrap();
        let file = ConfigFile::parse(rest.split_once("```").unwrap().0).unwrap();
        assert_eq!(file.worker.grace, Some(Duration::from_secs(25)));
        let argv = file.tasks["thumbnail"]
            .argv
            .expand(br#"{"input": "/data/a.png", "width": 320, "output": "/data/b.png"}"#);
        assert_eq!(argv.unwrap().len(), 5);
        assert_eq!(file.runners["python"].tasks, ["square", "cube"]);
    }

    #[test]
    fn errors_name_the_line_and_quote_nothing() {
        let error = |text| ConfigFile::parse(text).unwrap_err().to_string();
        let typo = error("namespace = \"ns\"\n\n[redis]\nulr = \"redis://:hunter2@h\"\n");
        assert!(
            typo.starts_with("line 4: ") && typo.contains("ulr"),
            "{typo}"
        );
        assert!(!typo.contains("hunter2"), "{typo}");
        let misplaced = error("redis = \"redis://:hunter2@h\"");
        assert!(
            misplaced.contains("invalid type: string, expected"),
            "{misplaced}"
        );
        assert!(!misplaced.contains("hunter2"), "{misplaced}");
        let bad = error("[tasks.x]\nargv = [\"ls\", \"{dir:folder}\"]\n");
        assert!(bad.contains("folder"), "{bad}");
        assert!(error("[worker]\nlease = \"-3s\"").contains("not negative"));
        assert!(error("[worker]\nlease = \"10ms\"").contains("at least 1s"));
        assert!(error("namespace = \"No\"").contains("No"));
    }

    #[test]
    fn the_users_file_is_found_by_xdg_or_home() {
        let env = |xdg: &'static str, home: &'static str| {
            users_file(move |name| {
                let value = if name == "HOME" { home } else { xdg };
                (!value.is_empty()).then(|| value.into())
            })
        };
        assert_eq!(env("/x", "/h"), Some("/x/pmq/pmq.toml".into()));
        assert_eq!(env("", "/h"), Some("/h/.config/pmq/pmq.toml".into()));
        assert_eq!(
            env("relative", "/h"),
            Some("/h/.config/pmq/pmq.toml".into())
        );
        assert_eq!(env("", ""), None);
    }
}
