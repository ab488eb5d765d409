//! The runs of each task, put together from what their workers wrote down.

use std::collections::BTreeMap;

use pmq_broker::TaskId;

use crate::history::{History, Planned, RunEnd, What};

/// One run of a handler.
#[derive(Clone, Debug)]
pub struct Run {
    /// The task.
    pub id: TaskId,
    /// The worker.
    pub actor: String,
    /// When its handler began, in ns.
    pub start: u64,
    /// When it ended, and how; `None` where the worker died first.
    pub end: Option<(u64, RunEnd)>,
    /// Which run of its task it is.
    pub attempt: u16,
    /// What fences it.
    pub token: u64,
}

/// The tasks of a history and their runs.
#[derive(Debug, Default)]
pub struct Runs {
    /// The runs of each task, in the order of their tokens.
    pub by_task: BTreeMap<TaskId, Vec<Run>>,
    /// The tasks as they were submitted.
    pub plans: BTreeMap<TaskId, Planned>,
}

impl Runs {
    /// Reads them out of a history.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let mut runs = Self::default();
        for event in &history.events {
            match &event.what {
                What::Submit { tasks, .. } => {
                    let plans = tasks.iter().map(|task| (task.id, task.clone()));
                    runs.plans.extend(plans);
                }
                What::Start {
                    id, attempt, token, ..
                } => {
                    runs.by_task.entry(*id).or_default().push(Run {
                        id: *id,
                        actor: event.actor.clone(),
                        start: event.t,
                        end: None,
                        attempt: *attempt,
                        token: *token,
                    });
                }
                What::End { id, token, how } => {
                    runs.end(*id, (*token, &event.actor), (event.t, *how));
                }
                _ => {}
            }
        }
        for task in runs.by_task.values_mut() {
            task.sort_by_key(|run| run.token);
        }
        runs
    }

    fn end(&mut self, id: TaskId, (token, actor): (u64, &str), end: (u64, RunEnd)) {
        let task = self.by_task.entry(id).or_default();
        let mine = task.iter_mut().find(|run| {
            run.token == token && run.actor == actor && run.end.is_none() && run.start <= end.0
        });
        if let Some(run) = mine {
            run.end = Some(end);
        }
    }

    /// All runs.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.by_task.values().flatten()
    }

    /// How many tasks ran again although a run of theirs had its effect: at least once means this.
    #[must_use]
    pub fn ran_twice(&self) -> usize {
        let had_effect = |run: &&Run| matches!(run.end, Some((_, RunEnd::Ok)));
        let twice = |task: &&Vec<Run>| task.iter().filter(had_effect).count() > 1;
        self.by_task.values().filter(twice).count()
    }
}
