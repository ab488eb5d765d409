//! The queue with the fewest words. In Python this is `multiprocessing.SimpleQueue`.

use serde::{Serialize, Serializer};

use super::{Format, GetError, Json, PutError, QUEUE, Queue};
use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::object::Object;

/// A [`Queue`] without a bound, to put and get alone. In Python this is `multiprocessing.SimpleQueue`.
pub struct SimpleQueue<T, F = Json>(Queue<T, F>);

impl<T, F> Clone for SimpleQueue<T, F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Broker {
    /// The queue of this name, to put and get alone.
    #[must_use]
    pub fn simple_queue<T>(&self, name: &Name) -> SimpleQueue<T>
    where
        Json: Format<T>,
    {
        SimpleQueue(Queue::over(Object::attached(self, QUEUE, name)))
    }

    /// A new one without a name of its own.
    #[must_use]
    pub fn anonymous_simple_queue<T>(&self) -> SimpleQueue<T>
    where
        Json: Format<T>,
    {
        SimpleQueue(Queue::over(Object::anonymous(self, QUEUE)))
    }
}

impl<T, F: Format<T>> SimpleQueue<T, F> {
    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.name()
    }

    /// Puts an item. In Python this is `SimpleQueue.put`.
    pub async fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.0.put(item).await
    }

    /// Gets the oldest item, waiting for one. In Python this is `SimpleQueue.get`.
    pub async fn get(&self) -> Result<T, GetError> {
        self.0.get().await
    }

    /// Whether there is no item. [`Error::Closed`](crate::Error::Closed) after [`SimpleQueue::close`]. In Python this is
    /// `SimpleQueue.empty`.
    pub async fn empty(&self) -> Result<bool> {
        self.0.empty().await
    }

    /// Ends puts and gets of this process. In Python this is `SimpleQueue.close`.
    pub fn close(&self) {
        self.0.close();
    }
}

/// As its name, by which another process opens it.
impl<T, F: Format<T>> Serialize for SimpleQueue<T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}
