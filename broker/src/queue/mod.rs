//! Queues of items across hosts, which are not those of tasks. In Python these are `multiprocessing.Queue`,
//! `JoinableQueue` and `SimpleQueue`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use pmq_broker::{Broker, Config, Name};
//!
//! let broker = Broker::connect(&Config::from_env()?).await?;
//! let fruit = broker.queue::<String>(&Name::new("fruit")?).maxsize(100);
//! fruit.put("apple".to_owned()).await?;
//! assert_eq!(fruit.get().await?, "apple");
//! # Ok(()) }
//! ```
//!
//! An item is gone once it is returned: who gets it and dies has lost it (what must not be lost is a task, and goes to a
//! [`TaskQueue`](crate::TaskQueue)). A connection that breaks loses nothing, nor does a call that is dropped before it
//! ended, or a process that dies while it waits: its item goes to the next after at most 5 s. Who waits is served in
//! order, and who comes later overtakes nobody.
//!
//! A call with a timeout ends within it and some 0.3 s, also while the broker is away.
//! [`Error::Unreachable`](crate::Error::Unreachable) says that the broker answered nothing in all that time, or in the
//! first 10 s of it; once it has answered, the end of the time is the queue's own answer: full, empty, or not joined.

mod error;
mod format;
mod frame;
mod joinable;
mod shared;
mod simple;
mod turn;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::keys::Kind;
use crate::object::Object;
use shared::Shared;
use turn::Until;

pub use error::{GetError, PutError};
pub use format::{Format, Json, Raw};
pub use joinable::JoinableQueue;
pub use shared::ITEM_LIMIT;
pub use simple::SimpleQueue;

pub(crate) const QUEUE: Kind = Kind {
    word: "queue",
    parts: &[
        "meta", "members", "log", "items", "getters", "putters", "granted", "rooms", "joiners",
        "got",
    ],
};

/// A queue of items of type `T`, first in, first out. In Python this is `multiprocessing.Queue`.
///
/// Items are JSON of at most 16 MiB ([`ITEM_LIMIT`]); a [`RawQueue`] holds bytes as they are. Both may be used on one
/// queue: what was put as bytes that are JSON can be got as a `T`.
///
/// A put returns when the broker has the item, so nothing is left to flush. Clones are one handle, whose calls may run
/// at the same time.
pub struct Queue<T, F = Json> {
    shared: Arc<Shared>,
    types: PhantomData<fn(T, F) -> T>,
}

/// A queue of bytes.
pub type RawQueue = Queue<Bytes, Raw>;

impl<T, F> Clone for Queue<T, F> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            types: PhantomData,
        }
    }
}

impl Broker {
    /// The queue of this name. It exists as soon as something is put into it.
    #[must_use]
    pub fn queue<T>(&self, name: &Name) -> Queue<T>
    where
        Json: Format<T>,
    {
        Queue::over(Object::attached(self, QUEUE, name))
    }

    /// A new queue without a name of its own. It goes with its last handle; another process opens it by
    /// [`Queue::name`]. In Python this is `Queue()`.
    #[must_use]
    pub fn anonymous_queue<T>(&self) -> Queue<T>
    where
        Json: Format<T>,
    {
        Queue::over(Object::anonymous(self, QUEUE))
    }

    /// The same queue as [`Broker::queue`], whose items are bytes.
    #[must_use]
    pub fn raw_queue(&self, name: &Name) -> RawQueue {
        Queue::over(Object::attached(self, QUEUE, name))
    }
}

impl<T, F: Format<T>> Queue<T, F> {
    fn over(object: Object) -> Self {
        Self {
            shared: Arc::new(Shared::new(object)),
            types: PhantomData,
        }
    }

    /// The same, once it is sure to live for as long as this handle.
    pub(crate) async fn attached(self) -> Result<Self> {
        self.shared.hold.attached().await?;
        Ok(self)
    }

