//! A task as one JSON object: a line of `--from-json`.

use std::collections::BTreeMap;
use std::time::Duration;

use pmq_broker::{Name, Task, TaskId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::options::TaskOptions;
use crate::duration;
use crate::failure::Failure;
use crate::when;

/// The fields of a line. Unknown ones are errors, so that a typo does not go unnoticed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JsonLine {
    name: Option<String>,
    argv: Option<Vec<String>>,
    args: Option<Box<RawValue>>,
    body: Option<String>,
    content_type: Option<String>,
    id: Option<TaskId>,
    priority: Option<u8>,
    #[serde(deserialize_with = "duration::deserialize")]
    delay: Option<Duration>,
    at: Option<String>,
    attempts: Option<u16>,
    crashes: Option<u8>,
    #[serde(deserialize_with = "duration::deserialize")]
    backoff: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize")]
    backoff_cap: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize")]
    expires: Option<Duration>,
    completions: Option<Name>,
    key: Option<String>,
    keep: Option<bool>,
    labels: BTreeMap<String, String>,
    cwd: Option<String>,
    env: BTreeMap<String, String>,
}

impl JsonLine {
    pub(super) fn parse(line: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(line).map_err(|error| {
            // Its position counts lines of its own, and there is only one.
            let text = error.to_string();
            let problem = text.split(" at line ").next().unwrap_or_default();
            let what = if error.is_data() { "" } else { "no JSON: " };
            Failure::usage(format!("{what}{problem} (column {})", error.column()))
        })
    }

    /// The id that the line gives to its task.
    pub(super) fn id(&self) -> Option<TaskId> {
        self.id
    }

    /// The task, with what the line leaves open taken from `defaults`.
    pub(super) fn task(self, defaults: &TaskOptions, now_ms: u64) -> Result<Task, Failure> {
        let at = self
            .at
            .as_deref()
            .map(when::parse)
            .transpose()
            .map_err(Failure::usage)?;
        if at.is_some() && self.delay.is_some() {
            return Err(Failure::usage("a task has either a delay or a time"));
        }
        let options = TaskOptions {
            priority: self.priority,
            delay: self.delay,
            at,
            attempts: self.attempts,
            crashes: self.crashes,
            backoff: self.backoff,
            backoff_cap: self.backoff_cap,
            timeout: self.timeout,
            expires: self.expires,
            completions: self.completions.clone(),
            key: self.key.clone(),
            no_keep: self.keep == Some(false),
            labels: self.labels.clone().into_iter().collect(),
            cwd: self.cwd.clone(),
            env: self.env.clone().into_iter().collect(),
        };
        let keep = self.keep;
        let mut task = self.work()?;
        defaults.apply(&mut task, now_ms)?;
        options.apply(&mut task, now_ms)?;
        task.keep = keep.unwrap_or(task.keep);
        Ok(task)
    }

    fn work(self) -> Result<Task, Failure> {
        let mut task = match (self.name, self.argv) {
            (Some(name), None) => Task::handler(name, "null"),
            (None, Some(argv)) => Task::command(argv),
            _ => return Err(Failure::usage("a task has either a name or an argv")),
        };
        match (self.args, self.body) {
            (Some(_), Some(_)) => return Err(Failure::usage("a task has either args or a body")),
            (Some(args), None) => task.body = String::from(Box::<str>::from(args)).into(),
            (None, Some(body)) => task.body = body.into(),
            (None, None) => {}
        }
        task.details.content_type = self.content_type.unwrap_or_default();
        Ok(task)
    }
}

#[cfg(test)]
mod tests {
    use pmq_broker::{Due, Work};

    use super::*;

    fn task(line: &str) -> Result<Task, Failure> {
        let defaults = TaskOptions {
            priority: Some(7),
            ..TaskOptions::default()
        };
        JsonLine::parse(line.as_bytes())?.task(&defaults, 1000)
    }

    fn problem(line: &str) -> String {
        task(line).unwrap_err().to_string()
    }

    #[test]
    fn a_line_is_a_task() {
        let square = task(r#"{"name": "square", "args": [1, 1e400]}"#).unwrap();
        assert_eq!(square.work, Work::Handler("square".into()));
        assert_eq!(&square.body[..], b"[1, 1e400]");
        assert_eq!((square.priority, square.retry.attempts), (7, 4));

        let line = r#"{"argv": ["ls", "-l"], "priority": 1, "delay": "1.5s", "attempts": 2, "timeout": 3,
            "completions": "done", "keep": false, "labels": {"a": "b"}, "env": {"X": "1"}, "cwd": "/"}"#;
        let ls = task(&line.replace('\n', " ")).unwrap();
        assert_eq!(ls.work, Work::Command(vec![b"ls".to_vec(), b"-l".to_vec()]));
        assert_eq!(
            (ls.priority, ls.due),
            (1, Due::After(Duration::from_millis(1500)))
        );
        assert_eq!(
            (ls.retry.attempts, ls.details.timeout_ms, ls.keep),
            (2, 3000, false)
        );
        assert_eq!(ls.details.env, [("X".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn a_bad_line_says_what_is_wrong() {
        assert!(problem("{").contains("column 1"), "{}", problem("{"));
        assert!(problem("garbage").starts_with("no JSON: "));
        assert!(problem(r#"{"name": "x", "prio": 1}"#).contains("unknown field `prio`"));
        assert!(problem("{}").contains("either a name or an argv"));
        assert!(problem(r#"{"name": "x", "argv": ["y"]}"#).contains("either"));
        assert!(problem(r#"{"name": "x", "args": 1, "body": "y"}"#).contains("either args"));
        assert!(problem(r#"{"name": "x", "delay": -5}"#).contains("not negative"));
        assert!(problem(r#"{"name": "x", "at": "noon"}"#).contains("no time"));
        assert!(
            problem(r#"{"name": "x", "id": "y"}"#).contains("UUID")
                || problem(r#"{"name": "x", "id": "y"}"#).contains("invalid")
        );
        assert!(problem("[]").len() < 120);
    }
}
