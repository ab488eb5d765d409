//! Pipes beside one in memory.

mod plain;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::functions::LIBRARY;
use pmq_broker::pipe::Shared;
use pmq_broker::{Broker, Config, PipeOptions, Receiver, RecvError, SendError, Sender};
use pmq_tests::shared::Raw;
use pmq_tests::{Redis, eventually_async, shared};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::all_arrived;
use crate::fleet::SOON;
use plain::{End, Plain};

const CLIENTS: usize = 3;
/// The most holders of each end.
const HOLDERS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    Send(Index, usize),
    Recv(Index),
    Poll(Index),
    /// Drops a wait.
    Cancel(Index),
    /// A writer in the middle of a message stands still, or goes on.
    Stop,
    Continue,
    Close(Index),
    /// A process is gone without a word, and its lease ends.
    Crash(Index),
    Share(Index),
}

fn op() -> impl Strategy<Value = Op> {
    let who = any::<Index>;
    let size =
        prop_oneof![3 => 0..50usize, 2 => Just(100_000), 2 => Just(400_000), 1 => Just(700_000)];
    prop_oneof![
        8 => (who(), size).prop_map(|(who, size)| Op::Send(who, size)),
        8 => who().prop_map(Op::Recv),
        2 => who().prop_map(Op::Poll),
        2 => who().prop_map(Op::Cancel),
        4 => Just(Op::Stop),
        1 => Just(Op::Continue),
        1 => who().prop_map(Op::Close),
        1 => who().prop_map(Op::Crash),
        2 => who().prop_map(Op::Share),
    ]
}

/// What a call came to; of one that receives, the message.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Sent,
    Closed,
    Got(Bytes),
    Eof,
}

/// What a call under way is told.
#[derive(Clone, Copy)]
enum Order {
    Run,
    /// Stand still, as a process that was stopped.
    Stop,
    /// Be gone, as a process that was killed.
    Crash,
}

/// A call under way.
struct Waiting {
    call: JoinHandle<Option<Came>>,
    order: watch::Sender<Order>,
}

impl Waiting {
    fn start(call: impl Future<Output = Came> + Send + 'static) -> Self {
        let (order, mut orders) = watch::channel(Order::Run);
        let call = tokio::spawn(async move {
            let mut call = Box::pin(call);
            loop {
                let order = *orders.borrow_and_update();
                if matches!(order, Order::Crash) {
                    std::mem::forget(call);
                    return None;
                }
                tokio::select! {
                    came = &mut call, if matches!(order, Order::Run) => return Some(came),
                    Ok(()) = orders.changed() => {}
                }
            }
        });
        Self { call, order }
    }
}

#[derive(Clone)]
enum Handle {
    Reader(Arc<Receiver<()>>),
    Writer(Arc<Sender<()>>),
}

impl Handle {
    async fn recv(self) -> Came {
        let Self::Reader(reader) = self else {
            panic!("a writer")
        };
        match reader.recv_bytes().await {
            Ok(message) => Came::Got(message),
            Err(RecvError::Eof) => Came::Eof,
            Err(error) => panic!("{error}"),
        }
    }

    async fn send(self, message: Bytes) -> Came {
        let Self::Writer(writer) = self else {
            panic!("a reader")
        };
        match writer.send_bytes(&message).await {
            Ok(()) => Came::Sent,
            Err(SendError::Closed) => Came::Closed,
            Err(error) => panic!("{error}"),
        }
    }

    async fn share(&self, with: &Broker) -> Self {
        match self {
            Self::Reader(end) => {
                let ticket = end.share().await.unwrap();
                Self::Reader(Arc::new(with.open_end(&ticket).await.unwrap()))
            }
            Self::Writer(end) => {
                let ticket = end.share().await.unwrap();
                Self::Writer(Arc::new(with.open_end(&ticket).await.unwrap()))
            }
        }
    }

    async fn close(self) {
        match self {
            Self::Reader(end) => end.close().await.unwrap(),
            Self::Writer(end) => end.close().await.unwrap(),
        }
    }
}

/// One who holds an end.
struct Holder {
    handle: Handle,
    member: Vec<u8>,
    waiting: Option<Waiting>,
}

/// The pipe in Redis, as several clients hold it, and the one in memory.
struct Twins<'a> {
    brokers: &'a [Broker],
    redis: Raw,
    name: String,
    holders: BTreeMap<End, Holder>,
    members: BTreeSet<Vec<u8>>,
    plain: Plain,
    made: usize,
}

