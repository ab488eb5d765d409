//! A queue that knows when all its items are finished. In Python this is `multiprocessing.JoinableQueue`.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::turn::Until;
use super::{Format, Json, QUEUE, Queue};
use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::object::Object;

/// A [`Queue`] that also counts the items that were put and are not finished. In Python this is
/// `multiprocessing.JoinableQueue`, which is a `Queue` likewise.
///
/// It counts from the first use by such a handle on, whoever puts; what is in the queue then is unfinished.
pub struct JoinableQueue<T, F = Json>(Queue<T, F>);

impl<T, F> Clone for JoinableQueue<T, F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, F> Deref for JoinableQueue<T, F> {
    type Target = Queue<T, F>;

    fn deref(&self) -> &Queue<T, F> {
        &self.0
    }
}

impl Broker {
    /// The queue of this name, whose items are told to be finished.
    #[must_use]
    pub fn joinable_queue<T>(&self, name: &Name) -> JoinableQueue<T>
    where
        Json: Format<T>,
    {
        JoinableQueue::over(Object::attached(self, QUEUE, name))
    }

    /// A new one without a name of its own. In Python this is `JoinableQueue()`.
    #[must_use]
    pub fn anonymous_joinable_queue<T>(&self) -> JoinableQueue<T>
    where
        Json: Format<T>,
    {
        JoinableQueue::over(Object::anonymous(self, QUEUE))
    }
}

impl<T, F: Format<T>> JoinableQueue<T, F> {
    fn over(object: Object) -> Self {
        let mut queue = Queue::over(object);
        if let Some(shared) = Arc::get_mut(&mut queue.shared) {
            shared.terms.joinable = true;
        }
        Self(queue)
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.name()
    }

    /// The same, once it is sure to live for as long as this handle.
    pub(crate) async fn attached(self) -> Result<Self> {
        Ok(Self(self.0.attached().await?))
    }

    /// Bounds it, as [`Queue::maxsize`] does. In Python this is `JoinableQueue(maxsize=n)`.
    #[must_use]
    pub fn maxsize(self, n: u64) -> Self {
        Self(self.0.maxsize(n))
    }

    /// Tells that an item that was got is finished. [`Error::TooManyDone`](crate::Error::TooManyDone) where none is
    /// unfinished. In Python this is `JoinableQueue.task_done`.
    pub async fn task_done(&self) -> Result<()> {
        self.0.shared.task_done(1).await
    }

    /// Tells that `n` items are finished: all, or none where fewer are unfinished. In Python this is `task_done` called
    /// `n` times.
    pub async fn tasks_done(&self, n: usize) -> Result<()> {
        self.0.shared.task_done(n).await
    }

    /// Waits until all items that were put are finished. In Python this is `JoinableQueue.join`.
    pub async fn join(&self) -> Result<()> {
        self.0.shared.join(Until::Ever).await.map(drop)
    }

    /// Waits up to `timeout` for that; answers whether it came. Python's `JoinableQueue.join` has no timeout.
    pub async fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        self.0.shared.join(Until::after(timeout)).await
    }
}
