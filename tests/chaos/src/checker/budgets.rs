//! I5: failures and crashes are counted as they happened, retries and delays are waited for, and a worker runs one
//! suspect at a time.

use std::collections::BTreeMap;

use pmq_broker::{Outcome, TaskId};

use super::{Invariant, Run, Runs, Terms, Violation};
use crate::history::{History, Planned, RunEnd, What};

/// Crashes after which a task is a suspect.
const SUSPECT: u16 = 2;
/// Server times are whole ms.
const ROUNDING: u64 = 2_000_000;

/// Finds what was counted wrongly.
pub(super) fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let runs = Runs::of(history);
    let excuses = Excuses::of(history, terms);
    let mut found = Vec::new();
    for (id, task) in &runs.by_task {
        let Some(plan) = runs.plans.get(id) else {
            continue;
        };
        found.extend(check_task(plan, task, &excuses, history));
    }
    found.extend(check_delays(history, &runs));
    found.extend(check_failures(history, &runs));
    found.extend(check_suspects(&runs));
    found
}

fn violation(id: TaskId, what: String) -> Violation {
    Violation::new(Invariant::Budgets, id, what)
}

/// When the leases of each worker may have ended by a fault, or because its process stood still by itself.
struct Excuses {
    times: BTreeMap<String, Vec<u64>>,
    lease: u64,
}

impl Excuses {
    fn of(history: &History, terms: &Terms) -> Self {
        let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in &history.events {
            match &event.what {
                What::Fault {
                    target, effects, ..
                } if effects.ends_leases => {
                    times.entry(target.clone()).or_default().push(event.t);
                }
                What::Stall { ms } if u128::from(*ms) * 2 > terms.lease.as_millis() => {
                    times.entry(event.actor.clone()).or_default().push(event.t);
                }
                _ => {}
            }
        }
        Self {
            times,
            lease: terms.lease.as_nanos() as u64,
        }
    }

    /// Whether the lease of `actor` may have ended after `since`, or that of everybody. A fault that ended less than a
    /// lease before may have left it a connection that is dead.
    fn hold(&self, actor: &str, since: u64) -> bool {
        [actor, "*"].iter().any(|target| {
            let times = self.times.get(*target);
            times.is_some_and(|times| times.iter().any(|t| t + self.lease >= since))
        })
    }
}

/// The runs of one task, in the order of their tokens.
fn check_task(
    plan: &Planned,
    task: &[Run],
    excuses: &Excuses,
    history: &History,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let most = plan.attempts + u16::from(plan.crashes) - 1;
    if let Some(run) = task.iter().find(|run| run.attempt > most) {
        found.push(violation(
            run.id,
            format!("began attempt {} of at most {most}", run.attempt),
        ));
    }
    for pair in task.windows(2) {
        let (run, next) = (&pair[0], &pair[1]);
        if next.attempt <= run.attempt || history.went_back_before(next.start) {
            continue;
        }
        match run.end {
            Some((t, RunEnd::Failed)) if t <= next.start => {
                let floor = plan.floor_ms * 1_000_000;
                if next.attempt == run.attempt + 1 && next.start + ROUNDING < t + floor {
                    found.push(violation(
                        run.id,
                        "was tried again before its time".to_owned(),
                    ));
                }
            }
            _ if !excuses.hold(&run.actor, run.start) => {
                let what = format!(
                    "was taken from {}, whose lease no fault had ended",
                    run.actor
                );
                found.push(violation(run.id, what));
            }
            _ => {}
        }
    }
    found
}

/// No task starts before it is due.
fn check_delays(history: &History, runs: &Runs) -> Vec<Violation> {
    let mut submitted = BTreeMap::new();
    for event in &history.events {
        if let What::Submit { tasks, .. } = &event.what {
            for task in tasks {
                submitted.entry(task.id).or_insert(event.t);
            }
        }
    }
    let early = |run: &&Run| {
        let (Some(plan), Some(t)) = (runs.plans.get(&run.id), submitted.get(&run.id)) else {
            return false;
        };
        plan.delay_ms > 0 && run.start + ROUNDING < t + plan.delay_ms * 1_000_000
    };
    let found = runs.iter().filter(early);
    found
        .map(|run| violation(run.id, "began before it was due".to_owned()))
        .collect()
}

