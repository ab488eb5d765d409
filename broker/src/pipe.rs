//! Pipes across hosts: two ends, messages in order, an end of file. In Python this is `multiprocessing.Pipe`.
//!
//! A channel is one direction; a duplex pipe is two channels. Each end is passed to other processes by a [`Ticket`], and
//! may be held by many. The file ends when nobody holds the other end any more: all have closed it, or died.
//!
//! ```no_run
//! # async fn example(broker: pmq_broker::Broker) -> Result<(), Box<dyn std::error::Error>> {
//! use pmq_broker::pipe::Shared;
//!
//! let (ours, theirs) = broker.pipe::<String>().await?;
//! let ticket = theirs.share().await?; // it goes to another process as JSON
//! let theirs = broker.open_end(&ticket).await?; // there
//! theirs.send(&"hello".to_owned()).await?;
//! assert_eq!(ours.recv().await?, "hello");
//! # Ok(()) }
//! ```
//!
//! Reading order of the files: `end`, `chunk`, `sender`, `receiver`, `connection`, `ticket`.

mod chunk;
mod connection;
mod end;
mod error;
mod receiver;
mod sender;
mod ticket;

use std::time::Duration;

pub use connection::Connection;
pub use error::{RecvError, SendError};
pub use receiver::Receiver;
pub use sender::Sender;
pub use ticket::{Shared, Ticket};

use crate::broker::Broker;
use crate::error::Result;
use crate::keys::Kind;
use crate::object::Object;
use crate::task_queue::DEFAULT_LEASE;
use end::{End, Origin, Side};

/// The most bytes that a message may have: 64 MiB.
pub const MAX_MESSAGE: usize = 64 << 20;
/// The capacity of each direction unless another is set: 1 MiB.
pub const DEFAULT_CAPACITY: usize = 1 << 20;

const PIPE: Kind = Kind {
    word: "pipe",
    parts: &[
        "meta", "members", "log", "messages", "readers", "writers", "reading", "writing", "asked",
    ],
};

/// How a pipe is made. Python's `Pipe` has the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipeOptions {
    /// How many bytes each direction holds that nobody has read, before `send` waits; 1 MiB unless set. A longer
    /// message goes through in parts.
    pub capacity: usize,
    /// The lease of an end; 15 s unless set, at least 1 s. An end whose process crashed counts as closed after it, and so
    /// does one that could not reach the broker for so long.
    pub lease: Duration,
}

impl Default for PipeOptions {
    fn default() -> Self {
        Self {
            capacity: DEFAULT_CAPACITY,
            lease: DEFAULT_LEASE,
        }
    }
}

impl Broker {
    /// A new duplex pipe: what is sent at one end is received at the other. In Python this is `Pipe()`.
    pub async fn pipe<T>(&self) -> Result<(Connection<T>, Connection<T>)> {
        self.pipe_with(PipeOptions::default()).await
    }

    /// The same with other options.
    pub async fn pipe_with<T>(
        &self,
        options: PipeOptions,
    ) -> Result<(Connection<T>, Connection<T>)> {
        let (there, back) = (self.channel_with(options), self.channel_with(options));
        let ((r1, w2), (r2, w1)) = tokio::try_join!(there, back)?;
        Ok((Connection::new(r1, w1), Connection::new(r2, w2)))
    }

    /// A new one-way pipe. In Python this is `Pipe(duplex=False)`.
    pub async fn channel<T>(&self) -> Result<(Receiver<T>, Sender<T>)> {
        self.channel_with(PipeOptions::default()).await
    }

    /// The same with other options.
    pub async fn channel_with<T>(&self, options: PipeOptions) -> Result<(Receiver<T>, Sender<T>)> {
        let object = Object::anonymous(self, PIPE);
        let lease = options.lease.max(Duration::from_secs(1));
        let origin = Origin::New(options.capacity.max(1));
        let reader = End::open(object.clone(), Side::Reader, lease, origin).await?;
        let writer = End::open(object, Side::Writer, lease, origin).await?;
        Ok((Receiver::new(reader), Sender::new(writer)))
    }
}
