//! What processes share: lists, dicts, namespaces, values and arrays. In Python this is `multiprocessing.Manager`.
//!
//! There is no server process: each object is in Redis, and each method is one function of the broker, so it is atomic
//! unless its documentation says otherwise. Items are any serde type; they are kept as JSON in one canonical form (keys
//! of maps sorted, no spaces), and two items are equal when their JSON is. So `1`, `1.0` and `true` differ, which Python
//! takes for one; and NaN, which JSON has not, cannot be read back. An item is at most 1 MiB.
//!
//! An object made by a [`Manager`] is anonymous: it lives as long as some process has a handle of it, and up to 60 s
//! longer where the last one was killed, or could not reach the broker. One with a name stays until [`List::unlink`] and the like. To hand one to
//! another process, send its name, or a [`Shared`] reference, which may also be an item of another shared object.
//!
//! Reading order: `json`, `slice`, `container`, then one file a word.

mod array;
mod container;
mod dict;
mod json;
mod keeper;
mod list;
mod namespace;
mod pages;
mod rewrite;
mod shapes;
mod shared;
mod slice;
mod travel;
mod value;

use serde::{Serialize, de::DeserializeOwned};

use crate::barrier::Barrier;
use crate::broker::Broker;
use crate::condition::Condition;
use crate::error::Result;
use crate::event::{EVENT, Event};
use crate::ids::Name;
use crate::keys::Kind;
use crate::lock::Lock;
use crate::queue::{JoinableQueue, QUEUE, Queue};
use crate::rlock::RLock;
use crate::semaphore::Semaphore;

pub use array::{Addition, Array, Number};
pub use dict::{Dict, Pairs};
pub use list::List;
pub use namespace::Namespace;
pub use pages::Iter;
pub use shared::{Share, Shared};
pub use slice::Slice;
pub use value::Value;

const LIST: Kind = Kind {
    word: "list",
    parts: &[
        "meta",
        "members",
        "log",
        "items",
        "refs",
        "draft",
        "draft.refs",
    ],
};
const DICT: Kind = Kind {
    word: "dict",
    parts: &["meta", "members", "log", "items", "refs", "order"],
};
const NAMESPACE: Kind = Kind {
    word: "namespace",
    ..DICT
};
const ARRAY: Kind = Kind {
    word: "array",
    parts: &["meta", "members", "log", "items", "refs"],
};
const VALUE: Kind = Kind {
    word: "value",
    ..ARRAY
};

/// The kinds that a reference may keep alive; the others live by their use alone.
const KEPT: [Kind; 7] = [LIST, DICT, NAMESPACE, ARRAY, VALUE, EVENT, QUEUE];

/// Makes shared objects. In Python this is `multiprocessing.Manager()`; it needs no start and no shutdown.
///
/// The objects that it makes are anonymous, and outlive it as long as somebody has a handle. Methods that take a name
/// give what every process finds by that name, as those of [`Broker`] do.
#[derive(Clone)]
pub struct Manager {
    broker: Broker,
}