/// A task that failed has used up its attempts, and each that is to fail for good does.
fn check_failures(history: &History, runs: &Runs) -> Vec<Violation> {
    let mut found = Vec::new();
    for event in &history.events {
        let What::Completion {
            id, outcome, token, ..
        } = &event.what
        else {
            continue;
        };
        let Some(plan) = runs.plans.get(id) else {
            continue;
        };
        let task = runs.by_task.get(id).map_or(&[][..], Vec::as_slice);
        let failed = |run: &&Run| matches!(run.end, Some((_, RunEnd::Failed)));
        let failures = task.iter().filter(failed).count();
        match outcome {
            Outcome::Failed if failures < usize::from(plan.attempts) => {
                let what = format!(
                    "is a dead letter after {failures} of {} failures",
                    plan.attempts
                );
                found.push(violation(*id, what));
            }
            Outcome::Ok if task.iter().filter(failed).any(|run| run.token == *token) => {
                found.push(violation(
                    *id,
                    "came to a good end by a run that failed".to_owned(),
                ));
            }
            _ => {}
        }
    }
    found
}

/// The suspects that ran in one worker, one after the other.
fn check_suspects(runs: &Runs) -> Vec<Violation> {
    let mut by_actor: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs.iter() {
        // What never fails has its attempts by crashes alone.
        let never_fails = runs.plans.get(&run.id).is_some_and(|plan| plan.fails == 0);
        if never_fails && run.attempt > SUSPECT {
            by_actor.entry(&run.actor).or_default().push(run);
        }
    }
    let mut found = Vec::new();
    for (actor, suspects) in &mut by_actor {
        suspects.sort_by_key(|run| run.start);
        for pair in suspects.windows(2) {
            let over = pair[0].end.is_some_and(|(t, _)| t <= pair[1].start);
            if !over {
                let what = format!("ran in {actor} beside another suspect, {}", pair[0].id);
                found.push(violation(pair[1].id, what));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::history::Event;

    fn found(events: Vec<Event>) -> Vec<String> {
        lines(&check(&history(events), &Terms::default()))
    }

    fn with(more: impl IntoIterator<Item = Event>) -> Vec<Event> {
        submitted(&[1, 2]).into_iter().chain(more).collect()
    }

    #[test]
    fn a_retry_waits_for_its_backoff() {
        let retried = |ms| {
            let first = [
                at(2, "v", start(1, 1, 7)),
                at(3, "v", end(1, 7, RunEnd::Failed)),
            ];
            found(with(first.into_iter().chain([at(ms, "w", start(1, 2, 8))])))
        };
        assert!(retried(104).is_empty());
        assert_eq!(retried(50), ["was tried again before its time"]);
    }

    #[test]
    fn a_stopped_worker_may_fail_long_after_its_task_went_elsewhere() {
        let stopped = at(3, "harness", fault("v", ends_leases()));
        let runs = [
            at(2, "v", start(1, 1, 7)),
            at(4, "w", start(1, 2, 8)),
            at(5, "v", end(1, 7, RunEnd::Failed)),
        ];
        assert!(found(with(runs.into_iter().chain([stopped]))).is_empty());
    }

    #[test]
    fn a_crash_is_the_death_of_a_worker() {
        let runs = [at(2, "v", start(1, 1, 7)), at(4, "w", start(1, 2, 8))];
        let killed = at(3, "harness", fault("v", ends_leases()));
        assert_eq!(
            found(with(runs.clone())),
            ["was taken from v, whose lease no fault had ended"]
        );
        assert!(found(with(runs.into_iter().chain([killed]))).is_empty());
    }

    #[test]
    fn attempts_have_a_limit() {
        let run = |attempt| found(with([at(2, "v", start(1, attempt, 7))]));
        assert!(run(6).is_empty());
        assert_eq!(run(7), ["began attempt 7 of at most 6"]);
    }

    #[test]
    fn a_delayed_task_begins_when_it_is_due() {
        let mut plan = planned(3);
        plan.delay_ms = 100;
        let begins = |ms| {
            found(vec![
                at(0, "producer", submit(1, vec![plan.clone()])),
                at(ms, "v", start(3, 1, 7)),
            ])
        };
        assert!(begins(100).is_empty());
        assert_eq!(begins(90), ["began before it was due"]);
    }

    #[test]
    fn a_dead_letter_has_failed_as_often_as_it_may() {
        let dead = at(9, "c", completion(1, 7, Outcome::Failed));
        let failed = [
            at(2, "v", start(1, 1, 7)),
            at(3, "v", end(1, 7, RunEnd::Failed)),
            dead,
        ];
        assert_eq!(
            found(with(failed)),
            ["is a dead letter after 1 of 4 failures"]
        );
    }

    #[test]
    fn a_worker_runs_one_suspect_at_a_time() {
        let first = at(2, "v", start(1, 3, 7));
        let over = at(3, "v", end(1, 7, RunEnd::Ok));
        let second = at(4, "v", start(2, 3, 8));
        assert!(found(with([first.clone(), over, second.clone()])).is_empty());
        assert_eq!(found(with([first, second])).len(), 1);
    }
}
