//! The lives of a worker on one shard: the incarnation under which it claims, and former ones whose runs go on.
//!
//! A failover or a power cut may undo the end of a run. The broker then has it running under the worker's incarnation,
//! and the worker, which knows nothing of it, would renew its lease for as long as it holds anything else. So whenever the
//! broker may have lost a write the worker goes on under a new incarnation, and the old one lives only as long as its runs.

use bytes::Bytes;
use pmq_broker::Incarnation;
use pmq_broker::task_queue::{Beat, Grant};

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) who: Incarnation,
    /// Its last claim that brought tasks, as far as its answer came.
    pub(crate) granted: Grant,
    /// A run of it has ended: that is what the broker may forget.
    ended: bool,
}

impl Life {
    fn new(who: Incarnation) -> Self {
        Self {
            who,
            granted: Grant::default(),
            ended: false,
        }
    }
}

/// All that go on.
pub(crate) struct Lives {
    now: Life,
    former: Vec<Life>,
    /// What the broker had lived through when it was last heard.
    history: Bytes,
}

impl Lives {
    pub(crate) fn new(who: Incarnation) -> Self {
        Self {
            now: Life::new(who),
            former: Vec::new(),
            history: Bytes::new(),
        }
    }

    /// The incarnation under which the worker claims.
    pub(crate) fn now(&self) -> Incarnation {
        self.now.who
    }

    /// The present one, then the former ones.
    pub(crate) fn all(&self) -> impl Iterator<Item = Life> + '_ {
        std::iter::once(self.now).chain(self.former.iter().copied())
    }

    /// A claim under this incarnation brought tasks.
    pub(crate) fn grant(&mut self, who: Incarnation, granted: Grant) {
        if self.now.who == who {
            self.now.granted = granted;
        }
    }

    /// Whether it was never heard what the broker has lived through.
    pub(crate) fn know_no_history(&self) -> bool {
        self.history.is_empty()
    }

    /// What the broker has lived through, told while no run of the present life can have ended.
    pub(crate) fn learn_history(&mut self, history: &Bytes) {
        self.history.clone_from(history);
    }

    /// A run of this incarnation has ended.
    pub(crate) fn note_end(&mut self, who: Incarnation) {
        self.now.ended |= self.now.who == who;
    }

    /// A heartbeat of `life`, as it was when it was sent, was answered so: the worker goes on as somebody new where the
    /// broker may have runs of it that it knows nothing of. Answers whether it does.
    pub(crate) fn hear(&mut self, life: Life, beat: &Beat) -> bool {
        if self.now.who != life.who {
            return false;
        }
        let other_history = self.history != beat.history;
        self.history.clone_from(&beat.history);
        // A claim whose answer is under way has a higher number.
        let other_claim = beat.granted.number < life.granted.number
            || beat.granted.number == life.granted.number
                && beat.granted.token != life.granted.token;
        let renewed = other_claim || other_history && self.now.ended;
        if renewed {
            self.former.push(self.now);
            self.now = Life::new(Incarnation::new());
        }
        renewed
    }

    /// The lease of this one has ended; answers whether it was one of them.
    pub(crate) fn end(&mut self, who: Incarnation) -> bool {
        if self.now.who == who {
            self.now = Life::new(Incarnation::new());
            return true;
        }
        let known = self.former.len();
        self.former.retain(|life| life.who != who);
        self.former.len() < known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(history: &'static str, number: u32, token: u64) -> Beat {
        Beat {
            orders: Vec::new(),
            raw: Bytes::new(),
            lease_ended: false,
            history: Bytes::from_static(history.as_bytes()),
            granted: Grant { number, token },
        }
    }

    fn working() -> Lives {
        let mut lives = Lives::new(Incarnation::new());
        let (number, token) = (2, 20);
        lives.grant(lives.now(), Grant { number, token });
        lives
    }

    #[test]
    fn another_history_begins_another_life_where_a_run_has_ended() {
        let mut lives = working();
        let first = lives.all().next().unwrap();
        assert!(!lives.hear(first, &beat("a", 2, 20)));
        assert!(!lives.hear(first, &beat("b", 2, 20)), "nothing has ended");
        lives.note_end(first.who);
        assert!(!lives.hear(first, &beat("b", 2, 20)));
        assert!(lives.hear(first, &beat("c", 2, 20)));
        assert_ne!(lives.now(), first.who);
        assert_eq!(lives.all().nth(1).unwrap().who, first.who);
        assert!(!lives.hear(first, &beat("d", 2, 20)), "it is a former one");
        assert!(lives.end(first.who) && !lives.end(first.who));
    }

    #[test]
    fn a_run_that_ended_before_the_first_heartbeat_may_be_forgotten_too() {
        let mut lives = working();
        let first = lives.all().next().unwrap();
        lives.note_end(first.who);
        assert!(lives.hear(first, &beat("a", 2, 20)));
    }

    #[test]
    fn a_history_that_is_known_before_the_first_run_begins_no_other_life() {
        let mut lives = working();
        let first = lives.all().next().unwrap();
        assert!(lives.know_no_history());
        lives.learn_history(&beat("a", 2, 20).history);
        assert!(!lives.know_no_history());
        lives.note_end(first.who);
        assert!(!lives.hear(first, &beat("a", 2, 20)));
        assert!(lives.hear(first, &beat("b", 2, 20)));
    }

    #[test]
    fn a_claim_that_it_never_made_begins_another_life() {
        let granted = |number, token| {
            let mut lives = working();
            let first = lives.all().next().unwrap();
            lives.hear(first, &beat("a", number, token))
        };
        assert!(!granted(2, 20));
        assert!(!granted(3, 30), "its answer is under way");
        assert!(granted(2, 21), "a copy of claim 2 came late");
        assert!(granted(1, 30));
    }
}
