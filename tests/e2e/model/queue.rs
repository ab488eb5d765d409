//! Queues beside one in memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};

use pmq_broker::{Broker, Config, Error, GetError, JoinableQueue, PutError};
use pmq_tests::shared::Raw;
use pmq_tests::{Redis, eventually_async, shared};
use proptest::prelude::*;
use tokio::time::timeout;

use crate::fleet::{SOON, name};

const CLIENTS: usize = 3;
/// The end (ms) of a lease that ends only where the test says so, as nobody polls who waits.
const FAR: u64 = u64::MAX >> 12;
static QUEUES: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Debug)]
enum Op {
    Put {
        client: usize,
        n: usize,
    },
    Get {
        client: usize,
        n: usize,
    },
    WaitToPut {
        client: usize,
    },
    WaitToGet {
        client: usize,
    },
    /// A waiter's future is dropped, or it is forgotten as by a crash.
    Cancel(prop::sample::Index),
    Crash(prop::sample::Index),
    /// The lease of one that crashed ends.
    Expire(prop::sample::Index),
    TaskDone {
        client: usize,
        n: usize,
    },
    Join {
        client: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (client.clone(), 1..4usize).prop_map(|(client, n)| Op::Put { client, n }),
        4 => (client.clone(), 1..4usize).prop_map(|(client, n)| Op::Get { client, n }),
        3 => client.clone().prop_map(|client| Op::WaitToPut { client }),
        3 => client.clone().prop_map(|client| Op::WaitToGet { client }),
        1 => any::<prop::sample::Index>().prop_map(Op::Cancel),
        2 => any::<prop::sample::Index>().prop_map(Op::Crash),
        2 => any::<prop::sample::Index>().prop_map(Op::Expire),
        2 => (client.clone(), 1..3usize).prop_map(|(client, n)| Op::TaskDone { client, n }),
        1 => client.prop_map(|client| Op::Join { client }),
    ]
}

/// What a wait came to: the item that was got, or that was put.
type Wait = Pin<Box<dyn Future<Output = u64>>>;

/// Somebody in a line.
struct Waiter {
    member: Vec<u8>,
    /// What it puts; nothing for who gets.
    item: Option<u64>,
    /// Nothing for one that crashed.
    wait: Option<Wait>,
}

/// The queue in memory.
#[derive(Default)]
struct Plain {
    maxsize: usize,
    items: VecDeque<u64>,
    getters: VecDeque<Waiter>,
    putters: VecDeque<Waiter>,
    /// Who crashed in a line, and what it was granted since: an item, or room.
    granted: Vec<(Waiter, Option<u64>)>,
    /// The members whose lease has ended, in this order.
    ended: Vec<Vec<u8>>,
    unfinished: usize,
}

impl Plain {
    fn size(&self) -> usize {
        self.items.len()
            + self
                .granted
                .iter()
                .filter(|(_, item)| item.is_some())
                .count()
    }

    /// Room that is taken or granted.
    fn taken(&self) -> usize {
        self.items.len() + self.granted.len()
    }

    fn room(&self) -> usize {
        match self.maxsize {
            0 => usize::MAX,
            n => n - self.taken(),
        }
    }

    fn push(&mut self, item: u64) {
        self.items.push_back(item);
        self.unfinished += 1;
    }

    /// What every call does first: what those had whose lease has ended goes to the next.
    fn sweep(&mut self) {
        for member in std::mem::take(&mut self.ended) {
            self.getters.retain(|waiter| waiter.member != member);
            self.putters.retain(|waiter| waiter.member != member);
            let at = self.granted.iter().position(|(w, _)| w.member == member);
            if let Some(item) = at.and_then(|at| self.granted.remove(at).1) {
                self.items.push_front(item);
            }
        }
        self.serve();
    }

    /// Grants items and room to those in line.
    fn serve(&mut self) {
        while !self.items.is_empty()
            && let Some(waiter) = self.getters.pop_front()
        {
            let item = self.items.pop_front();
            self.granted.push((waiter, item));
        }
        while self.room() > 0
            && let Some(waiter) = self.putters.pop_front()
        {
            self.granted.push((waiter, None));
        }
    }

    /// The next who lives and was granted what it waited for: what it does then ends with this item.
    fn next_done(&mut self) -> Option<(Wait, u64)> {
        self.serve();
        let at = self.granted.iter().position(|(w, _)| w.wait.is_some())?;
        let (mut waiter, item) = self.granted.remove(at);
        if let Some(put) = waiter.item {
            self.push(put);
        }
        Some((waiter.wait.take()?, item.or(waiter.item)?))
    }