fn message(n: usize, size: usize) -> Bytes {
    (0..size).map(|i| (n * 31 + i) as u8).collect()
}

impl<'a> Twins<'a> {
    async fn new(brokers: &'a [Broker], capacity: usize) -> Self {
        let options = PipeOptions {
            capacity,
            lease: Duration::from_secs(3600), // it ends only where the test says so
        };
        let (reader, writer) = brokers[0].channel_with(options).await.unwrap();
        let mut twins = Self {
            brokers,
            redis: shared().raw(),
            name: reader.name().to_string(),
            holders: BTreeMap::new(),
            members: BTreeSet::new(),
            plain: Plain::new(capacity),
            made: 0,
        };
        twins.hold(Handle::Reader(Arc::new(reader)));
        twins.hold(Handle::Writer(Arc::new(writer)));
        twins
    }

    fn key(&self, part: &str) -> String {
        format!("pmq:pipe:{{{}}}:{part}", self.name)
    }

    fn number(&mut self, command: &str, part: &str) -> usize {
        let key = self.key(part);
        redis::cmd(command).arg(key).query(&mut self.redis).unwrap()
    }

    /// Adds one who has just opened an end.
    fn hold(&mut self, handle: Handle) {
        let (end, part) = match handle {
            Handle::Reader(_) => (End::Reader(self.made), "readers"),
            Handle::Writer(_) => (End::Writer(self.made), "writers"),
        };
        self.made += 1;
        let mut all = redis::cmd("SMEMBERS");
        let all: Vec<Vec<u8>> = all.arg(self.key(part)).query(&mut self.redis).unwrap();
        let mut new = all.into_iter().filter(|m| !self.members.contains(m));
        let member = new.next().unwrap();
        self.members.insert(member.clone());
        self.plain.open(end);
        let holder = Holder {
            handle,
            member,
            waiting: None,
        };
        self.holders.insert(end, holder);
    }

    /// One of those that `fits`.
    fn choose(&self, index: Index, fits: impl Fn(End, &Holder) -> bool) -> Option<End> {
        let fit = self
            .holders
            .iter()
            .filter(|(end, holder)| fits(**end, holder));
        let fit: Vec<End> = fit.map(|(end, _)| *end).collect();
        (!fit.is_empty()).then(|| *index.get(&fit))
    }

    async fn step(&mut self, op: Op) {
        let idle = |holder: &Holder| holder.waiting.is_none();
        match op {
            Op::Send(index, size) => {
                let end = self.choose(index, |end, holder| end.writes() && idle(holder));
                if let Some(end) = end {
                    self.made += 1;
                    let message = message(self.made, size);
                    self.plain.send(end, &message);
                    self.start(end, |handle| handle.send(message));
                }
            }
            Op::Recv(index) => {
                let end = self.choose(index, |end, holder| !end.writes() && idle(holder));
                if let Some(end) = end {
                    self.plain.recv(end);
                    self.start(end, Handle::recv);
                }
            }
            Op::Poll(index) => {
                let end = self.choose(index, |end, holder| !end.writes() && idle(holder));
                if let Some(end) = end
                    && let Handle::Reader(reader) = &self.holders[&end].handle
                {
                    let ready = reader.poll(Duration::ZERO).await.unwrap();
                    assert_eq!(ready, self.plain.ready(end));
                }
            }
            Op::Cancel(index) => {
                if let Some(end) = self.choose(index, |_, holder| !idle(holder)) {
                    self.plain.cancel(end);
                    let waiting = self.holders.get_mut(&end).and_then(|h| h.waiting.take());
                    let call = waiting.unwrap().call;
                    call.abort();
                    assert!(call.await.is_err(), "it was not done");
                }
            }
            Op::Stop => self.order(Order::Stop),
            Op::Continue => self.order(Order::Run),
            Op::Close(index) => {
                if let Some(end) = self.choose(index, |_, holder| idle(holder)) {
                    self.plain.close(end);
                    self.holders.remove(&end).unwrap().handle.close().await;
                }
            }
            Op::Crash(index) => {
                if let Some(end) = self.choose(index, |_, _| true) {
                    self.crash(end).await;
                }
            }
            Op::Share(index) => self.share(index).await,
        }
        self.settle().await;
    }

