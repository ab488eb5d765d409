//! The end of a pipe that reads.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::MAX_MESSAGE;
use super::chunk::Gathered;
use super::end::{End, OPENED};
use super::error::RecvError;
use crate::error::Result;
use crate::ids::Name;
use crate::object::Mail;
use crate::reply;

/// The end of a one-way pipe that reads. In Python this is the first of `Pipe(duplex=False)`.
///
/// A message goes to one reader, whoever of those that share the end asked first, and is gone with it. Dropping it
/// closes it in the background; [`Receiver::close`] returns when that is done.
pub struct Receiver<T> {
    end: End,
    state: Mutex<State>,
    types: PhantomData<fn() -> T>,
}

struct State {
    /// The number of the next call. Until its answer is here it stays the same, so that no answer is lost.
    number: u32,
    /// The number of the last wait.
    wait: u32,
    gathered: Gathered,
    mail: Option<Mail>,
}

/// What to ask for.
#[derive(Clone, Copy)]
enum Mode {
    Recv,
    Poll,
    Peek,
}

impl<T> Receiver<T> {
    pub(super) fn new(end: End) -> Self {
        let state = State {
            number: OPENED + 1,
            wait: 0,
            gathered: Gathered::Nothing,
            mail: None,
        };
        Self {
            end,
            state: Mutex::new(state),
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

    /// Waits for a message. In Python this is `Connection.recv`.
    ///
    /// Dropping the future loses nothing: what has come of a message is there for the next call.
    pub async fn recv(&self) -> Result<T, RecvError>
    where
        T: DeserializeOwned,
    {
        let message = self.recv_bytes().await?;
        serde_json::from_slice(&message).map_err(RecvError::Decode)
    }

    /// Waits for a message as bytes. In Python this is `Connection.recv_bytes`.
    pub async fn recv_bytes(&self) -> Result<Bytes, RecvError> {
        self.recv_bytes_max(MAX_MESSAGE).await
    }

    /// Waits for a message of at most `limit` bytes; a longer one is [`RecvError::BadLength`] and closes this end. In
    /// Python this is `Connection.recv_bytes(maxlength)`.
    pub async fn recv_bytes_max(&self, limit: usize) -> Result<Bytes, RecvError> {
        let message = self.end.while_open(self.read(limit)).await;
        let message = message.unwrap_or(Err(RecvError::HandleClosed));
        if matches!(message, Err(RecvError::BadLength { .. })) {
            self.end.close_soon();
        }
        message
    }

    /// Waits for a message and writes it to the beginning of `buffer`; answers its length. In Python this is
    /// `Connection.recv_bytes_into`.
    pub async fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let message = self.recv_bytes().await?;
        match buffer.get_mut(..message.len()) {
            Some(room) => room.copy_from_slice(&message),
            None => return Err(RecvError::BufferTooShort(message)),
        }
        Ok(message.len())
    }

    /// Waits up to `timeout` until [`Receiver::recv`] has something to answer: a message, which stays, or the end. Zero
    /// only looks; [`Duration::MAX`] waits for ever. In Python this is `Connection.poll`.
    ///
    /// [`Error::Unreachable`](crate::Error::Unreachable) says that the broker answered nothing in all that time, or in
    /// the first 10 s of it.
    pub async fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        let (mode, until) = if timeout.is_zero() {
            (Mode::Peek, None)
        } else {
            (Mode::Poll, Instant::now().checked_add(timeout))
        };
        let ready = self.end.while_open(self.look(mode, until)).await;
        ready.unwrap_or(Err(RecvError::HandleClosed))
    }

    async fn read(&self, limit: usize) -> Result<Bytes, RecvError> {
        let mut state = self.state.lock().await;
        loop {
            if let Some(size) = state.gathered.length().filter(|size| *size > limit) {
                return Err(RecvError::BadLength { size, limit });
            }
            if let Some(message) = state.gathered.take() {
                return Ok(message);
            }
            self.advance(&mut state, Mode::Recv, None).await?;
        }
    }

    async fn look(&self, mode: Mode, until: Option<Instant>) -> Result<bool, RecvError> {
        let lock = self.state.lock();
        let mut state = match until {
            Some(until) => match timeout_at(until, lock).await {
                Ok(state) => state,
                Err(_) => return Ok(false),
            },
            None => lock.await,
        };
        if matches!(state.gathered, Gathered::Whole(_)) {
            return Ok(true);
        }
        match self.advance(&mut state, mode, until).await {
            Err(RecvError::Eof) => Ok(true),
            ready => ready,
        }
    }

    /// Asks for an item, or whether there is one. A call whose answer nobody awaited is answered first, whatever this
    /// one asks for: so an item may come all the same.
    async fn advance(
        &self,
        state: &mut State,
        mode: Mode,
        until: Option<Instant>,
    ) -> Result<bool, RecvError> {
        state.wait = state.wait.wrapping_add(1);
        let mut place = Place {
            end: &self.end,
            wait: state.wait,
            taken: true,
        };
        let call = self.end.step("pipe_recv", state.number);
        let call = call.arg(match mode {
            Mode::Recv => "recv",
            Mode::Poll => "poll",
            Mode::Peek => "peek",
        });
        let call = call.arg(state.wait);
        let Some(mut answer) = self.end.ask(&mut state.mail, &call, until).await? else {
            return Ok(false);
        };
        place.taken = false;
        match answer.tag.as_str() {
            "ok" => {
                state.number += 1;
                let added = state.gathered.add(answer.bytes()?);
                added.ok_or_else(|| reply::odd("pipe_recv"))?;
                Ok(true)
            }
            "ready" => Ok(true),
            "eof" => {
                state.gathered = Gathered::Nothing; // its sender died in the middle of it
                Err(RecvError::Eof)
            }
            _ => Ok(false),
        }
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

/// A place in the line of readers. Dropping it gives it up.
struct Place<'a> {
    end: &'a End,
    wait: u32,
    taken: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken && !self.end.is_closed() {
            self.end.leave(self.wait);
        }
    }
}
