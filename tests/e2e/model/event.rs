//! Events against a flag and a list of those who wait.

use std::time::Duration;

use pmq_broker::{Event, Result};
use pmq_tests::shared;
use proptest::prelude::*;

use super::{Waiting, clients, fresh_name, runtime};
use crate::keys::Keys;

#[derive(Clone, Debug)]
enum Act {
    Set,
    Clear,
    Wait,
    /// The wait is dropped.
    Drop(usize),
    /// The process of the wait dies; its lease ends.
    Crash(usize),
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        2 => Just(Act::Set),
        2 => Just(Act::Clear),
        6 => Just(Act::Wait),
        1 => (0..8_usize).prop_map(Act::Drop),
        1 => (0..8_usize).prop_map(Act::Crash),
    ];
    prop::collection::vec((0..3_usize, act), 1..25)
}

struct Model {
    keys: Keys,
    set: bool,
    waiting: Vec<(Waiting<Result<bool>>, Vec<u8>)>,
}

impl Model {
    async fn run(&mut self, event: &Event, act: &Act) {
        match *act {
            Act::Set => {
                event.set().await.unwrap();
                self.set = true;
                for (wait, _) in self.waiting.drain(..) {
                    assert!(wait.result().await.unwrap());
                }
            }
            Act::Clear => {
                event.clear().await.unwrap();
                self.set = false;
            }
            Act::Wait => {
                let event = event.clone();
                let wait = async move { event.wait_timeout(Duration::MAX).await };
                self.wait(Waiting::start(wait)).await;
            }
            Act::Drop(n) if n < self.waiting.len() => self.waiting.remove(n).0.drop_it().await,
            Act::Crash(n) if n < self.waiting.len() => {
                let (wait, member) = self.waiting.remove(n);
                wait.crash().await;
                self.keys.end_lease(&member);
                event.clear().await.unwrap(); // whoever comes next sweeps; unset it is, as somebody waited
            }
            Act::Drop(_) | Act::Crash(_) => {}
        }
        assert_eq!(event.is_set().await.unwrap(), self.set);
        self.keys.wait_for_line("waiters", self.waiting.len()).await;
        assert!(self.waiting.iter().all(|(wait, _)| !wait.is_over()));
    }

    async fn wait(&mut self, wait: Waiting<Result<bool>>) {
        if self.set {
            assert!(wait.result().await.unwrap());
            return;
        }
        let known = self.waiting.len();
        self.keys.wait_for_line("waiters", known + 1).await;
        let mut line = self.keys.line("waiters");
        line.retain(|member| self.waiting.iter().all(|(_, known)| known != member));
        self.waiting.push((wait, line.remove(0)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whoever_waits_is_woken_by_the_next_set_and_by_nothing_else(acts in acts()) {
        let name = fresh_name();
        let events: Vec<Event> = clients(3).iter().map(|broker| broker.event(&name)).collect();
        let mut model = Model {
            keys: Keys::new(shared(), "event", &name),
            set: false,
            waiting: Vec::new(),
        };
        runtime().block_on(async {
            for (client, act) in &acts {
                model.run(&events[*client], act).await;
            }
            model.run(&events[0], &Act::Set).await;
        });
    }
}
