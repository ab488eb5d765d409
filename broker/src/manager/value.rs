//! A value that processes share. In Python this is `multiprocessing.Value`, or `manager.Value()`.

use serde::{Serialize, de::DeserializeOwned};

use super::VALUE;
use super::array::{Array, Number};
use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;
use crate::lock::Lock;

/// One value of any type, shared by processes on any host. Clones are handles of the same value.
///
/// Each method is atomic by itself. Where Python says `with value.get_lock(): value.value += 1`, use
/// [`Value::fetch_add`] or [`Value::update`].
pub struct Value<T> {
    /// It is an array of one item.
    array: Array<T>,
}

impl Broker {
    /// The value of this name, which is `initial` where there is none yet.
    pub async fn value<T>(&self, name: &Name, initial: &T) -> Result<Value<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let value = Value::existing(self, name);
        value.array.make(1, Some(initial)).await?;
        Ok(value)
    }
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self {
            array: self.array.clone(),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    pub(super) fn existing(broker: &Broker, name: &Name) -> Self {
        Self {
            array: Array::existing(broker, VALUE, name),
        }
    }

    pub(super) async fn anonymous(broker: &Broker, initial: &T) -> Result<Self> {
        let array = Array::new(broker, VALUE);
        array.make(1, Some(initial)).await?;
        Ok(Self { array })
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.array.name()
    }

    /// What it is. In Python this is `value.value`.
    pub async fn get(&self) -> Result<T> {
        self.array.get(0).await
    }

    /// Sets it. In Python this is `value.value = new`.
    pub async fn set(&self, new: &T) -> Result<()> {
        self.array.set(0, new).await
    }

    /// Sets it if it is `current`; otherwise the inner result is what it is. In Python this takes `with
    /// value.get_lock()`.
    pub async fn compare_exchange(&self, current: &T, new: &T) -> Result<Result<(), T>> {
        self.array.compare_exchange(0, current, new).await
    }

    /// Sets it to what `change` makes of it, and answers that. It is called again where another process was quicker, so
    /// it must have no other effect. In Python this takes `with value.get_lock()`.
    pub async fn update(&self, change: impl FnMut(T) -> T) -> Result<T> {
        self.array.update(0, change).await
    }

    /// Adds to it, and answers what it was before. [`Error::Overflow`](crate::Error::Overflow) where the sum does not
    /// fit; unsigned integers of 64 bits fit up to `i64::MAX`. In Python this is `value.value += delta` under
    /// `value.get_lock()`.
    pub async fn fetch_add(&self, delta: T) -> Result<T>
    where
        T: Number,
    {
        self.array.fetch_add(0, delta).await
    }

    /// The lock that goes with it, for what takes more than one call. In Python this is `value.get_lock()`; the methods
    /// here do not take it.
    #[must_use]
    pub fn get_lock(&self) -> Lock {
        self.array.get_lock()
    }

    /// Removes the value from the broker, whoever has a handle.
    pub async fn unlink(&self) -> Result<()> {
        self.array.unlink().await
    }
}
