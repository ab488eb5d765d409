//! Barriers against a list of those who have arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pmq_broker::{Barrier, Error, Result};
use pmq_tests::shared;
use proptest::prelude::*;

use super::{Waiting, clients, fresh_name, runtime};
use crate::keys::Keys;

const PARTIES: usize = 3;

#[derive(Clone, Debug)]
enum Act {
    Wait,
    /// A wait that gives up at once, if it is not the last.
    Glance,
    Abort,
    Reset,
    /// The wait is dropped.
    Drop(usize),
    /// The process of the wait dies; its lease ends.
    Crash(usize),
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        12 => Just(Act::Wait),
        1 => Just(Act::Glance),
        1 => Just(Act::Abort),
        3 => Just(Act::Reset),
        1 => (0..PARTIES).prop_map(Act::Drop),
        1 => (0..PARTIES).prop_map(Act::Crash),
    ];
    prop::collection::vec((0..3_usize, act), 1..25)
}

struct Model {
    keys: Keys,
    /// How often the action ran, and how often it should have.
    actions: Arc<AtomicU32>,
    rounds: u32,
    broken: bool,
    line: Vec<(Waiting<Result<u32>>, Vec<u8>)>,
}

impl Model {
    async fn run(&mut self, barrier: &Barrier, act: &Act) {
        match *act {
            Act::Wait => self.arrive(barrier, Duration::MAX).await,
            Act::Glance => self.arrive(barrier, Duration::ZERO).await,
            Act::Abort => {
                barrier.abort().await.unwrap();
                self.broken = true;
            }
            Act::Reset => {
                barrier.reset().await.unwrap();
                self.all_broken().await;
                self.broken = false;
            }
            Act::Drop(n) if n < self.line.len() => {
                self.line.remove(n).0.drop_it().await;
                self.broken = true;
            }
            Act::Crash(n) if n < self.line.len() => {
                let (wait, member) = self.line.remove(n);
                wait.crash().await;
                self.keys.end_lease(&member);
                // Whoever comes next sees it.
                assert!(is_broken(&barrier.wait().await));
                self.broken = true;
            }
            Act::Drop(_) | Act::Crash(_) => {}
        }
        if self.broken {
            self.all_broken().await;
        }
        self.keys.wait_for_line("waiters", self.line.len()).await;
        assert_eq!(barrier.broken().await.unwrap(), self.broken);
        assert_eq!(barrier.n_waiting().await.unwrap() as usize, self.line.len());
        assert_eq!(self.actions.load(Ordering::Relaxed), self.rounds);
        assert!(self.line.iter().all(|(wait, _)| !wait.is_over()));
    }

    async fn arrive(&mut self, barrier: &Barrier, timeout: Duration) {
        let barrier = barrier.clone();
        let wait = Waiting::start(async move { barrier.wait_timeout(timeout).await });
        if self.broken {
            assert!(is_broken(&wait.result().await));
        } else if self.line.len() == PARTIES - 1 {
            self.rounds += 1;
            assert_eq!(wait.result().await.unwrap() as usize, PARTIES - 1);
            for (index, (wait, _)) in self.line.drain(..).enumerate() {
                assert_eq!(wait.result().await.unwrap() as usize, index);
            }
        } else if timeout.is_zero() {
            assert!(is_broken(&wait.result().await));
            self.broken = true;
        } else {
            let known = self.line.len();
            self.keys.wait_for_line("waiters", known + 1).await;
            let member = self.keys.line("waiters").pop().unwrap();
            self.line.push((wait, member));
        }
    }

    async fn all_broken(&mut self) {
        for (wait, _) in self.line.drain(..) {
            assert!(is_broken(&wait.result().await));
        }
    }
}

fn is_broken(result: &Result<u32>) -> bool {
    matches!(result, Err(Error::BrokenBarrier { .. }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn parties_pass_together_by_arrival_or_break_together(acts in acts()) {
        let name = fresh_name();
        let actions = Arc::new(AtomicU32::new(0));
        let barriers: Vec<Barrier> = clients(3).iter().map(|broker| {
            let actions = actions.clone();
            broker.barrier(&name, PARTIES as u32).with_action(move || {
                actions.fetch_add(1, Ordering::Relaxed);
                async { Ok::<_, Error>(()) }
            })
        }).collect();
        let mut model = Model {
            keys: Keys::new(shared(), "barrier", &name),
            actions,
            rounds: 0,
            broken: false,
            line: Vec::new(),
        };
        runtime().block_on(async {
            for (client, act) in &acts {
                model.run(&barriers[*client], act).await;
            }
            model.run(&barriers[0], &Act::Reset).await;
        });
    }
}
