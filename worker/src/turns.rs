//! Turns: which shard of which queue the claimer asks next, and when it has to ask one again.

use std::time::Duration;

use pmq_broker::task_queue::Rotation;
use tokio::time::Instant;

/// How often a worker that never has to wait for a task looks at a shard that had none.
const LOOK_BESIDE: Duration = Duration::from_millis(250);

/// The lines of a worker, queue by queue, and when to ask which.
///
/// A round goes through the queues in their order, and within each round the shards that may have tasks, where the last
/// round left off; a shard that has none drops out until a wake token, or its clock, brings it back. Who waits hears of
/// each shard by tokens; who never waits, as some shards are full, asks another one every quarter of a second.
pub(crate) struct Turns {
    queues: Vec<Queue>,
    /// When to claim again at the latest, for the lines whose clock this worker watches.
    watches: Vec<Option<Instant>>,
    /// When it last waited, or looked beside.
    looked: Instant,
    /// The time of this round.
    now: Instant,
}

struct Queue {
    /// The line of its first shard.
    first: usize,
    rotation: Rotation,
}

impl Queue {
    fn has(&self, line: usize) -> bool {
        (self.first..self.first + self.rotation.len()).contains(&line)
    }
}

impl Turns {
    /// The turns of queues with so many shards each.
    pub(crate) fn new(shards: &[usize], now: Instant) -> Self {
        let mut lines = 0;
        let queue = |shards: &usize| {
            let first = lines;
            lines += shards;
            Queue {
                first,
                rotation: Rotation::new(*shards),
            }
        };
        Self {
            queues: shards.iter().map(queue).collect(),
            watches: vec![None; lines],
            looked: now,
            now,
        }
    }

