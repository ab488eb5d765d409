//! I9: work goes on after each fault, and all of it is done in time once the faults are over.

use std::time::Duration;

use super::{Invariant, Recovery, Terms, Violation, recoveries};
use crate::history::{Event, History, What};

/// How much later than its lease a killed worker's task may run elsewhere.
const RECLAIM: Duration = Duration::from_secs(2);

/// Finds what stood still.
pub(super) fn check(history: &History, terms: &Terms) -> Vec<Violation> {
    let mut found: Vec<Violation> = check_drain(history).into_iter().collect();
    found.extend(check_resume(history, terms));
    let limit = terms.lease + RECLAIM;
    let late = recoveries(history).into_iter().filter(|recovery| {
        recovery.after > limit && recovery.attempt <= 2 && !disturbed(history, recovery, limit)
    });
    found.extend(late.map(|recovery| {
        let what = format!(
            "ran again {:?} after {} was killed",
            recovery.after, recovery.actor
        );
        Violation::new(Invariant::Liveness, recovery.id, what)
    }));
    found
}

/// When the run came to this phase.
fn time_of(history: &History, wanted: &str) -> Option<u64> {
    let is_it = |what: &What| matches!(what, What::Phase { name } if name == wanted);
    history
        .events
        .iter()
        .find(|event| is_it(&event.what))
        .map(|event| event.t)
}

/// A run that heals also drains.
fn check_drain(history: &History) -> Option<Violation> {
    time_of(history, "heal")?;
    let drained = time_of(history, "drained").is_some();
    (!drained).then(|| {
        Violation::new(
            Invariant::Liveness,
            "Phase",
            "tasks are left after the drain",
        )
    })
}

/// After the heal something runs soon, where there was anything left to run.
fn check_resume(history: &History, terms: &Terms) -> Option<Violation> {
    let heal = time_of(history, "heal")?;
    let starts = history
        .events
        .iter()
        .filter(|event| matches!(event.what, What::Start { .. }));
    let first = starts.map(|event| event.t).find(|t| *t > heal)?;
    let after = Duration::from_nanos(first - heal).saturating_sub(stalled(history, heal, first));
    (after > terms.resumes).then(|| {
        let what = format!("nothing ran for {after:?} after the faults were over");
        Violation::new(Invariant::Liveness, "Phase", what)
    })
}

/// For how long the machine kept processes from their work within a time.
fn stalled(history: &History, from: u64, to: u64) -> Duration {
    let stalls = history.events.iter().filter_map(|event| match event.what {
        What::Stall { ms } if (from..to).contains(&event.t) => Some(Duration::from_millis(ms)),
        _ => None,
    });
    stalls.sum()
}

/// Whether something else than the death of this worker delayed its tasks: another fault, or a machine that was busy.
fn disturbed(history: &History, recovery: &Recovery, limit: Duration) -> bool {
    let end = recovery.died + limit.as_nanos() as u64;
    let began = |event: &Event| match &event.what {
        What::Fault { target, .. } => *target != recovery.actor && event.t < end,
        What::Stall { .. } => event.t < end,
        _ => false,
    };
    let reach = recovery.died.saturating_sub(3 * limit.as_nanos() as u64);
    history
        .events
        .iter()
        .any(|event| event.t > reach && began(event))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::checker::recovery::KILL;
    use crate::history::Effects;

    fn found(events: Vec<Event>) -> Vec<String> {
        lines(&check(&history(events), &Terms::default()))
    }

    #[test]
    fn all_is_done_after_the_heal() {
        let heal = at(10, "harness", phase("heal"));
        assert_eq!(
            found(vec![heal.clone()]),
            ["tasks are left after the drain"]
        );
        assert!(found(vec![heal, at(20, "harness", phase("drained"))]).is_empty());
    }

    #[test]
    fn work_goes_on_soon_after_the_heal() {
        let goes_on = |ms| {
            found(vec![
                at(10, "harness", phase("heal")),
                at(ms, "w", start(1, 1, 7)),
                at(60_000, "harness", phase("drained")),
            ])
        };
        assert!(goes_on(1000).is_empty());
        assert_eq!(goes_on(9000).len(), 1);
    }

    #[test]
    fn a_busy_machine_is_not_blamed_on_pmq() {
        let events = vec![
            at(10, "harness", phase("heal")),
            at(5000, "harness", What::Stall { ms: 4500 }),
            at(9000, "w", start(1, 1, 7)),
            at(60_000, "harness", phase("drained")),
        ];
        assert!(found(events).is_empty());
    }

    #[test]
    fn a_killed_workers_task_runs_elsewhere_in_time() {
        let recovers = |ms, other: Option<Event>| {
            let name = KILL.to_owned();
            let (target, effects) = ("v".to_owned(), Effects::default());
            let kill = What::Fault {
                name,
                target,
                on: true,
                effects,
            };
            let mut events = vec![
                at(1, "v", start(1, 1, 7)),
                at(5, "harness", kill),
                at(ms, "w", start(1, 2, 8)),
            ];
            events.extend(other);
            found(events).len()
        };
        assert_eq!((recovers(4000, None), recovers(9000, None)), (0, 1));
        let other = at(6, "harness", fault("redis", Effects::default()));
        assert_eq!(recovers(9000, Some(other)), 0);
    }
}
