//! An end of a duplex pipe.

use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::error::{RecvError, SendError};
use super::{Receiver, Sender};
use crate::error::Result;

/// An end of a duplex pipe, which reads and writes. In Python this is `multiprocessing.connection.Connection`.
///
/// Both ways go on at the same time. Dropping it closes it in the background; [`Connection::close`] returns when that
/// is done.
pub struct Connection<T> {
    receiver: Receiver<T>,
    sender: Sender<T>,
}

impl<T> Connection<T> {
    pub(super) fn new(receiver: Receiver<T>, sender: Sender<T>) -> Self {
        Self { receiver, sender }
    }

    /// The way that it reads.
    #[must_use]
    pub fn receiver(&self) -> &Receiver<T> {
        &self.receiver
    }

    /// The way that it writes.
    #[must_use]
    pub fn sender(&self) -> &Sender<T> {
        &self.sender
    }

    /// Both ways, for two owners. Each is closed on its own then.
    #[must_use]
    pub fn split(self) -> (Receiver<T>, Sender<T>) {
        (self.receiver, self.sender)
    }

    /// Sends a message, and waits while there is no room for it: [`Sender::send`]. In Python this is `Connection.send`.
    pub async fn send(&self, message: &T) -> Result<(), SendError>
    where
        T: Serialize,
    {
        self.sender.send(message).await
    }

    /// Sends bytes as they are: [`Sender::send_bytes`]. In Python this is `Connection.send_bytes`.
    pub async fn send_bytes(&self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send_bytes(message).await
    }

    /// Waits for a message: [`Receiver::recv`]. In Python this is `Connection.recv`.
    pub async fn recv(&self) -> Result<T, RecvError>
    where
        T: DeserializeOwned,
    {
        self.receiver.recv().await
    }

    /// Waits for a message as bytes: [`Receiver::recv_bytes`]. In Python this is `Connection.recv_bytes`.
    pub async fn recv_bytes(&self) -> Result<Bytes, RecvError> {
        self.receiver.recv_bytes().await
    }

    /// Waits for a message of at most `limit` bytes: [`Receiver::recv_bytes_max`]. After a longer one this end can't
    /// read, and still writes. In Python this is `Connection.recv_bytes(maxlength)`.
    pub async fn recv_bytes_max(&self, limit: usize) -> Result<Bytes, RecvError> {
        self.receiver.recv_bytes_max(limit).await
    }

    /// Waits for a message and writes it to `buffer`: [`Receiver::recv_bytes_into`]. In Python this is
    /// `Connection.recv_bytes_into`.
    pub async fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.recv_bytes_into(buffer).await
    }

    /// Waits up to `timeout` until there is something to receive: [`Receiver::poll`]. In Python this is
    /// `Connection.poll`.
    pub async fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.receiver.poll(timeout).await
    }

    /// Closes this end both ways; a second time does nothing. In Python this is `Connection.close`.
    pub async fn close(&self) -> Result<()> {
        let (read, write) = tokio::join!(self.receiver.close(), self.sender.close());
        read.and(write)
    }

    /// Whether it was closed here. In Python this is `Connection.closed`.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.receiver.is_closed() && self.sender.is_closed()
    }
}