    fn waiters(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.getters.iter_mut().chain(&mut self.putters)
    }
}

/// The queue in Redis, as several clients see it, and the one in memory.
struct Twins<'a> {
    brokers: &'a [Broker],
    queues: Vec<JoinableQueue<u64>>,
    redis: Raw,
    plain: Plain,
    next: u64,
    ends: u64,
}

impl<'a> Twins<'a> {
    fn new(brokers: &'a [Broker], maxsize: usize) -> Self {
        let number = QUEUES.fetch_add(1, Ordering::Relaxed);
        let name = name(&format!("model{number}"));
        let open = |broker: &Broker| broker.joinable_queue(&name).maxsize(maxsize as u64);
        Self {
            brokers,
            queues: brokers.iter().map(open).collect(),
            redis: shared().raw(),
            plain: Plain {
                maxsize,
                ..Plain::default()
            },
            next: 0,
            ends: 0,
        }
    }

    fn key(&self, part: &str) -> String {
        format!("pmq:queue:{{{}}}:{part}", self.queues[0].name())
    }

    fn item(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    async fn step(&mut self, op: Op) {
        match op {
            Op::Put { client, n } => self.put(client, n).await,
            Op::Get { client, n } => self.get(client, n).await,
            Op::WaitToPut { client } => self.wait_to_put(client).await,
            Op::WaitToGet { client } => self.wait_to_get(client).await,
            Op::Cancel(index) => self.cancel(index).await,
            Op::Crash(index) => {
                let mut living: Vec<_> =
                    self.plain.waiters().filter(|w| w.wait.is_some()).collect();
                if !living.is_empty() {
                    let at = index.index(living.len());
                    std::mem::forget(living[at].wait.take());
                }
            }
            Op::Expire(index) => self.expire(index),
            Op::TaskDone { client, n } => self.task_done(client, n).await,
            Op::Join { client } => {
                let joined = self.queues[client].join_timeout(std::time::Duration::ZERO);
                assert_eq!(joined.await.unwrap(), self.plain.unfinished == 0);
                self.plain.sweep();
            }
        }
        self.settle().await;
    }

    /// What the lines came to, and how the queue stands.
    async fn settle(&mut self) {
        while let Some((wait, item)) = self.plain.next_done() {
            assert_eq!(timeout(SOON, wait).await, Ok(item));
        }
        let queue = &self.queues[0];
        assert_eq!(queue.qsize().await.unwrap() as usize, self.plain.size());
        let full = self.plain.maxsize > 0 && self.plain.room() == 0;
        assert_eq!(queue.full().await.unwrap(), full);
    }

    async fn put(&mut self, client: usize, n: usize) {
        let items: Vec<u64> = (0..n).map(|_| self.item()).collect();
        let put = self.queues[client].put_many_nowait(items.clone()).await;
        self.plain.sweep();
        let fit = n.min(self.plain.room());
        items[..fit].iter().for_each(|item| self.plain.push(*item));
        match put {
            Ok(()) => assert_eq!(fit, n),
            Err(PutError::Full(rest)) => assert_eq!(rest, items[fit..]),
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn get(&mut self, client: usize, n: usize) {
        let got = self.queues[client].get_many_nowait(n).await;
        self.plain.sweep();
        let fit = n.min(self.plain.items.len());
        let expected: Vec<u64> = self.plain.items.drain(..fit).collect();
        match got {
            Ok(items) => assert_eq!(items, expected),
            Err(GetError::Empty) => assert!(expected.is_empty(), "{expected:?}"),
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn wait_to_get(&mut self, client: usize) {
        let queue = self.queues[client].clone();
        let wait: Wait = Box::pin(async move { queue.get().await.unwrap() });
        if let Some(waiter) = self.join_line(client, wait, None).await {
            self.plain.getters.push_back(waiter);
        }
    }

    async fn wait_to_put(&mut self, client: usize) {
        let (queue, item) = (self.queues[client].clone(), self.item());
        let wait: Wait = Box::pin(async move {
            queue.put(item).await.unwrap();
            item
        });
        if let Some(waiter) = self.join_line(client, wait, Some(item)).await {
            self.plain.putters.push_back(waiter);
        }
    }

    /// Begins a wait; answers the waiter that stands in line then, nothing where it need not.
    async fn join_line(
        &mut self,
        client: usize,
        mut wait: Wait,
        item: Option<u64>,
    ) -> Option<Waiter> {
        let key = self.key(item.map_or("getters", |_| "putters"));
        let before: Vec<Vec<u8>> = self.line(&key);
        let member = async {
            eventually_async("it waits", SOON, async || {
                let mut now: Vec<Vec<u8>> = self.line(&key);
                now.retain(|member| !before.contains(member));
                now.pop()
            })
            .await
        };
        let ended = tokio::select! {
            biased;
            done = &mut wait => Ok(done),
            member = member => Err(member),
        };
        self.plain.sweep();
        match ended {
            Err(member) => {
                self.all_arrived(client).await;
                self.set_lease_end(&member, FAR);
                Some(Waiter {
                    member,
                    item,
                    wait: Some(wait),
                })
            }
            Ok(put) if item.is_some() => {
                assert!(self.plain.room() > 0);
                self.plain.push(put);
                None
            }
            Ok(got) => {
                assert_eq!(Some(got), self.plain.items.pop_front());
                None
            }
        }
    }

    /// Waits until the calls of a client have arrived, also of one that is not polled any more: else a late one renews a
    /// lease after the test has set its end. Small and large calls have a connection each, which keeps their order.
    async fn all_arrived(&self, client: usize) {
        self.brokers[client].ping().await.unwrap();
        let empty = self.brokers[client].queue::<u64>(&name("model.empty"));
        let got = empty.get_nowait().await;
        assert!(matches!(got, Err(GetError::Empty)), "{got:?}");
    }

    fn set_lease_end(&mut self, member: &[u8], end: u64) {
        let mut set = redis::cmd("ZADD");
        set.arg(self.key("members")).arg("XX").arg(end).arg(member);
        set.exec(&mut self.redis).unwrap();
    }

    fn line(&mut self, key: &str) -> Vec<Vec<u8>> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(key).arg(0).arg(-1);
        range.query(&mut self.redis).unwrap()
    }

    async fn cancel(&mut self, index: prop::sample::Index) {
        let living = self.plain.waiters().filter(|waiter| waiter.wait.is_some());
        let members: Vec<_> = living.map(|waiter| waiter.member.clone()).collect();
        if members.is_empty() {
            return;
        }
        let member = index.get(&members);
        self.plain.getters.retain(|waiter| waiter.member != *member);
        self.plain.putters.retain(|waiter| waiter.member != *member);
        let keys = [self.key("getters"), self.key("putters")];
        eventually_async("it has left the line", SOON, async || {
            let stands = keys.iter().any(|key| self.line(key).contains(member));
            (!stands).then_some(())
        })
        .await;
    }

    fn expire(&mut self, index: prop::sample::Index) {
        let granted = self.plain.granted.iter().map(|(w, _)| w.member.clone());
        let mut members: Vec<_> = granted.collect();
        let dead = self.plain.waiters().filter(|w| w.wait.is_none());
        members.extend(dead.map(|w| w.member.clone()));
        members.retain(|member| !self.plain.ended.contains(member));
        if members.is_empty() {
            return;
        }
        let member = index.get(&members);
        self.ends += 1;
        self.set_lease_end(member, self.ends);
        self.plain.ended.push(member.clone());
    }

    async fn task_done(&mut self, client: usize, n: usize) {
        let done = self.queues[client].tasks_done(n).await;
        self.plain.sweep();
        match self.plain.unfinished.checked_sub(n) {
            Some(left) => {
                done.unwrap();
                self.plain.unfinished = left;
            }
            None => assert!(matches!(done, Err(Error::TooManyDone { .. })), "{done:?}"),
        }
    }
}

#[test]
fn a_queue_does_what_one_in_memory_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config::url(shared().url());
    let brokers: Vec<Broker> = (0..CLIENTS)
        .map(|_| runtime.block_on(Broker::connect(&config)).unwrap())
        .collect();
    let cases = ProptestConfig {
        cases: 256,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let input = (proptest::collection::vec(op(), 1..40), 0..4usize);
    let run = |(ops, maxsize): (Vec<Op>, usize)| {
        runtime.block_on(async {
            let mut twins = Twins::new(&brokers, maxsize);
            for op in ops {
                twins.step(op).await;
            }
        });
        Ok(())
    };
    proptest::test_runner::TestRunner::new(cases)
        .run(&input, run)
        .unwrap();
}
