//! Conditions against a list of sleepers.

use std::time::Duration;

use pmq_broker::Condition;
use pmq_tests::shared;
use proptest::prelude::*;

use super::{Waiting, clients, fresh_name, runtime};
use crate::keys::Keys;

#[derive(Clone, Debug)]
enum Act {
    Sleep,
    /// A sleep whose time is over at once.
    Nap,
    Notify(usize),
    NotifyAll,
    /// The wait is dropped.
    Drop(usize),
    /// The process of the wait dies; its lease ends now, or when it has been notified.
    Crash(usize, bool),
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        8 => Just(Act::Sleep),
        1 => Just(Act::Nap),
        4 => (0..3_usize).prop_map(Act::Notify),
        1 => Just(Act::NotifyAll),
        1 => (0..5_usize).prop_map(Act::Drop),
        2 => (0..5_usize, any::<bool>()).prop_map(|(n, now)| Act::Crash(n, now)),
    ];
    prop::collection::vec((0..3_usize, act), 1..25)
}

/// A sleep; its fence when it has woken. It gives the lock back at once.
type Sleep = Waiting<u64>;

struct Model {
    keys: Keys,
    sleepers: String,
    /// Who sleeps, in order; those without a call have died.
    line: Vec<(Option<Sleep>, Vec<u8>)>,
    last_fence: u64,
}

impl Model {
    async fn run(&mut self, condition: &Condition, act: &Act) {
        match *act {
            Act::Sleep => self.sleep(condition).await,
            Act::Nap => {
                let permit = condition.acquire().await.unwrap();
                let napped = condition.wait_timeout(permit, Duration::ZERO).await;
                let (permit, notified) = napped.unwrap();
                assert!(!notified);
                self.grew(permit.fence());
                permit.release().await.unwrap();
            }
            Act::Notify(n) => self.notify(condition, n).await,
            Act::NotifyAll => self.notify(condition, usize::MAX).await,
            Act::Drop(n) if self.is_alive(n) => {
                let sleep = self.line.remove(n).0.unwrap();
                sleep.drop_it().await;
                let left = self.line.len();
                self.keys.wait_for_line(&self.sleepers, left).await;
            }
            Act::Crash(n, now) if self.is_alive(n) => {
                let (sleep, member) = &mut self.line[n];
                sleep.take().unwrap().crash().await;
                if now {
                    self.keys.end_lease(member);
                }
            }
            Act::Drop(_) | Act::Crash(..) => {}
        }
        let sleeping = self.line.iter().filter_map(|(sleep, _)| sleep.as_ref());
        assert!(sleeping.into_iter().all(|sleep| !sleep.is_over()));
    }

    fn is_alive(&self, n: usize) -> bool {
        self.line.get(n).is_some_and(|(sleep, _)| sleep.is_some())
    }

    fn grew(&mut self, fence: u64) {
        assert!(fence > self.last_fence);
        self.last_fence = fence;
    }

    async fn sleep(&mut self, condition: &Condition) {
        let before = self.keys.line(&self.sleepers).len();
        let condition = condition.clone();
        let sleep = Waiting::start(async move {
            let permit = condition.acquire().await.unwrap();
            let permit = condition.wait(permit).await.unwrap();
            let fence = permit.fence();
            permit.release().await.unwrap();
            fence
        });
        self.keys.wait_for_line(&self.sleepers, before + 1).await;
        let member = self.keys.line(&self.sleepers).pop().unwrap();
        self.line.push((Some(sleep), member));
    }

    /// The first `n` that live wake, in their order.
    async fn notify(&mut self, condition: &Condition, n: usize) {
        let permit = condition.acquire().await.unwrap();
        self.grew(permit.fence());
        condition.notify(&permit, n).await.unwrap();
        permit.release().await.unwrap();
        let woken = self.take_first(n);
        let dead = || woken.iter().filter(|(sleep, _)| sleep.is_none());
        if dead().next().is_some() {
            // They may have been notified, and even hold the lock: whoever comes next passes that on.
            dead().for_each(|(_, member)| self.keys.end_lease(member));
            let next = condition.acquire().await.unwrap();
            next.release().await.unwrap();
        }
        for sleep in woken.into_iter().filter_map(|(sleep, _)| sleep) {
            self.grew(sleep.result().await);
        }
    }

    /// The first of the line, up to the `n`-th that lives.
    fn take_first(&mut self, n: usize) -> Vec<(Option<Sleep>, Vec<u8>)> {
        let alive = (0..self.line.len()).filter(|&at| self.is_alive(at));
        let end = match n {
            0 => 0,
            _ => alive
                .take(n)
                .nth(n - 1)
                .map_or(self.line.len(), |at| at + 1),
        };
        self.line.drain(..end).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn each_notification_wakes_one_that_lives_in_order(acts in acts()) {
        let name = fresh_name();
        let conditions: Vec<Condition> = clients(3).iter().map(|broker| broker.condition(&name)).collect();
        let mut model = Model {
            keys: Keys::new(shared(), "lock", &name),
            sleepers: format!("sleepers:{name}"),
            line: Vec::new(),
            last_fence: 0,
        };
        runtime().block_on(async {
            for (client, act) in &acts {
                model.run(&conditions[*client], act).await;
            }
            model.run(&conditions[0], &Act::NotifyAll).await;
        });
    }
}
