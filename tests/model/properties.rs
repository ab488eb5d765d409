//! What must hold in every state of the lease protocol.

use stateright::Property;

use crate::broker::{ATTEMPTS, CRASHES, Place};
use crate::heal;
use crate::leases::{Leases, State};

pub(crate) const ONE_COMPLETION: &str = "one completion is accepted";
pub(crate) const NEWEST_TOKEN: &str = "only the newest token finishes";
pub(crate) const LOST_RUN: &str = "who lost a run cannot finish it";
pub(crate) const TOKENS_GROW: &str = "tokens grow, also over a failover";
pub(crate) const IN_ONE_PLACE: &str =
    "what is acknowledged is somewhere, and what runs is under a lease";
pub(crate) const ENDS: &str = "once the faults cease the task ends";
pub(crate) const BUDGETS: &str = "runs stay within the budgets";
pub(crate) const NOT_CUT_OFF: &str = "who is heard keeps its lease";
pub(crate) const TOLD_TRUE: &str = "who is told that its lease is good has its run";
pub(crate) const SOMEBODY_RUNS: &str = "what a worker was granted it runs";

/// The properties that hold under the faults that the model lets happen.
pub(crate) fn of(model: &Leases) -> Vec<Property<Leases>> {
    let mut all = vec![
        Property::always(ONE_COMPLETION, |_, s: &State| s.broker.completions <= 1),
        Property::always(NEWEST_TOKEN, |_, s: &State| !s.broker.wrong.old_token),
        Property::always(LOST_RUN, |_, s: &State| !s.broker.wrong.lost_run),
        Property::always(TOKENS_GROW, |_, s: &State| !s.token_fell),
        Property::always(IN_ONE_PLACE, |_, s: &State| is_in_one_place(s)),
        Property::always(BUDGETS, |_, s: &State| is_within_budgets(s)),
        Property::always(ENDS, heal::ends),
    ];
    // A failover takes back what the broker has said, a stale claim is one of a worker that it does not know any more.
    if model.failovers == 0 {
        all.push(Property::always(NOT_CUT_OFF, |_, s: &State| {
            !s.broker.wrong.cut_off
        }));
    }
    if model.failovers == 0 && !model.stale_claims {
        all.push(Property::always(TOLD_TRUE, |_, s: &State| !s.told_wrong));
        all.push(Property::always(SOMEBODY_RUNS, |_, s: &State| {
            somebody_runs(s)
        }));
    }
    all.extend(examples(model));
    all
}

/// What must be reached, or the model looks at nothing.
fn examples(model: &Leases) -> Vec<Property<Leases>> {
    let mut all = vec![
        Property::sometimes("the first run ends the task", |_, s: &State| {
            s.broker.place == Place::Done { token: 1 }
        }),
        Property::sometimes("a second run ends the task", |_, s: &State| {
            matches!(s.broker.place, Place::Done { token: 2.. })
        }),
        Property::sometimes("a worker's lease ends while it works", |_, s: &State| {
            s.workers.iter().any(|worker| worker.who().life > 0)
        }),
    ];
    if model.may_fail {
        all.push(Property::sometimes(
            "the task uses up its attempts",
            |_, s: &State| s.broker.place == Place::Dead && s.broker.failures == ATTEMPTS,
        ));
    }
    all
}

fn is_in_one_place(s: &State) -> bool {
    match s.broker.place {
        Place::Unknown => !s.acknowledged || s.failovers > 0,
        Place::Running(run) => s.broker.row(run.who).is_some(),
        _ => true,
    }
}

/// A grant uses up a failure or a crash, is handed back, or is the last.
fn is_within_budgets(s: &State) -> bool {
    let b = &s.broker;
    let used = b.failures + b.crashes + b.returned;
    let dead = b.failures == ATTEMPTS || b.crashes == CRASHES;
    let open = u8::from(b.grant.open || b.completions > 0 && !dead);
    b.failures <= ATTEMPTS
        && b.crashes <= CRASHES
        && (b.place == Place::Dead) == dead
        && (s.failovers > 0 || b.grant.token <= used + open)
}

/// What runs under a worker that lives is in its slot, or it still asks for it. A worker that the broker did not know has a
/// lease that nobody renews.
fn somebody_runs(s: &State) -> bool {
    let Place::Running(run) = s.broker.place else {
        return true;
    };
    let worker = &s.workers[usize::from(run.who.worker)];
    let passed = worker.who() == run.who && worker.number() >= s.broker.grant.number;
    worker.crashed || !passed || worker.run() == Some(run)
}