    /// A round begins. A queue of one shard is asked in each.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = now;
        for line in self.take_due(now) {
            self.hear(line);
        }
        let beside = now - self.looked >= LOOK_BESIDE;
        if beside {
            self.looked = now;
        }
        for queue in &mut self.queues {
            match queue.rotation.len() {
                1 => queue.rotation.rouse(),
                _ if beside => queue.rotation.look_at(1),
                _ => {}
            }
        }
    }

    /// The next line of the round.
    pub(crate) fn next(&mut self) -> Option<usize> {
        let (mut queues, now) = (self.queues.iter_mut(), self.now);
        queues.find_map(|queue| Some(queue.first + queue.rotation.next(now)?))
    }

    /// Whether any line may have tasks.
    pub(crate) fn has_next(&self) -> bool {
        self.queues.iter().any(|queue| queue.rotation.has_next())
    }

    /// A line answered: zero says that more may be ready, any other time that this worker shall ask again by then.
    pub(crate) fn answered(&mut self, line: usize, wait: Option<Duration>) {
        if wait != Some(Duration::ZERO) {
            self.watches[line] = wait.map(|wait| self.now + wait);
            self.with(line, Rotation::dry);
        }
    }

    /// A line may have tasks.
    pub(crate) fn hear(&mut self, line: usize) {
        self.with(line, Rotation::hear);
    }

    /// A line did not answer.
    pub(crate) fn set_aside(&mut self, line: usize) {
        let now = self.now;
        self.with(line, |rotation, shard| rotation.set_aside(shard, now));
    }

    /// No news came: a few lines of each queue are asked, in turn.
    pub(crate) fn look(&mut self) {
        for queue in &mut self.queues {
            queue.rotation.look();
        }
    }

    /// Any line may have tasks.
    pub(crate) fn rouse(&mut self) {
        for queue in &mut self.queues {
            queue.rotation.rouse();
        }
    }

    /// The worker waits, so that it hears of each shard.
    pub(crate) fn wait(&mut self, now: Instant) {
        self.looked = now;
    }

    /// When to ask some line again at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let returns = self.queues.iter().filter_map(|q| q.rotation.next_return());
        returns.chain(self.watch()).min()
    }

    /// When to ask a line whose clock it watches.
    pub(crate) fn watch(&self) -> Option<Instant> {
        self.watches.iter().flatten().copied().min()
    }

    /// Whether some line did not answer lately.
    pub(crate) fn misses_some(&self) -> bool {
        let mut queues = self.queues.iter();
        queues.any(|queue| queue.rotation.next_return().is_some())
    }

    /// The lines whose time has come. The watch over their clocks ends.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<usize> {
        let watches = (0..).zip(&mut self.watches);
        let due = watches.filter_map(|(line, watch)| watch.take_if(|at| *at <= now).map(|_| line));
        due.collect()
    }

    fn with(&mut self, line: usize, act: impl Fn(&mut Rotation, usize)) {
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.has(line)) {
            act(&mut queue.rotation, line - queue.first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Option<Duration> = None;
    const MORE: Option<Duration> = Some(Duration::ZERO);

    /// Turns, and a clock.
    struct Test {
        turns: Turns,
        now: Instant,
    }

    impl Test {
        fn new(shards: &[usize]) -> Self {
            let now = Instant::now();
            let turns = Turns::new(shards, now);
            Self { turns, now }
        }

        fn pass(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        /// Asks in a round, until one of the full lines fills the slots.
        fn round(&mut self, full: &[usize]) -> Vec<usize> {
            let mut asked = Vec::new();
            self.turns.begin(self.now);
            while let Some(line) = self.turns.next() {
                asked.push(line);
                if full.contains(&line) {
                    self.turns.answered(line, MORE);
                    break;
                }
                self.turns.answered(line, NOTHING);
            }
            asked
        }
    }

    #[test]
    fn queues_of_one_shard_are_asked_in_their_order_in_each_round() {
        let mut test = Test::new(&[1, 1, 1]);
        for _ in 0..3 {
            assert_eq!(test.round(&[]), [0, 1, 2]);
            assert_eq!(test.round(&[1]), [0, 1]);
        }
    }

    #[test]
    fn an_earlier_queue_goes_first_whatever_its_shards() {
        let mut test = Test::new(&[4, 4]);
        assert_eq!(test.round(&[]).len(), 8);
        test.turns.hear(6);
        test.turns.hear(2);
        assert_eq!(test.round(&[2, 6]), [2]);
    }

    #[test]
    fn a_token_costs_one_claim() {
        let mut test = Test::new(&[16]);
        test.round(&[]);
        for line in [3, 9, 3] {
            test.pass(1000);
            test.turns.wait(test.now);
            test.turns.hear(line);
            assert_eq!(test.round(&[]), [line]);
        }
    }

    #[test]
    fn no_shard_starves_while_another_is_full_and_few_claims_come_back_empty() {
        let mut test = Test::new(&[12]);
        test.round(&[]);
        test.turns.hear(5);
        let (mut empty, mut rounds) = (0, 0);
        while !test.round(&[5, 7]).contains(&7) {
            rounds += 1;
            test.pass(10);
        }
        assert!(rounds <= 12 * 25 + 12, "{rounds}");
        // Both are full now, and take turns.
        let mut got = [0; 12];
        for _ in 0..1000 {
            let asked = test.round(&[5, 7]);
            empty += asked.len() - 1;
            got[*asked.last().unwrap()] += 1;
            test.pass(10);
        }
        assert!(got[5] > 450 && got[7] > 450, "{got:?}");
        assert!(empty <= 1000 / 25 + 1, "{empty}");
    }

    #[test]
    fn a_line_whose_clock_it_watches_is_asked_in_time() {
        let mut test = Test::new(&[8]);
        test.round(&[]);
        test.turns.hear(4);
        test.turns.begin(test.now);
        assert_eq!(test.turns.next(), Some(4));
        test.turns.answered(4, Some(Duration::from_secs(2)));
        assert_eq!(
            test.turns.deadline(),
            Some(test.now + Duration::from_secs(2))
        );
        test.pass(2000);
        test.turns.wait(test.now);
        assert_eq!(test.round(&[]), [4]);
        assert_eq!(test.turns.deadline(), None);
    }

    #[test]
    fn a_line_that_does_not_answer_holds_up_no_other() {
        let mut test = Test::new(&[3]);
        test.turns.begin(test.now);
        test.turns.set_aside(1);
        let mut asked = test.round(&[]);
        asked.sort_unstable();
        assert_eq!(asked, [0, 2]);
        assert!(test.turns.misses_some());
        test.now = test.turns.deadline().unwrap();
        test.turns.wait(test.now);
        assert_eq!(test.round(&[]), [1]);
        assert!(!test.turns.misses_some());
    }
}
