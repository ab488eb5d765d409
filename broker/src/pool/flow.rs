//! The flow of one call: chunks of its input go out as there is room, and their ends come back.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::chunk::{Done, Piece, Pieces};
use super::core::{Core, Flight};
use super::window::Place;
use crate::lending::while_waiting;

/// The chunks of one call. No more than a window of them is out or unread, so a slow reader holds up its own input.
/// What is out weighs what its results are expected to, what is in hand what it does.
pub(super) struct Flow<I> {
    core: Arc<Core>,
    name: &'static str,
    input: Pieces<I>,
    /// The chunk that goes next.
    next: Option<Piece>,
    outbox: UnboundedSender<Vec<Flight>>,
    reply: UnboundedSender<Done>,
    ends: UnboundedReceiver<Done>,
    /// Ends that have come, weighed.
    arrived: VecDeque<Done>,
    sent: usize,
    /// Sent, and not told yet.
    out: usize,
    /// How many places those take that were sent, and not read yet.
    unread: usize,
}

/// What a call waits for.
enum Next {
    End(Done),
    /// Nothing where the pool has stopped.
    Place(Option<Place>),
}

impl<I: Iterator<Item: Serialize>> Flow<I> {
    pub(super) fn new(
        core: Arc<Core>,
        outbox: UnboundedSender<Vec<Flight>>,
        name: &'static str,
        input: Pieces<I>,
    ) -> Self {
        let (reply, ends) = unbounded_channel();
        Self {
            core,
            name,
            input,
            next: None,
            outbox,
            reply,
            ends,
            arrived: VecDeque::new(),
            sent: 0,
            out: 0,
            unread: 0,
        }
    }

    /// Asks for a place for the first chunk now, so that calls keep their order; answers how to wait for it.
    pub(super) fn queue_up(&mut self) -> impl Future<Output = Option<Place>> + use<I> {
        self.peek();
        let mut place = Box::pin(self.place());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // Polled once, it stands in the queue of those who wait.
        let at_once = match place.as_mut().poll(&mut context) {
            std::task::Poll::Ready(place) => Some(place),
            std::task::Poll::Pending => None,
        };
        async move {
            match at_once {
                Some(place) => place,
                None => place.await,
            }
        }
    }

    /// The end of some chunk, in the order in which they end; `None` after the last one. Loses nothing when dropped.
    pub(super) async fn next(&mut self) -> Option<Done> {
        loop {
            let more = self.fill();
            if let Some(end) = self.arrived.pop_front() {
                return Some(end);
            }
            match while_waiting(self.wait(more)).await? {
                Next::Place(place) => self.send(place),
                Next::End(end) => self.arrive(end),
            }
        }
    }

    /// Weighs the end of a chunk.
    fn arrive(&mut self, mut end: Done) {
        let bytes = end.answer.as_ref().map_or(0, Bytes::len);
        self.unread -= end.weight;
        end.weight = self.core.window.weight(bytes);
        self.unread += end.weight;
        self.out -= 1;
        self.arrived.push_back(end);
    }

    /// Waits for a place for the next chunk.
    fn place(&self) -> impl Future<Output = Option<Place>> + use<I> {
        let (core, name) = (self.core.clone(), self.name);
        let (items, body) = self.next.as_ref().map_or((0, 0), |piece| {
            (piece.items, piece.body.as_ref().map_or(0, Bytes::len))
        });
        async move {
            let bytes = || body.max(core.bulk.expected(name, items));
            core.window.place(bytes).await
        }
    }

    /// Waits for an end, or for a place where a chunk waits for one; `None` where there is neither.
    async fn wait(&mut self, more: bool) -> Option<Next> {
        let place = self.place();
        tokio::select! {
            biased;
            end = self.ends.recv(), if self.out > 0 => end.map(Next::End),
            place = place, if more => Some(Next::Place(place)),
            else => None,
        }
    }

    /// Says that this end was read, so that other chunks may go out.
    pub(super) fn read(&mut self, end: &Done) {
        self.unread -= end.weight;
    }

    /// Once few are left, sends what there are places for, all at once; answers whether a chunk has to wait for one, as
    /// no other chunk of the call is out.
    fn fill(&mut self) -> bool {
        while let Ok(end) = self.ends.try_recv() {
            self.arrive(end);
        }
        if self.unread > self.core.window.low() {
            return false;
        }
        let (mut flights, mut waits) = (Vec::new(), false);
        while let Some(bytes) = self.peek() {
            let window = &self.core.window;
            if self.unread + window.weight(bytes) > window.size() {
                break;
            }
            let Some(place) = window.try_place(bytes) else {
                waits = true;
                break;
            };
            flights.extend(self.take(Some(place)));
        }
        self.post(flights);
        waits && self.out == 0
    }

    /// The size of the chunk that goes next, or of its results. One that cannot be sent ends here, at its place.
    fn peek(&mut self) -> Option<usize> {
        while self.unread < self.core.window.size() {
            if self.next.is_none() {
                self.next = self.input.next();
            }
            let piece = self.next.as_ref()?;
            if let Ok(body) = &piece.body {
                let results = self.core.bulk.expected(self.name, piece.items);
                return Some(results.max(body.len()));
            }
            self.take(None);
        }
        None
    }

    /// Sends the next chunk; without a place it ends here.
    pub(super) fn send(&mut self, place: Option<Place>) {
        let flight = self.take(place);
        self.post(flight.into_iter().collect());
    }

    fn post(&self, flights: Vec<Flight>) {
        if flights.is_empty() {
            return;
        }
        if let Err(refused) = self.outbox.send(flights) {
            for flight in refused.0 {
                flight.end(Err(self.core.why()));
            }
        }
    }

    /// Makes the next chunk ready to go; without a place, or where it cannot be sent, it ends here.
    fn take(&mut self, place: Option<Place>) -> Option<Flight> {
        let piece = self.next.take()?;
        let number = self.sent;
        self.sent += 1;
        self.out += 1;
        let weight = place.as_ref().map_or(1, Place::weight);
        self.unread += weight;
        let (first, items) = (piece.first, piece.items);
        let error = match (piece.body, place) {
            (Ok(body), Some(place)) => {
                let results = self.core.bulk.expected(self.name, items);
                return Some(Flight {
                    bytes: results.max(body.len()),
                    name: self.name,
                    number,
                    first,
                    items,
                    body,
                    reply: self.reply.clone(),
                    alone: false,
                    place,
                });
            }
            (Ok(_), None) => self.core.why(),
            (Err(error), _) => error,
        };
        // This very call listens.
        let _ = self.reply.send(Done {
            number,
            first,
            items,
            weight,
            answer: Err(error),
        });
        None
    }
}