    /// Bounds it to `n` items; 0 is no bound, which is the default. In Python this is `Queue(maxsize=n)`.
    ///
    /// The first user fixes the bound, and a handle without this call takes whichever there is. Another one fails at
    /// its first use with [`Error::OtherSize`](crate::Error::OtherSize), unless the queue is empty and nobody uses it. Call it before the handle
    /// is cloned.
    #[must_use]
    pub fn maxsize(mut self, n: u64) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.terms.maxsize = Some(n);
            return self;
        }
        let mut shared = Shared::new(self.shared.object().clone());
        shared.terms = shared::Terms {
            maxsize: Some(n),
            ..self.shared.terms
        };
        self.shared = Arc::new(shared);
        self
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.shared.object().name()
    }

    /// Puts an item, waiting for room. In Python this is `Queue.put`.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_one(item, Until::Ever).await
    }

    /// Puts an item, waiting up to `timeout` for room; [`PutError::Full`] gives it back. In Python this is
    /// `Queue.put(timeout=...)`.
    pub async fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_one(item, Until::after(timeout)).await
    }

    /// Puts an item if there is room; [`PutError::Full`] gives it back. In Python this is `Queue.put_nowait`.
    pub async fn put_nowait(&self, item: T) -> Result<(), PutError<T>> {
        self.put_one(item, Until::Now).await
    }

    /// Puts items in their order, waiting for room. Each call to the broker carries up to 500 items and 1 MiB, so this
    /// is far quicker than one by one. Other producers' items may come in between. Python puts one at a time.
    pub async fn put_many(&self, items: Vec<T>) -> Result<(), PutError<Vec<T>>> {
        self.put_all(items, Until::Ever).await
    }

    /// Puts items in their order, waiting up to `timeout` for room. [`PutError::Full`] gives back those that were not
    /// put.
    pub async fn put_many_timeout(
        &self,
        items: Vec<T>,
        timeout: Duration,
    ) -> Result<(), PutError<Vec<T>>> {
        self.put_all(items, Until::after(timeout)).await
    }

    /// Puts as many items as there is room for. [`PutError::Full`] gives back the others.
    pub async fn put_many_nowait(&self, items: Vec<T>) -> Result<(), PutError<Vec<T>>> {
        self.put_all(items, Until::Now).await
    }

    async fn put_one(&self, item: T, until: Until) -> Result<(), PutError<T>> {
        let put = self.put_all(vec![item], until).await;
        put.map_err(|error| error.map(|items| items.into_iter().next().expect("it was not put")))
    }

    async fn put_all(&self, mut items: Vec<T>, until: Until) -> Result<(), PutError<Vec<T>>> {
        if self.shared.is_closed() {
            return Err(PutError::Closed(items));
        }
        let encoded = match items.iter().map(F::encode).collect::<Result<Vec<_>, _>>() {
            Ok(encoded) => encoded,
            Err(source) => {
                return Err(PutError::Unserializable {
                    item: items,
                    source,
                });
            }
        };
        let (put, ended) = self.shared.put(&encoded, until).await;
        // A server may say anything.
        let rest = items.split_off(put.min(items.len()));
        match ended {
            _ if rest.is_empty() => Ok(()),
            Ok(()) => Err(PutError::Full(rest)),
            Err(source) => Err(PutError::Broker { item: rest, source }),
        }
    }

    /// Gets the oldest item, waiting for one. In Python this is `Queue.get`.
    pub async fn get(&self) -> Result<T, GetError> {
        self.get_one(Until::Ever).await
    }

    /// Gets the oldest item, waiting up to `timeout` for one; [`GetError::Empty`] then. In Python this is
    /// `Queue.get(timeout=...)`.
    ///
    /// The item's way over the network is part of the time; one that comes too late stays in the queue.
    pub async fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_one(Until::after(timeout)).await
    }

    /// Gets the oldest item if there is one that nobody waits for; [`GetError::Empty`] otherwise. In Python this is
    /// `Queue.get_nowait`.
    pub async fn get_nowait(&self) -> Result<T, GetError> {
        self.get_one(Until::Now).await
    }

    /// Gets up to `n` items as soon as there is one, at most 500 and 1 MiB, but at least one. Python gets one at a
    /// time.
    pub async fn get_many(&self, n: usize) -> Result<Vec<T>, GetError> {
        self.get_some(n, Until::Ever).await
    }

    /// Gets up to `n` items as soon as there is one, waiting up to `timeout`; [`GetError::Empty`] then.
    pub async fn get_many_timeout(&self, n: usize, timeout: Duration) -> Result<Vec<T>, GetError> {
        self.get_some(n, Until::after(timeout)).await
    }

    /// Gets up to `n` items that are there; [`GetError::Empty`] where there is none.
    pub async fn get_many_nowait(&self, n: usize) -> Result<Vec<T>, GetError> {
        self.get_some(n, Until::Now).await
    }

    async fn get_one(&self, until: Until) -> Result<T, GetError> {
        let got = self.get_some(1, until).await?;
        got.into_iter().next().ok_or(GetError::Empty)
    }

    async fn get_some(&self, n: usize, until: Until) -> Result<Vec<T>, GetError> {
        if self.shared.is_closed() {
            return Err(GetError::Closed);
        }
        let items = self.shared.get(n, until).await?;
        if items.is_empty() && n > 0 {
            return Err(GetError::Empty);
        }
        let decoded = items.iter().map(F::decode).collect::<Result<_, _>>();
        decoded.map_err(|source| GetError::Unreadable { items, source })
    }

    /// How many items were put and not got, also after [`Queue::close`]. In Python this is `Queue.qsize`.
    pub async fn qsize(&self) -> Result<u64> {
        Ok(self.shared.sizes().await?.items)
    }

    /// Whether there is no item, which may change at any time. [`Error::Closed`](crate::Error::Closed) after [`Queue::close`]. In Python this
    /// is `Queue.empty`.
    pub async fn empty(&self) -> Result<bool> {
        if self.shared.is_closed() {
            return Err(self.shared.closed());
        }
        Ok(self.qsize().await? == 0)
    }

    /// Whether there is no room, which may change at any time; never where it has no bound. In Python this is
    /// `Queue.full`.
    pub async fn full(&self) -> Result<bool> {
        let sizes = self.shared.sizes().await?;
        Ok(sizes.maxsize > 0 && sizes.items + sizes.granted >= sizes.maxsize)
    }

    /// Ends puts and gets of this process, by this handle and its clones; what is under way goes on. In Python this is
    /// `Queue.close`.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Waits until the puts under way have ended; [`Error::NotClosed`](crate::Error::NotClosed) before [`Queue::close`]. In Python this is
    /// `Queue.join_thread`.
    pub async fn join_thread(&self) -> Result<()> {
        self.shared.join_thread().await
    }

    /// Has [`Queue::join_thread`] return at once, so what is being put may be lost when the process ends. In Python this
    /// is `Queue.cancel_join_thread`.
    pub fn cancel_join_thread(&self) {
        self.shared.cancel_join_thread();
    }
}
