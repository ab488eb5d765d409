//! What becomes of a state once the faults cease: stateright has no "can still reach", so every state is played to its end.

use crate::broker::{Outcome, Place};
use crate::leases::{Leases, State};
use crate::network::Call;
use crate::worker::{End, Worker};

/// Far more thirds of a lease than any state needs.
const LONGEST: usize = 40;

/// Whether the task ends when every call arrives and is answered, every run ends well and nobody else dies.
pub(crate) fn ends(model: &Leases, state: &State) -> bool {
    let mut state = state.clone();
    state.away = false;
    if state.broker.place == Place::Unknown && !state.acknowledged {
        model.arrive(&mut state, Call::Submit, false);
    }
    for _ in 0..LONGEST {
        if matches!(state.broker.place, Place::Done { .. } | Place::Dead) {
            return true;
        }
        // The failover lost its submit: what may be lost is told for each mode of durability.
        if state.broker.place == Place::Unknown && state.failovers > 0 {
            return true;
        }
        Leases::tick(&mut state);
        for i in 0..state.workers.len() {
            work(model, &mut state, i);
        }
        for _page in 0..2 {
            let (server, at) = (model.server(&state), model.moment(&state));
            state.broker.reclaim(server, at);
        }
    }
    false
}

/// What a living worker does in a third of a lease.
fn work(model: &Leases, state: &mut State, i: usize) {
    if state.workers[i].crashed {
        return;
    }
    let call = |state: &mut State, which: fn(&Worker) -> Call| {
        let call = which(&state.workers[i]);
        model.arrive(state, call, true);
    };
    call(state, Worker::beat);
    if let Some(beat) = state.workers[i].former_beat() {
        model.arrive(state, beat, true);
    }
    if state.workers[i].run().is_none() {
        return call(state, Worker::next_claim);
    }
    if state.workers[i].works() {
        let State {
            workers, network, ..
        } = state;
        workers[i].end(End::Finish(Outcome::Ok), network);
    }
    if let Some(end) = state.workers[i].end_call() {
        model.arrive(state, end, true);
    }
}
