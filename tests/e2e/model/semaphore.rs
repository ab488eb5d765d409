//! Semaphores, and locks, which are semaphores of one permit: who holds what, who is next, and who is told of the dead.

use std::collections::VecDeque;

use pmq_broker::{Broker, Config, Error, Permit, Semaphore};
use pmq_tests::{Proxy, RedisServer, eventually_async, shared};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use tokio::task::JoinHandle;

use crate::fleet::{SOON, name};
use crate::keys::Keys;

const CLIENTS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Without waiting, by this client.
    Acquire(usize),
    /// Begins to wait.
    Wait(usize),
    /// One of those who wait, by its place.
    GiveUp(usize),
    /// One of the holders, by its turn.
    Release(usize),
    Leak(usize),
    Post(usize),
    /// The client is never heard of again; another takes its place.
    Crash(usize),
    /// The leases of what it holds end, while it lives.
    Expire(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let client = || 0..CLIENTS;
    let any = || 0..100_usize;
    prop_oneof![
        4 => client().prop_map(Operation::Acquire),
        6 => client().prop_map(Operation::Wait),
        2 => any().prop_map(Operation::GiveUp),
        5 => any().prop_map(Operation::Release),
        1 => any().prop_map(Operation::Leak),
        2 => client().prop_map(Operation::Post),
        2 => client().prop_map(Operation::Crash),
        1 => client().prop_map(Operation::Expire),
    ]
}

/// What the reference knows of a holder or waiter: who it is, and whether its client has died.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Who {
    number: usize,
    client: usize,
    is_dead: bool,
}

/// The reference.
#[derive(Debug)]
struct Reference {
    permits: i64,
    bounded: bool,
    extra: i64,
    /// In the order of their grants.
    holders: Vec<Who>,
    line: VecDeque<Who>,
    abandoned: bool,
    /// Granted in this step: who, and whether it was told of a dead holder.
    granted: Vec<(usize, bool)>,
}

impl Reference {
    fn free(&self) -> i64 {
        self.permits + self.extra - self.holders.len() as i64
    }

    /// Without those of the dead, which are as good as free.
    fn value(&self) -> u64 {
        let dead = self.holders.iter().filter(|who| who.is_dead).count();
        (self.free() + dead as i64).max(0) as u64
    }

    fn grant(&mut self, who: Who) {
        self.granted
            .push((who.number, std::mem::take(&mut self.abandoned)));
        self.holders.push(who);
    }

    fn sweep(&mut self) {
        self.abandoned |= self.holders.iter().any(|who| who.is_dead);
        self.holders.retain(|who| !who.is_dead);
        self.line.retain(|who| !who.is_dead);
    }

    fn hand_over(&mut self) {
        while self.free() > 0
            && let Some(next) = self.line.pop_front()
        {
            if !next.is_dead {
                self.grant(next);
            }
        }
    }

    /// Answers whether it was granted.
    fn acquire(&mut self, who: Who, waits: bool) -> bool {
        if self.free() <= 0 {
            self.sweep();
            self.hand_over();
        }
        if self.free() > 0 {
            self.grant(who);
            return true;
        }
        if waits {
            self.line.push_back(who);
        }
        false
    }

    fn end(&mut self, number: usize, leak: bool) {
        self.holders.retain(|who| who.number != number);
        self.extra -= i64::from(leak);
        self.hand_over();
    }

    /// Answers who lost its permit, where it lives, or that nothing was held.
    fn post(&mut self) -> Result<Option<usize>, ()> {
        let mut loser = None;
        if self.bounded && self.extra >= 0 {
            if self.holders.is_empty() {
                return Err(());
            }
            let dead = self.holders.iter().position(|who| who.is_dead);
            let lost = self.holders.remove(dead.unwrap_or(0));
            self.abandoned |= lost.is_dead;
            loser = (!lost.is_dead).then_some(lost.number);
        } else {
            self.extra += 1;
        }
        self.sweep();
        self.hand_over();
        Ok(loser)
    }

    fn kill(&mut self, client: usize, waiters_too: bool) {
        let of = |who: &&mut Who| who.client == client;
        self.holders
            .iter_mut()
            .filter(of)
            .for_each(|who| who.is_dead = true);
        if waiters_too {
            self.line
                .iter_mut()
                .filter(of)
                .for_each(|who| who.is_dead = true);
        }
    }
}

/// A client that can be cut off.
struct Client {
    proxy: Proxy,
    semaphore: Semaphore,
    /// How the names of its members begin.
    prefix: Vec<u8>,
}

