//! How a job becomes a task.
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use pmq_broker::{Incarnation, Name, Retry, Task};

use super::feed::Step;

/// What all tasks of a run have in common.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The client whose tasks they are: they end with it.
    pub owner: Incarnation,
    /// Where their completions go.
    pub completions: Name,
    /// How often a job may fail before it has failed; at least 1.
    pub attempts: u16,
    /// How long one try may take; `None` for no limit.
    pub timeout: Option<Duration>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// The directory to run in; a private one of the worker's where empty.
    pub cwd: String,
    /// Variables that are set besides the worker's own.
    pub env: Vec<(String, String)>,
}

impl Recipe {
    /// The task of a job. Its id is new: an id only has to tell apart the tasks of this run.
    #[must_use]
    pub fn task(&self, step: &Step) -> Task {
        let argv = step.command.iter().map(|word| word.as_bytes());
        let mut task = Task::command(argv).with_completions(self.completions.clone());
        task.owner = Some(self.owner);
        task.priority = self.priority;
        task.retry = Retry {
            attempts: self.attempts,
            ..task.retry
        };
        // The completion queue is where this run looks; nobody else knows the id.
        task.keep = false;
        task.details.timeout_ms = self.timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_millis())
                .unwrap_or(u64::MAX)
                .max(1)
        });
        task.details.cwd.clone_from(&self.cwd);
        task.details.env.clone_from(&self.env);
        task
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use pmq_broker::Work;

    use super::super::input::Job;
    use super::*;

    #[test]
    fn a_task_has_the_jobs_bytes_and_the_runs_options() {
        let recipe = Recipe {
            owner: Incarnation::new(),
            completions: Name::new("map-1").unwrap(),
            attempts: 3,
            timeout: Some(Duration::from_micros(10)),
            priority: 7,
            cwd: "/data".into(),
            env: vec![("K".into(), "V".into())],
        };
        let word = OsString::from_vec(b"a\xff".to_vec());
        let step = Step {
            job: Job {
                seq: 1,
                args: vec![word.clone()],
            },
            command: vec!["echo".into(), word],
        };
        let task = recipe.task(&step);
        assert_eq!(
            task.work,
            Work::Command(vec![b"echo".to_vec(), b"a\xff".to_vec()])
        );
        assert_eq!((task.retry.attempts, task.priority), (3, 7));
        assert_eq!(task.owner, Some(recipe.owner));
        // No limit would be 0, so the shortest limit is not rounded down to it.
        assert_eq!(task.details.timeout_ms, 1);
        assert_eq!(task.details.cwd, "/data");
        assert_ne!(recipe.task(&step).id, task.id);
    }
}