    fn start<F: Future<Output = Came> + Send + 'static>(
        &mut self,
        end: End,
        call: impl FnOnce(Handle) -> F,
    ) {
        let holder = self.holders.get_mut(&end).unwrap();
        holder.waiting = Some(Waiting::start(call(holder.handle.clone())));
    }

    fn order(&mut self, order: Order) {
        if let Some(end) = self.plain.stop(matches!(order, Order::Stop)) {
            let waiting = self.holders[&end].waiting.as_ref();
            waiting.unwrap().order.send(order).unwrap();
        }
    }

    async fn share(&mut self, index: Index) {
        let of_a_kind = |writes| self.holders.keys().filter(|e| e.writes() == writes).count();
        let room = [of_a_kind(false) < HOLDERS, of_a_kind(true) < HOLDERS];
        let Some(end) = self.choose(index, |end, _| room[usize::from(end.writes())]) else {
            return;
        };
        let with = &self.brokers[self.made % CLIENTS];
        let handle = self.holders[&end].handle.share(with).await;
        self.hold(handle);
    }

    async fn crash(&mut self, end: End) {
        self.plain.close(end);
        let Holder {
            handle,
            member,
            waiting,
        } = self.holders.remove(&end).unwrap();
        if let Some(Waiting { call, order }) = waiting {
            order.send(Order::Crash).unwrap();
            assert_eq!(call.await.unwrap(), None);
            all_arrived(self.brokers).await;
        }
        std::mem::forget(handle);
        let mut ends = redis::cmd("ZADD");
        let ends = ends.arg(self.key("members")).arg(1).arg(member);
        ends.exec(&mut self.redis).unwrap();
        // Any step sweeps; this is one of a stranger, who holds nothing.
        let parts = [
            "meta", "members", "log", "messages", "readers", "writers", "reading", "writing",
            "asked", "absent",
        ];
        let mut step = redis::cmd("FCALL");
        step.arg(format!("{LIBRARY}_pipe_close")).arg(parts.len());
        step.arg(parts.map(|part| self.key(part)).as_slice());
        step.arg(60_000).arg("a stranger......").arg(1).arg(1000);
        step.exec(&mut self.redis).unwrap();
    }

    /// What the calls came to that are over in memory, and how the pipe stands.
    async fn settle(&mut self) {
        for (end, expected) in self.plain.settle() {
            let waiting = self.holders.get_mut(&end).and_then(|h| h.waiting.take());
            let came = tokio::time::timeout(SOON, waiting.unwrap().call).await;
            let came = came.unwrap_or_else(|_| panic!("{end:?} still waits"));
            assert!(came.unwrap().unwrap() == expected, "of {end:?}");
        }
        let plain = self.plain.state();
        let what = format!("the pipe stands as {plain:?}");
        eventually_async(&what, SOON, async || {
            let mut bytes = redis::cmd("HGET");
            bytes.arg(self.key("meta")).arg("bytes");
            let bytes: Option<usize> = bytes.query(&mut self.redis).unwrap();
            let state = plain::State {
                bytes: bytes.unwrap_or(0),
                items: self.number("LLEN", "messages"),
                reading: self.number("ZCARD", "reading"),
                writing: self.number("ZCARD", "writing"),
                holders: self.number("SCARD", "readers") + self.number("SCARD", "writers"),
            };
            (state == plain).then_some(())
        })
        .await;
        let still = |holder: &Holder| {
            holder
                .waiting
                .as_ref()
                .is_none_or(|w| !w.call.is_finished())
        };
        assert!(
            self.holders.values().all(still),
            "some call ended too early"
        );
    }
}

#[test]
fn a_pipe_does_what_one_in_memory_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config::url(shared().url());
    let connect = async || Broker::connect(&config).await.unwrap();
    let brokers: Vec<Broker> = (0..CLIENTS).map(|_| runtime.block_on(connect())).collect();
    let cases = ProptestConfig {
        cases: 100,
        max_shrink_iters: 20,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let capacity = prop_oneof![Just(1), Just(150_000), Just(600_000)];
    let input = (proptest::collection::vec(op(), 1..50), capacity);
    let run = |(ops, capacity): (Vec<Op>, usize)| {
        runtime.block_on(async {
            let mut twins = Twins::new(&brokers, capacity).await;
            for op in ops {
                twins.step(op).await;
            }
        });
        Ok(())
    };
    TestRunner::new(cases).run(&input, run).unwrap();
}
