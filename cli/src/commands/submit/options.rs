//! The options of a task, as flags or as fields of a JSON line.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use pmq_broker::{Due, Name, Task, Work};

use crate::duration;
use crate::failure::Failure;
use crate::when;

/// How a task is run; what is not given keeps the defaults of its kind.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Options of the task")]
pub(super) struct TaskOptions {
    /// 0 to 9, higher first [default: 5]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9), allow_hyphen_values = true)]
    pub(super) priority: Option<u8>,

    /// Run it no sooner than this long from now
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(super) delay: Option<Duration>,

    /// Run it no sooner than at this time, as 2026-08-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = when::parse, conflicts_with = "delay")]
    pub(super) at: Option<u64>,

    /// How often it may fail before it is a dead letter [default: 1 for commands, 4 for handlers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) attempts: Option<u16>,

    /// How many workers may die under it before it is a dead letter [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(super) crashes: Option<u8>,

    /// The shortest wait before another attempt; it doubles with each [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(super) backoff: Option<Duration>,

    /// The longest wait before another attempt [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(super) backoff_cap: Option<Duration>,

    /// How long an attempt may take [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(super) timeout: Option<Duration>,

    /// Do not run it any more after this long from now
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, allow_hyphen_values = true)]
    pub(super) expires: Option<Duration>,

    /// Post its completion to this completion queue [default: the worker's or the queue's, if any]
    #[arg(long, value_name = "NAME")]
    pub(super) completions: Option<Name>,

    /// Run it after the tasks of the same key that were submitted before it: all of a key go to one shard of the queue
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,

    /// Do not keep its output or result for `pmq wait` and `pmq status`
    #[arg(long)]
    pub(super) no_keep: bool,

    /// A label, as KEY=VALUE; may be given more than once
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,

    /// Run the command in this directory of the worker's machine [default: a private one]
    #[arg(long, value_name = "DIR")]
    pub(super) cwd: Option<String>,

    /// Set a variable of the command's environment, as NAME=VALUE; may be given more than once
    #[arg(long = "env", value_name = "K=V", value_parser = pair)]
    pub(super) env: Vec<(String, String)>,
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

impl TaskOptions {
    /// Puts these options on top of what the task has. `now_ms` is the broker's time.
    pub(super) fn apply(&self, task: &mut Task, now_ms: u64) -> Result<(), Failure> {
        self.apply_schedule(task, now_ms);
        self.apply_retry(task)?;
        if let Some(priority) = self.priority {
            task.priority = priority;
        }
        if self.completions.is_some() {
            task.completions.clone_from(&self.completions);
        }
        if self.no_keep {
            task.keep = false;
        }
        if let Some(key) = &self.key {
            *task = task.clone().with_key(key);
        }
        task.details.labels.extend_from_slice(&self.labels);
        if matches!(task.work, Work::Handler(_)) && (self.cwd.is_some() || !self.env.is_empty()) {
            return Err(Failure::usage(
                "only a command has a working directory and an environment",
            ));
        }
        task.details.env.extend_from_slice(&self.env);
        if let Some(cwd) = &self.cwd {
            task.details.cwd = absolute(cwd)?;
        }
        Ok(())
    }

    fn apply_schedule(&self, task: &mut Task, now_ms: u64) {
        if let Some(delay) = self.delay {
            task.due = if delay.is_zero() {
                Due::Now
            } else {
                Due::After(delay)
            };
        }
        if let Some(at) = self.at {
            task.due = Due::At(at);
        }
        if let Some(expires) = self.expires {
            task.expires_ms = Some(now_ms + expires.as_millis() as u64);
        }
        if let Some(timeout) = self.timeout {
            task.details.timeout_ms = timeout.as_millis() as u64;
        }
    }

    fn apply_retry(&self, task: &mut Task) -> Result<(), Failure> {
        let retry = &mut task.retry;
        retry.attempts = self.attempts.unwrap_or(retry.attempts);
        retry.crashes = self.crashes.unwrap_or(retry.crashes);
        retry.floor = self.backoff.unwrap_or(retry.floor);
        // A long floor alone lifts the cap with it.
        retry.cap = self.backoff_cap.unwrap_or(retry.cap.max(retry.floor));
        if retry.cap < retry.floor {
            return Err(Failure::usage(
                "the longest wait before another attempt is shorter than the shortest",
            ));
        }
        Ok(())
    }
}

/// A worker has another current directory.
pub(crate) fn absolute(cwd: &str) -> Result<String, Failure> {
    let unusable = || Failure::usage(format!("{cwd:?} can't be a working directory"));
    let path = std::path::absolute(Path::new(cwd)).map_err(|_| unusable())?;
    path.into_os_string().into_string().map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: &TaskOptions) -> Task {
        let mut task = Task::command(["ls"]);
        options.apply(&mut task, 1000).unwrap();
        task
    }

    #[test]
    fn defaults_are_those_of_the_task() {
        let task = applied(&TaskOptions::default());
        let fresh = Task::command(["ls"]).with_id(task.id);
        assert_eq!(
            Task {
                given_id: true,
                ..task
            },
            fresh
        );
    }

    #[test]
    fn options_reach_the_task() {
        let task = applied(&TaskOptions {
            priority: Some(9),
            delay: Some(Duration::from_secs(2)),
            attempts: Some(3),
            backoff: Some(Duration::from_secs(3600)),
            expires: Some(Duration::from_secs(5)),
            timeout: Some(Duration::from_millis(1500)),
            no_keep: true,
            labels: vec![pair("a=b=c").unwrap()],
            cwd: Some("/x".into()),
            ..TaskOptions::default()
        });
        assert_eq!(
            (task.priority, task.due),
            (9, Due::After(Duration::from_secs(2)))
        );
        assert_eq!(
            (task.retry.attempts, task.retry.cap),
            (3, Duration::from_secs(3600))
        );
        assert_eq!(
            (task.expires_ms, task.details.timeout_ms, task.keep),
            (Some(6000), 1500, false)
        );
        assert_eq!(task.details.labels, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(task.details.cwd, "/x");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let cap = TaskOptions {
            backoff: Some(Duration::from_secs(5)),
            backoff_cap: Some(Duration::from_secs(1)),
            ..TaskOptions::default()
        };
        assert!(cap.apply(&mut Task::command(["ls"]), 0).is_err());
        let cwd = TaskOptions {
            cwd: Some("/".into()),
            ..TaskOptions::default()
        };
        assert!(cwd.apply(&mut Task::handler("h", "1"), 0).is_err());
        assert!(pair("=x").is_err() && pair("x").is_err());
    }
}
