//! I4: the tokens of a task are unique and grow with its attempts, and only the newest one ends it.

use super::{Invariant, Run, Runs, Violation};
use crate::history::{Event, History, What};

/// Finds tokens out of order.
pub(super) fn check(history: &History) -> Vec<Violation> {
    let runs = Runs::of(history);
    let mut found: Vec<_> = runs
        .by_task
        .values()
        .flat_map(|task| check_task(task, history))
        .collect();
    let ends = history.events.iter();
    found.extend(ends.filter_map(|event| check_end(event, &runs, history)));
    found
}

/// The runs of one task, in the order of their tokens.
fn check_task(task: &[Run], history: &History) -> Vec<Violation> {
    let wrong = |pair: &[Run]| {
        let (first, second) = (&pair[0], &pair[1]);
        let what = if first.token == second.token {
            format!("ran twice under token {}", first.token)
        } else if first.attempt > second.attempt && !history.went_back_before(second.start) {
            let (older, newer) = (first.attempt, second.attempt);
            format!("has a higher token at attempt {newer} than at attempt {older}")
        } else {
            return None;
        };
        Some(Violation::new(Invariant::Tokens, first.id, what))
    };
    task.windows(2).filter_map(wrong).collect()
}

/// An accepted end carries the newest token that was granted.
fn check_end(event: &Event, runs: &Runs, history: &History) -> Option<Violation> {
    let (id, token) = match &event.what {
        What::Completion { id, token, .. } if *token > 0 => (id, *token),
        What::Finished {
            id, token, answer, ..
        } if answer == "ended" => (id, *token),
        _ => return None,
    };
    let newest = runs.by_task.get(id)?.iter().max_by_key(|run| run.token)?;
    let undone = history.went_back_before(newest.start.max(event.t));
    let (newest, ended_old) = (newest.token, newest.token > token && !undone);
    ended_old.then(|| {
        let what = format!("ended under token {token} although {newest} had been granted");
        Violation::new(Invariant::Tokens, id, what)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn the_newest_of_growing_tokens_ends_a_task() {
        let runs = [at(1, "v", start(1, 1, 7)), at(2, "w", start(1, 2, 8))];
        let with = |last| check(&history(runs.clone().into_iter().chain([at(3, "c", last)])));
        assert!(with(done(1, 8)).is_empty());
        assert_eq!(
            lines(&with(done(1, 7))),
            ["ended under token 7 although 8 had been granted"]
        );
    }

    #[test]
    fn two_runs_have_two_tokens() {
        let events = [at(1, "v", start(1, 1, 7)), at(2, "w", start(1, 1, 7))];
        assert_eq!(lines(&check(&history(events))), ["ran twice under token 7"]);
    }

    #[test]
    fn a_later_attempt_has_a_higher_token() {
        let events = [at(1, "v", start(1, 2, 7)), at(2, "w", start(1, 1, 8))];
        assert_eq!(check(&history(events)).len(), 1);
    }

    #[test]
    fn a_run_of_a_slow_worker_may_begin_late() {
        let events = [at(1, "v", start(1, 2, 8)), at(2, "w", start(1, 1, 7))];
        assert!(check(&history(events)).is_empty());
    }
}