impl Manager {
    /// A manager on this broker.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        Self {
            broker: broker.clone(),
        }
    }

    /// A new list of these items. In Python this is `manager.list(initial)`.
    pub async fn list<T: Serialize + DeserializeOwned>(
        &self,
        initial: impl IntoIterator<Item = T>,
    ) -> Result<List<T>> {
        let list = List::anonymous(&self.broker);
        list.extend(initial).await?;
        list.attached().await
    }

    /// A new dict of these items. In Python this is `manager.dict(initial)`.
    pub async fn dict<K, V>(&self, initial: impl IntoIterator<Item = (K, V)>) -> Result<Dict<K, V>>
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        let dict = Dict::anonymous(&self.broker);
        dict.update(initial).await?;
        dict.attached().await
    }

    /// A new namespace without attributes. In Python this is `manager.Namespace()`.
    pub async fn namespace(&self) -> Result<Namespace> {
        Namespace::anonymous(&self.broker).attached().await
    }

    /// A new value. In Python this is `manager.Value(typecode, initial)`.
    pub async fn value<T: Serialize + DeserializeOwned>(&self, initial: &T) -> Result<Value<T>> {
        Value::anonymous(&self.broker, initial).await
    }

    /// A new array of these items; its length stays. In Python this is `manager.Array(typecode, initial)`.
    pub async fn array<T: Serialize + DeserializeOwned>(&self, initial: &[T]) -> Result<Array<T>> {
        Array::anonymous(&self.broker, initial).await
    }

    /// A new event. In Python this is `manager.Event()`.
    pub async fn anonymous_event(&self) -> Result<Event> {
        self.broker.anonymous_event().attached().await
    }

    /// A new barrier of so many parties. In Python this is `manager.Barrier(parties)`.
    pub async fn anonymous_barrier(&self, parties: u32) -> Result<Barrier> {
        self.broker.anonymous_barrier(parties).attached().await
    }

    /// A new queue. In Python this is `manager.Queue()`.
    pub async fn anonymous_queue<T: Serialize + DeserializeOwned>(&self) -> Result<Queue<T>> {
        self.broker.anonymous_queue().attached().await
    }

    /// A new joinable queue. In Python this is `manager.JoinableQueue()`.
    pub async fn anonymous_joinable_queue<T>(&self) -> Result<JoinableQueue<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.broker.anonymous_joinable_queue().attached().await
    }

    /// A new lock. In Python this is `manager.Lock()`.
    #[must_use]
    pub fn anonymous_lock(&self) -> Lock {
        self.broker.anonymous_lock()
    }

    /// A new reentrant lock. In Python this is `manager.RLock()`.
    #[must_use]
    pub fn anonymous_rlock(&self) -> RLock {
        self.broker.anonymous_rlock()
    }

    /// A new condition with a new lock. In Python this is `manager.Condition()`.
    #[must_use]
    pub fn anonymous_condition(&self) -> Condition {
        self.broker.anonymous_condition()
    }

    /// The lock of this name. In Python this is `manager.Lock()`.
    #[must_use]
    pub fn lock(&self, name: &Name) -> Lock {
        self.broker.lock(name)
    }

    /// The semaphore of this name. In Python this is `manager.Semaphore(permits)`.
    #[must_use]
    pub fn semaphore(&self, name: &Name, permits: u64) -> Semaphore {
        self.broker.semaphore(name, permits)
    }

    /// The bounded semaphore of this name. In Python this is `manager.BoundedSemaphore(permits)`.
    #[must_use]
    pub fn bounded_semaphore(&self, name: &Name, permits: u64) -> Semaphore {
        self.broker.bounded_semaphore(name, permits)
    }

    /// The reentrant lock of this name. In Python this is `manager.RLock()`.
    #[must_use]
    pub fn rlock(&self, name: &Name) -> RLock {
        self.broker.rlock(name)
    }

    /// The condition of this name, with the lock of the same name. In Python this is `manager.Condition()`.
    #[must_use]
    pub fn condition(&self, name: &Name) -> Condition {
        self.broker.condition(name)
    }

    /// The event of this name. In Python this is `manager.Event()`.
    #[must_use]
    pub fn event(&self, name: &Name) -> Event {
        self.broker.event(name)
    }

    /// The barrier of this name. In Python this is `manager.Barrier(parties)`.
    #[must_use]
    pub fn barrier(&self, name: &Name, parties: u32) -> Barrier {
        self.broker.barrier(name, parties)
    }

    /// The queue of this name. In Python this is `manager.Queue()`.
    #[must_use]
    pub fn queue<T: Serialize + DeserializeOwned>(&self, name: &Name) -> Queue<T> {
        self.broker.queue(name)
    }

    /// The joinable queue of this name. In Python this is `manager.JoinableQueue()`.
    #[must_use]
    pub fn joinable_queue<T>(&self, name: &Name) -> JoinableQueue<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.broker.joinable_queue(name)
    }
}
