//! What lies between the two sides of a proxy: connections, and what happens to the chunks on their way.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::stream::{Address, Listener, Stream};
use super::trap::Trap;

/// A reply of Redis up to this size is one chunk on loopback.
const CHUNK: usize = 64 * 1024;
/// A slow line carries what it may in so many parts a second.
const BEATS: u64 = 50;

#[derive(Debug, Default)]
pub(super) struct Network {
    state: Mutex<State>,
    /// Flows were cut, or a trap was opened, so nobody need wait any more.
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) flows: BTreeMap<u64, Flow>,
    pub(super) accepted: u64,
    pub(super) hole: bool,
    pub(super) delay: Duration,
    /// The size of the pieces in which all is passed on; 0 for whole chunks.
    pub(super) slice: usize,
    /// Bytes a second, each way of each connection; 0 for no limit.
    pub(super) rate: u64,
    pub(super) replies_to_drop: u64,
    pub(super) replies_dropped: u64,
    pub(super) trap: Option<Trap>,
    /// What stands for what, to the server; and back, to the client.
    pub(super) translation: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) closed: bool,
}

/// One connection of a client and its continuation to the server.
#[derive(Debug)]
pub(super) struct Flow {
    client: Stream,
    server: Stream,
    /// Has met a black hole.
    pub(super) dark: bool,
}

impl Flow {
    pub(super) fn close(&self) {
        self.client.shutdown(Shutdown::Both);
        self.server.shutdown(Shutdown::Both);
    }
}

/// What the network does with a chunk.
enum Fate {
    Passes,
    IsLost,
    EndsTheFlow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Reply,
}

impl Network {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those that wait that something is different.
    pub(super) fn changed(&self) {
        self.changed.notify_all();
    }

    fn judge(&self, flow: u64, direction: Direction, chunk: &[u8]) -> Fate {
        let delay = self.lock().delay;
        let mut state = self.wait(flow, delay);
        let held = state.trap.as_mut();
        if held.is_some_and(|trap| trap.holds(flow, direction, chunk)) {
            let held = |state: &mut State| state.flows.contains_key(&flow) && state.trap.is_some();
            drop(self.changed.wait_while(state, held));
            return Fate::EndsTheFlow;
        }
        match state.flows.get(&flow) {
            None => Fate::EndsTheFlow,
            Some(flow) if flow.dark => Fate::IsLost,
            Some(_) if direction == Direction::Reply && state.replies_to_drop > 0 => {
                state.replies_to_drop -= 1;
                state.replies_dropped += 1;
                Fate::EndsTheFlow
            }
            Some(_) => Fate::Passes,
        }
    }

    /// Waits for so long, or until this flow is cut.
    fn wait(&self, flow: u64, time: Duration) -> MutexGuard<'_, State> {
        let is_open = |state: &mut State| state.flows.contains_key(&flow);
        let waited = self.changed.wait_timeout_while(self.lock(), time, is_open);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Passes a chunk on, at the pace of the line; false where the other side is gone.
    fn carry(&self, flow: u64, mut chunk: &[u8], to: &mut Stream) -> bool {
        while !chunk.is_empty() {
            let (slice, rate) = {
                let state = self.lock();
                (state.slice, state.rate)
            };
            let most = match (slice, rate) {
                (0, 0) => chunk.len(),
                (0, rate) => (rate / BEATS).max(1) as usize,
                (slice, _) => slice,
            };
            let (piece, rest) = chunk.split_at(most.min(chunk.len()));
            if to.write_all(piece).is_err() {
                return false;
            }
            if rate > 0 {
                let time =
                    Duration::from_secs(piece.len() as u64) / u32::try_from(rate).unwrap_or(1);
                drop(self.wait(flow, time));
            }
            chunk = rest;
        }
        true
    }

    /// Puts one text in the place of another, of the same length.
    fn translate(&self, direction: Direction, chunk: &mut [u8]) {
        let translation = self.lock().translation.clone();
        let Some((client, server)) = translation else {
            return;
        };
        let (from, to) = match direction {
            Direction::Request => (client, server),
            Direction::Reply => (server, client),
        };
        for at in 0..chunk.len().saturating_sub(from.len() - 1) {
            if chunk[at..].starts_with(&from) {
                chunk[at..at + to.len()].copy_from_slice(&to);
            }
        }
    }

    /// Forgets and closes a flow, unless a black hole keeps it.
    fn end(&self, flow: u64) {
        let mut state = self.lock();
        if state.flows.get(&flow).is_some_and(|flow| !flow.dark)
            && let Some(flow) = state.flows.remove(&flow)
        {
            flow.close();
        }
    }
}

pub(super) fn accept(network: &Arc<Network>, listener: &Listener, target: &Address) {
    while let Ok(client) = listener.accept() {
        if network.lock().closed {
            return;
        }
        // A server that is down shows as a connection that is closed at once.
        if let Ok(server) = target.connect() {
            let _ = open(network, client, server);
        }
    }
}

fn open(network: &Arc<Network>, client: Stream, server: Stream) -> std::io::Result<()> {
    let ways = [
        (client.try_clone()?, server.try_clone()?, Direction::Request),
        (server.try_clone()?, client.try_clone()?, Direction::Reply),
    ];
    let mut state = network.lock();
    state.accepted += 1;
    let (flow, dark) = (state.accepted, state.hole);
    state.flows.insert(
        flow,
        Flow {
            client,
            server,
            dark,
        },
    );
    drop(state);
    for (from, to, direction) in ways {
        let network = Arc::clone(network);
        thread::spawn(move || pump(&network, flow, direction, (from, to)));
    }
    Ok(())
}

/// Carries one direction of a flow until it ends. Redis and its clients never close one direction alone, so the
/// end of one is the end of both.
fn pump(network: &Network, flow: u64, direction: Direction, (mut from, mut to): (Stream, Stream)) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let chunk = &mut buffer[..length];
        network.translate(direction, chunk);
        let carried = match network.judge(flow, direction, chunk) {
            Fate::Passes => network.carry(flow, chunk, &mut to),
            Fate::IsLost => true,
            Fate::EndsTheFlow => false,
        };
        if !carried {
            break;
        }
    }
    network.end(flow);
}
