//! A trap for one call: the call, or its reply, is held where a process is to be killed at a certain step.

use super::network::Direction;

/// Where a call is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// On its way to the server, which never sees it.
    Request,
    /// The server did what it was asked; its reply is on its way.
    Reply,
    /// Nowhere: the trap only tells that the reply has just been passed on.
    Nothing,
}

/// Waits for the first call that contains a text.
#[derive(Debug)]
pub(super) struct Trap {
    text: Vec<u8>,
    hold: Hold,
    /// The connection on which the call went by whose reply is awaited.
    flow: Option<u64>,
    pub(super) is_sprung: bool,
}

impl Trap {
    pub(super) fn new(text: &str, hold: Hold) -> Self {
        Self {
            text: text.into(),
            hold,
            flow: None,
            is_sprung: false,
        }
    }

    /// Whether this chunk is what is held.
    pub(super) fn holds(&mut self, flow: u64, direction: Direction, chunk: &[u8]) -> bool {
        if self.is_sprung {
            return false;
        }
        match direction {
            Direction::Request => {
                let is_it = chunk.windows(self.text.len()).any(|part| part == self.text);
                if is_it && self.hold != Hold::Request {
                    self.flow = self.flow.or(Some(flow));
                }
                self.is_sprung = is_it && self.hold == Hold::Request;
                self.is_sprung
            }
            Direction::Reply => {
                self.is_sprung = self.flow == Some(flow);
                self.is_sprung && self.hold == Hold::Reply
            }
        }
    }
}
