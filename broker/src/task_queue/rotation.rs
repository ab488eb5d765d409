//! Which shards to ask next, where one may have something for the caller and many have nothing.

use std::time::Duration;

use tokio::time::Instant;

/// How many shards of a queue are asked where nothing says which has something. Of 16 shards each is asked every third of a
/// lease by one idle worker, before a shard takes the silence for an outage and has leases end later.
const LOOK_AT: usize = 16;
/// For how long a shard that did not answer is left alone.
const ASIDE: Duration = Duration::from_secs(5);

/// The turns of a queue's shards.
///
/// Who asks goes round those that may have something, and a shard drops out when it answers that it has no more; a wake
/// token brings it back. Beside them a few of the others are asked in turn, now and then, so that a lost token costs no
/// more than a while.
#[derive(Debug)]
pub struct Rotation {
    shards: Vec<State>,
    /// Whose turn it is.
    turn: usize,
    /// The one after the last that was looked at.
    look: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may have something.
    Hot,
    /// It had nothing more when it was asked last.
    Cold,
    /// It did not answer; it is asked again from then on.
    Aside(Instant),
}

impl Rotation {
    /// The turns of so many shards, of which any may have something. It begins anywhere, so that those who ask do not
    /// all ask the same.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        let shards = shards.max(1);
        let turn = fastrand::usize(0..shards);
        Self {
            shards: vec![State::Hot; shards],
            turn,
            look: turn,
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Always false: every queue has a shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// The next shard that may have something. It stays in the rotation until it is said to be [dry](Self::dry).
    pub fn next(&mut self, now: Instant) -> Option<usize> {
        self.return_rested(now);
        let hot = |i: &usize| self.shards[*i] == State::Hot;
        let next = self.from(self.turn).find(hot)?;
        self.turn = (next + 1) % self.shards.len();
        Some(next)
    }

    /// Whether any may have something.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.shards.contains(&State::Hot)
    }

    /// Those that may have something.
    pub fn hot(&self) -> impl Iterator<Item = usize> {
        let shards = (0..).zip(&self.shards);
        shards.filter_map(|(i, state)| (*state == State::Hot).then_some(i))
    }

    /// It has nothing more.
    pub fn dry(&mut self, shard: usize) {
        self.shards[shard] = State::Cold;
    }

    /// It has something: a wake token said so, or it is time to look.
    pub fn hear(&mut self, shard: usize) {
        if self.shards[shard] == State::Cold {
            self.shards[shard] = State::Hot;
        }
    }

    /// Any may have something: all are asked again, at the start and after a time without news.
    pub fn rouse(&mut self) {
        self.look_at(self.shards.len());
    }

    /// Nothing is known to have something: a few are asked, the next time others.
    pub fn look(&mut self) {
        self.look_at(LOOK_AT);
    }

    /// The next `n` of those that had nothing are asked again.
    pub fn look_at(&mut self, n: usize) {
        let cold = |i: &usize| self.shards[*i] == State::Cold;
        let found: Vec<usize> = self.from(self.look).filter(cold).take(n).collect();
        for i in found {
            self.shards[i] = State::Hot;
            self.look = (i + 1) % self.shards.len();
        }
    }

    /// It does not answer, so the others go first for 5 s.
    pub fn set_aside(&mut self, shard: usize, now: Instant) {
        self.shards[shard] = State::Aside(now + ASIDE);
    }

    /// When the first that was set aside comes back.
    #[must_use]
    pub fn next_return(&self) -> Option<Instant> {
        let aside = self.shards.iter().filter_map(|state| match state {
            State::Aside(until) => Some(*until),
            _ => None,
        });
        aside.min()
    }

    fn return_rested(&mut self, now: Instant) {
        for state in &mut self.shards {
            if matches!(state, State::Aside(until) if *until <= now) {
                *state = State::Hot;
            }
        }
    }

    fn from(&self, start: usize) -> impl Iterator<Item = usize> + use<> {
        let n = self.shards.len();
        (0..n).map(move |i| (start + i) % n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks all that may have something; those that `full` names have, and go on to.
    fn round(rotation: &mut Rotation, full: &[usize]) -> Vec<usize> {
        round_at(rotation, full, Instant::now())
    }

    fn round_at(rotation: &mut Rotation, full: &[usize], now: Instant) -> Vec<usize> {
        let mut asked = Vec::new();
        for _ in 0..rotation.len() {
            let Some(i) = rotation.next(now) else { break };
            asked.push(i);
            if !full.contains(&i) {
                rotation.dry(i);
            }
        }
        asked.sort_unstable();
        asked
    }

    #[test]
    fn all_are_asked_at_the_start_and_none_that_is_dry_before_it_is_heard_of() {
        let mut rotation = Rotation::new(5);
        assert_eq!(round(&mut rotation, &[]), [0, 1, 2, 3, 4]);
        assert_eq!(rotation.next(Instant::now()), None);
        rotation.hear(3);
        assert_eq!(round(&mut rotation, &[]), [3]);
    }

    #[test]
    fn those_that_are_full_take_turns() {
        let mut rotation = Rotation::new(4);
        for i in [0, 2] {
            rotation.dry(i);
        }
        let turns: Vec<_> = (0..4)
            .map(|_| rotation.next(Instant::now()).unwrap())
            .collect();
        assert!(turns == [1, 3, 1, 3] || turns == [3, 1, 3, 1], "{turns:?}");
    }

    #[test]
    fn a_look_goes_round_all_that_are_dry_a_few_at_a_time() {
        let mut rotation = Rotation::new(40);
        round(&mut rotation, &[]);
        let mut seen = Vec::new();
        for _ in 0..5 {
            rotation.look();
            let asked = round(&mut rotation, &[]);
            assert_eq!(asked.len(), LOOK_AT);
            seen.extend(asked);
        }
        seen.sort_unstable();
        let twice: Vec<usize> = (0..40).flat_map(|i| [i, i]).collect();
        assert_eq!(seen, twice);
    }

    #[test]
    fn none_starves_while_another_is_full() {
        let mut rotation = Rotation::new(6);
        round(&mut rotation, &[4]);
        let mut until = 0;
        while !round(&mut rotation, &[4]).contains(&1) {
            rotation.look_at(1);
            until += 1;
        }
        assert!(until <= 5, "{until}");
    }

    #[test]
    fn one_that_does_not_answer_comes_back_after_a_while() {
        let mut rotation = Rotation::new(3);
        rotation.set_aside(1, Instant::now());
        rotation.hear(1);
        rotation.rouse();
        assert_eq!(round(&mut rotation, &[]), [0, 2]);
        let back = rotation.next_return().unwrap();
        assert_eq!(round_at(&mut rotation, &[], back), [1]);
        assert_eq!(rotation.next_return(), None);
    }
}
