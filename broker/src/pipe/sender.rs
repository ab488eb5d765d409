//! The end of a pipe that writes.

use std::marker::PhantomData;

use serde::Serialize;
use tokio::sync::{Mutex, MutexGuard};

use super::end::{End, OPENED};
use super::error::SendError;
use super::{MAX_MESSAGE, chunk};
use crate::error::Result;
use crate::ids::Name;
use crate::object::Mail;

/// The end of a one-way pipe that writes. In Python this is the second of `Pipe(duplex=False)`.
///
/// Dropping it closes it in the background; [`Sender::close`] returns when that is done.
pub struct Sender<T> {
    end: End,
    state: Mutex<State>,
    types: PhantomData<fn(T)>,
}

struct State {
    /// The number of the last call.
    number: u32,
    mail: Option<Mail>,
}

impl<T> Sender<T> {
    pub(super) fn new(end: End) -> Self {
        let number = OPENED;
        Self {
            end,
            state: Mutex::new(State { number, mail: None }),
            types: PhantomData,
        }
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// The name of the pipe.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.end.object().name()
    }

    /// Sends a message, and waits while there is no room for it. In Python this is `Connection.send`.
    ///
    /// Dropping the future takes the message back, unless it was just being stored.
    pub async fn send(&self, message: &T) -> Result<(), SendError>
    where
        T: Serialize,
    {
        let json = serde_json::to_vec(message).map_err(SendError::Encode)?;
        self.send_bytes(&json).await
    }

    /// Sends bytes as they are, at most 64 MiB; none are a message too. In Python this is `Connection.send_bytes`.
    pub async fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        let size = message.len();
        if size > MAX_MESSAGE {
            return Err(SendError::TooLarge { size });
        }
        let sent = self.end.while_open(self.write(message)).await;
        sent.unwrap_or(Err(SendError::HandleClosed))
    }

    async fn write(&self, message: &[u8]) -> Result<(), SendError> {
        let mut turn = Turn {
            end: &self.end,
            state: self.state.lock().await,
            unfinished: true,
        };
        for item in chunk::items(message) {
            turn.push(&item).await?;
        }
        turn.unfinished = false;
        Ok(())
    }

    /// Closes this end; a second time does nothing. In Python this is `Connection.close`.
    pub async fn close(&self) -> Result<()> {
        self.end.close().await
    }

    /// Whether it was closed here. In Python this is `Connection.closed`.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.end.is_closed()
    }
}

/// The writing of one message. Dropped before its end, it takes back what was written.
struct Turn<'a> {
    end: &'a End,
    state: MutexGuard<'a, State>,
    unfinished: bool,
}

impl Turn<'_> {
    async fn push(&mut self, item: &[u8]) -> Result<(), SendError> {
        let state = &mut *self.state;
        state.number += 1;
        let call = self.end.step("pipe_send", state.number).arg(item);
        match self.end.ask(&mut state.mail, &call, None).await? {
            Some(answer) if answer.tag == "ok" => Ok(()),
            _ => {
                self.unfinished = false;
                Err(SendError::Closed)
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.unfinished && !self.end.is_closed() {
            // Its number is higher, so the call that is perhaps still under way does nothing after it.
            self.state.number += 1;
            let call = self.end.step("pipe_abort", self.state.number);
            self.end.object().farewell(call);
        }
    }
}