impl Client {
    async fn new(scene: &str, permits: u64, bounded: bool) -> Self {
        let server = RedisServer::shared();
        let proxy = Proxy::to(server);
        let broker = Broker::connect(&Config::url(proxy.url())).await.unwrap();
        let probe = broker.lock(&name(&format!("probe.{}", fastrand::u64(..))));
        probe.acquire().await.unwrap().release().await.unwrap();
        let held = probe.acquire().await.unwrap();
        let prefix = Keys::new(server, "lock", probe.name()).lone_holder()[..10].to_vec();
        held.release().await.unwrap();
        let semaphore = if bounded {
            broker.bounded_semaphore(&name(scene), permits)
        } else {
            broker.semaphore(&name(scene), permits)
        };
        Self {
            proxy,
            semaphore,
            prefix,
        }
    }
}

/// The real thing beside the reference.
struct Scene {
    name: String,
    reference: Reference,
    clients: Vec<Client>,
    waiting: Vec<(usize, JoinHandle<Permit>)>,
    held: Vec<(usize, Permit)>,
    made: usize,
    last_fence: u64,
    /// What the dead held: their processes would be gone, and give nothing back.
    graves: Vec<(Client, Vec<Permit>)>,
}

impl Scene {
    async fn new(permits: u64, bounded: bool) -> Self {
        let name = format!("model.{}", fastrand::u64(..));
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Client::new(&name, permits, bounded).await);
        }
        let reference = Reference {
            permits: permits as i64,
            bounded,
            extra: 0,
            holders: Vec::new(),
            line: VecDeque::new(),
            abandoned: false,
            granted: Vec::new(),
        };
        Self {
            name,
            reference,
            clients,
            waiting: Vec::new(),
            held: Vec::new(),
            made: 0,
            last_fence: 0,
            graves: Vec::new(),
        }
    }

    async fn walk(mut self, operations: Vec<Operation>) {
        for operation in operations {
            self.step(operation).await;
            self.compare(operation).await;
        }
        for (_, waits) in self.waiting {
            waits.abort();
        }
        for (_, permit) in self.held {
            permit.release().await.unwrap();
        }
        for (client, permits) in self.graves {
            permits.into_iter().for_each(std::mem::forget);
            std::mem::forget(client.semaphore);
        }
    }

    async fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Acquire(client) => self.acquire(client).await,
            Operation::Wait(client) => self.wait(client),
            Operation::GiveUp(place) => self.give_up(place),
            Operation::Release(turn) => self.end(turn, false).await,
            Operation::Leak(turn) => self.end(turn, true).await,
            Operation::Post(client) => self.post(client).await,
            Operation::Crash(client) => self.crash(client).await,
            Operation::Expire(client) => self.expire(client).await,
        }
    }

    fn who(&mut self, client: usize) -> Who {
        self.made += 1;
        Who {
            number: self.made,
            client,
            is_dead: false,
        }
    }

    async fn acquire(&mut self, client: usize) {
        let who = self.who(client);
        let expected = self.reference.acquire(who, false);
        let permit = self.clients[client]
            .semaphore
            .acquire_nowait()
            .await
            .unwrap();
        assert_eq!(permit.is_some(), expected);
        if let Some(permit) = permit {
            // Those who waited were granted theirs before.
            let place = self
                .reference
                .granted
                .iter()
                .position(|(number, _)| *number == who.number);
            let (_, abandoned) = self.reference.granted.remove(place.unwrap());
            assert_eq!(permit.was_abandoned(), abandoned);
            self.check_grants().await;
            self.hold(who.number, permit);
        }
    }

    fn wait(&mut self, client: usize) {
        let who = self.who(client);
        self.reference.acquire(who, true);
        let semaphore = self.clients[client].semaphore.clone();
        let waits = tokio::spawn(async move { semaphore.acquire().await.unwrap() });
        self.waiting.push((who.number, waits));
    }

    fn give_up(&mut self, place: usize) {
        let alive: Vec<Who> = self
            .reference
            .line
            .iter()
            .copied()
            .filter(|who| !who.is_dead)
            .collect();
        if alive.is_empty() {
            return;
        }
        let who = alive[place % alive.len()];
        self.reference.line.retain(|other| *other != who);
        let place = self
            .waiting
            .iter()
            .position(|(number, _)| *number == who.number);
        self.waiting.remove(place.unwrap()).1.abort();
    }

    async fn end(&mut self, turn: usize, leak: bool) {
        if self.held.is_empty() {
            return;
        }
        let (number, permit) = self.held.remove(turn % self.held.len());
        self.reference.end(number, leak);
        let ended = if leak {
            permit.leak().await
        } else {
            permit.release().await
        };
        ended.unwrap();
    }

    async fn post(&mut self, client: usize) {
        let expected = self.reference.post();
        let posted = self.clients[client].semaphore.release().await;
        let Ok(loser) = expected else {
            assert!(matches!(posted, Err(Error::NotHeld { .. })), "{posted:?}");
            return;
        };
        posted.unwrap();
        if let Some(loser) = loser {
            let permit = self.take(loser);
            let released = permit.release().await;
            assert!(
                matches!(released, Err(Error::GrantLost { .. })),
                "{released:?}"
            );
        }
    }

    async fn crash(&mut self, client: usize) {
        self.clients[client].proxy.hole(true);
        self.end_leases(client);
        let of_dead = |who: &&Who| who.client == client && !who.is_dead;
        let held: Vec<usize> = self
            .reference
            .holders
            .iter()
            .filter(of_dead)
            .map(|w| w.number)
            .collect();
        let waits: Vec<usize> = self
            .reference
            .line
            .iter()
            .filter(of_dead)
            .map(|w| w.number)
            .collect();
        self.reference.kill(client, true);
        let permits = held.into_iter().map(|number| self.take(number)).collect();
        self.waiting.retain(|(number, _)| !waits.contains(number));
        let (permits_in_all, bounded) = (self.reference.permits as u64, self.reference.bounded);
        let next = Client::new(&self.name, permits_in_all, bounded).await;
        let dead = std::mem::replace(&mut self.clients[client], next);
        self.graves.push((dead, permits));
        // Who waits would find out within 2 s; this is sooner.
        self.acquire(client).await;
    }

    /// Only where somebody would take them: else they are renewed.
    async fn expire(&mut self, client: usize) {
        if self.reference.free() > 0 {
            return;
        }
        let of = |who: &&Who| who.client == client && !who.is_dead;
        let held: Vec<usize> = self
            .reference
            .holders
            .iter()
            .filter(of)
            .map(|w| w.number)
            .collect();
        if held.is_empty() || self.reference.line.iter().any(|who| who.client == client) {
            return;
        }
        self.end_leases(client);
        self.reference.kill(client, false);
        self.acquire((client + 1) % CLIENTS).await;
        // They have nothing to give back any more.
        for number in held {
            drop(self.take(number));
        }
    }

    /// At once, or who waits might find half of them ended.
    fn end_leases(&self, client: usize) {
        let keys = Keys::new(shared(), "semaphore", &name(&self.name));
        keys.end_leases(&self.clients[client].prefix);
    }

    fn take(&mut self, number: usize) -> Permit {
        let place = self.held.iter().position(|(other, _)| *other == number);
        self.held.remove(place.unwrap()).1
    }

    fn hold(&mut self, number: usize, permit: Permit) {
        assert!(permit.fence() > self.last_fence && !permit.is_lost());
        self.last_fence = permit.fence();
        self.held.push((number, permit));
    }

    /// Those who waited and were granted have it, in their order.
    async fn check_grants(&mut self) {
        for (number, abandoned) in std::mem::take(&mut self.reference.granted) {
            let place = self.waiting.iter().position(|(other, _)| *other == number);
            let (_, waits) = self.waiting.remove(place.unwrap());
            let permit = tokio::time::timeout(SOON, waits)
                .await
                .expect("it is granted")
                .unwrap();
            assert_eq!(permit.was_abandoned(), abandoned, "{number}");
            self.hold(number, permit);
        }
    }

    async fn compare(&mut self, operation: Operation) {
        self.check_grants().await;
        let (value, line) = (self.reference.value(), self.reference.line.len() as u64);
        let semaphore = &self.clients[0].semaphore;
        let what = format!("after {operation:?} {value} are free and {line} wait");
        eventually_async(&what, SOON, async || {
            let now = (
                semaphore.value().await.unwrap(),
                semaphore.waiting().await.unwrap(),
            );
            (now == (value, line)).then_some(())
        })
        .await;
        assert!(self.waiting.iter().all(|(_, waits)| !waits.is_finished()));
    }
}

#[test]
fn random_walks_agree_with_the_reference() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cases = Cases {
        failure_persistence: None,
        max_shrink_iters: 50,
        ..Cases::with_cases(96)
    };
    let walks = (
        0..4_u64,
        any::<bool>(),
        prop::collection::vec(operation(), 1..40),
    );
    let walked = TestRunner::new(cases).run(&walks, |(permits, bounded, operations)| {
        runtime.block_on(async {
            Scene::new(permits, bounded).await.walk(operations).await;
        });
        Ok(())
    });
    walked.unwrap();
}
