//! The flow of one call: chunks of its input go out as there is room, and their ends come back.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::chunk::{Done, Piece, Pieces};
use super::core::{Core, Flight};
use super::window::Place;

/// The chunks of one call. No more than a window of them is out or unread, so a slow reader holds up its own input.
pub(super) struct Flow<I> {
    core: Arc<Core>,
    name: &'static str,
    input: Pieces<I>,
    /// The chunk that goes next.
    next: Option<Piece>,
    outbox: UnboundedSender<Flight>,
    reply: UnboundedSender<Done>,
    ends: UnboundedReceiver<Done>,
    sent: usize,
    /// Sent, and not told yet.
    out: usize,
    /// Sent, and not read yet.
    unread: usize,
}

impl<I: Iterator<Item: Serialize>> Flow<I> {
    pub(super) fn new(
        core: Arc<Core>,
        outbox: UnboundedSender<Flight>,
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
            sent: 0,
            out: 0,
            unread: 0,
        }
    }

    /// Asks for a place for the first chunk now, so that calls keep their order; answers how to wait for it.
    pub(super) fn queue_up(&mut self) -> impl Future<Output = Option<Place>> + use<I> {
        let bytes = self.peek().unwrap_or_default();
        let mut place = Box::pin(self.core.window.place(bytes));
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
            tokio::select! {
                biased;
                end = self.ends.recv(), if self.out > 0 => {
                    self.out -= 1;
                    return end;
                }
                place = self.core.window.place(more.unwrap_or_default()), if more.is_some() => self.send(place),
                else => return None,
            }
        }
    }

    /// Says that so many chunks were read, so that others may go out.
    pub(super) fn read(&mut self, chunks: usize) {
        self.unread -= chunks;
    }

    /// Once few are left, sends what there are places for; answers the size of a chunk that has to wait for one,
    /// where no other chunk of the call is out.
    fn fill(&mut self) -> Option<usize> {
        if self.unread > self.core.window.low() {
            return None;
        }
        while self.unread < self.core.window.size() {
            let bytes = self.peek()?;
            let place = self.core.window.try_place(bytes);
            if place.is_none() {
                return (self.out == 0).then_some(bytes);
            }
            self.send(place);
        }
        None
    }

    /// The size of the chunk that goes next. One that cannot be sent ends here, at its place.
    fn peek(&mut self) -> Option<usize> {
        loop {
            if self.next.is_none() {
                self.next = self.input.next();
            }
            let piece = self.next.as_ref()?;
            if let Ok(body) = &piece.body {
                return Some(body.len());
            }
            self.send(None);
        }
    }

    /// Sends the next chunk; without a place it ends here.
    pub(super) fn send(&mut self, place: Option<Place>) {
        let Some(piece) = self.next.take() else {
            return;
        };
        let number = self.sent;
        self.sent += 1;
        self.out += 1;
        self.unread += 1;
        let (reply, first, items) = (self.reply.clone(), piece.first, piece.items);
        let refuse = |answer| {
            // This very call listens.
            let _ = self.reply.send(Done {
                number,
                first,
                items,
                answer: Err(answer),
            });
        };
        match (piece.body, place) {
            (Err(error), _) => refuse(error),
            (Ok(_), None) => refuse(self.core.why()),
            (Ok(body), Some(place)) => {
                let flight = Flight {
                    name: self.name,
                    number,
                    first,
                    items,
                    body,
                    reply,
                    alone: false,
                    place,
                };
                if let Err(refused) = self.outbox.send(flight) {
                    refused.0.end(Err(self.core.why()));
                }
            }
        }
    }
}
