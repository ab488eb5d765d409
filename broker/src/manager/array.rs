//! An array that processes share. In Python this is `multiprocessing.Array`, or `manager.Array()`.

use std::marker::PhantomData;
use std::ops::Add;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::container::Container;
use super::pages::{CHUNK, Iter, Pages, chunks, decode_all, snapshot};
use super::slice::Slice;
use super::{ARRAY, json};
use crate::broker::Broker;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::Kind;
use crate::lock::Lock;

/// Items of one type at a fixed number of places, shared by processes on any host. Clones are handles of the same array.
///
/// Each method is atomic; slices of more than 500 items or 1 MiB are written in several calls, and read as
/// [`List::slice`](super::List::slice) reads them. Integers do not wrap, as those of Python's ctypes do: what does not
/// fit is an error.
pub struct Array<T> {
    container: Arc<Container>,
    types: PhantomData<fn() -> T>,
}

/// A number that the broker can add to.
pub trait Number: Copy + Add<Output = Self> + Serialize + DeserializeOwned {
    /// How.
    const ADDITION: Addition;
}

/// How numbers of a type are added.
#[derive(Clone, Copy, Debug)]
pub enum Addition {
    /// On the broker, within these limits; without limits within 64 bits, of which one is the sign.
    OnBroker(Option<(i64, i64)>),
    /// Here, again and again until nobody was quicker.
    Here,
}

macro_rules! numbers {
    ($($type:ty: $addition:expr),*) => {
        $(impl Number for $type {
            const ADDITION: Addition = $addition;
        })*
    };
}

numbers! {
    i8: Addition::OnBroker(Some((i8::MIN as i64, i8::MAX as i64))),
    u8: Addition::OnBroker(Some((0, u8::MAX as i64))),
    i16: Addition::OnBroker(Some((i16::MIN as i64, i16::MAX as i64))),
    u16: Addition::OnBroker(Some((0, u16::MAX as i64))),
    i32: Addition::OnBroker(Some((i32::MIN as i64, i32::MAX as i64))),
    u32: Addition::OnBroker(Some((0, u32::MAX as i64))),
    i64: Addition::OnBroker(None),
    u64: Addition::OnBroker(None),
    isize: Addition::OnBroker(None),
    usize: Addition::OnBroker(None),
    f32: Addition::Here,
    f64: Addition::Here
}

impl Broker {
    /// The array of this name. Where there is none, one is made of `length` items that are `fill`;
    /// [`Error::OtherSize`](crate::Error::OtherSize) where it has another length. In Python this is
    /// `Array(typecode, size)`.
    pub async fn array<T>(&self, name: &Name, length: usize, fill: &T) -> Result<Array<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let array = Array::existing(self, ARRAY, name);
        array.make(length, Some(fill)).await?;
        Ok(array)
    }
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self::over(self.container.clone())
    }
}

impl<T> Array<T> {
    fn over(container: Arc<Container>) -> Self {
        Self {
            container,
            types: PhantomData,
        }
    }
}

impl<T: Serialize + DeserializeOwned> Array<T> {
    pub(super) fn existing(broker: &Broker, kind: Kind, name: &Name) -> Self {
        Self::over(Container::named(broker, kind, name))
    }

    pub(super) fn new(broker: &Broker, kind: Kind) -> Self {
        Self::over(Container::anonymous(broker, kind))
    }

    pub(super) async fn anonymous(broker: &Broker, initial: &[T]) -> Result<Self> {
        let array = Self::new(broker, ARRAY);
        array.make(initial.len(), initial.first()).await?;
        array.set_slice(.., initial).await?;
        Ok(array)
    }

    /// Makes it where it is not there; it must have this length otherwise. One without items needs no `fill`.
    pub(super) async fn make(&self, length: usize, fill: Option<&T>) -> Result<()> {
        let fill = self.container.store(&fill).await?;
        let verb = "array_init";
        let mut answer = self
            .container
            .try_change(verb, |call| call.arg(length).arg(&fill))
            .await?;
        if answer.tag != "had" {
            return self.container.done(answer).map(drop);
        }
        let size = answer.number()?;
        if size != length as u64 {
            return Err(self.container.other_size(size, length));
        }
        Ok(())
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.container.name()
    }

    /// How many items it has. In Python this is `len(array)`.
    pub async fn len(&self) -> Result<u64> {
        let len = self.container.look("array_len", |call| call);
        len.await?.number()
    }

    /// The item at `index`, negative from the end. [`Error::OutOfRange`](crate::Error::OutOfRange) where there is none.
    /// In Python this is `array[index]`.
    pub async fn get(&self, index: i64) -> Result<T> {
        json::decode(&self.text(index).await?)
    }

    async fn text(&self, index: i64) -> Result<bytes::Bytes> {
        let get = self.container.look("array_get", |call| call.arg(index));
        get.await?.bytes()
    }

    /// Replaces the item at `index`, negative from the end. [`Error::OutOfRange`](crate::Error::OutOfRange) where there
    /// is none. In Python this is `array[index] = item`.
    pub async fn set(&self, index: i64, item: &T) -> Result<()> {
        let text = self.container.store(item).await?;
        self.container
            .change("array_set", |call| call.arg(index).arg(&text))
            .await
            .map(drop)
    }

    /// A copy of a slice, as it was at one moment. In Python this is `array[start:stop:step]`.
    pub async fn slice(&self, slice: impl Into<Slice>) -> Result<Vec<T>> {
        let slice = slice.into().checked()?;
        let read = snapshot(&self.container, "array_read", Some(slice)).await?;
        decode_all(&read.items)
    }

    /// Replaces the items of a slice by as many; [`Error::OtherSize`](crate::Error::OtherSize) where it has more or
    /// fewer. In Python this is `array[start:stop:step] = items`.
    ///
    /// Up to 500 items and 1 MiB are written at once.
    pub async fn set_slice(&self, slice: impl Into<Slice>, items: &[T]) -> Result<()> {
        let slice = slice.into().checked()?;
        let texts = self.container.store_all(items).await?;
        let mut chunks = chunks(&texts, CHUNK, Vec::len);
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let mut passed = 0;
        for chunk in chunks {
            let verb = "array_write";
            let mut answer = self
                .container
                .try_change(verb, |call| {
                    let call = slice.add_to(call).arg(passed).arg(texts.len());
                    chunk.iter().fold(call, Call::arg)
                })
                .await?;
            if answer.tag == "size" {
                return Err(self.container.other_size(answer.number()?, texts.len()));
            }
            self.container.done(answer)?;
            passed += chunk.len();
        }
        Ok(())
    }

    /// The items one after the other, 500 a call. In Python this is `iter(array)`.
    #[must_use]
    pub fn scan(&self) -> Iter<'_, T> {
        let all = Some((..).into());
        Iter::new(Pages::loose(&self.container, "array_read", all))
    }

    /// Replaces the item at `index` if it is `current`; otherwise the inner result is the one that it is.
    /// [`Error::OutOfRange`](crate::Error::OutOfRange) where there is none. In Python this takes `with
    /// array.get_lock()`.
    pub async fn compare_exchange(
        &self,
        index: i64,
        current: &T,
        new: &T,
    ) -> Result<Result<(), T>> {
        let (current, new) = (json::encode(current)?, self.container.store(new).await?);
        let other = self.swap(index, &current, &new).await?;
        Ok(match other {
            Some(text) => Err(json::decode(&text)?),
            None => Ok(()),
        })
    }

    /// Replaces an item if its text is `current`; otherwise answers the text that it is.
    async fn swap(&self, index: i64, current: &[u8], new: &[u8]) -> Result<Option<bytes::Bytes>> {
        let verb = "array_swap";
        let mut answer = self
            .container
            .try_change(verb, |call| call.arg(index).arg(current).arg(new))
            .await?;
        if answer.tag == "differs" {
            return answer.bytes().map(Some);
        }
        self.container.done(answer).map(|_| None)
    }

    /// Replaces the item at `index` by what `change` makes of it, and answers that. It is called again where another
    /// process was quicker, so it must have no other effect. In Python this takes `with array.get_lock()`.
    pub async fn update(&self, index: i64, mut change: impl FnMut(T) -> T) -> Result<T> {
        let mut current = self.text(index).await?;
        loop {
            let new = change(json::decode(&current)?);
            let text = self.container.store(&new).await?;
            match self.swap(index, &current, &text).await? {
                Some(other) => current = other,
                None => return Ok(new),
            }
        }
    }

    /// Adds to the number at `index`, and answers the one before. [`Error::Overflow`](crate::Error::Overflow) where the
    /// sum does not fit; unsigned integers of 64 bits fit up to `i64::MAX`. In Python this is `array[i] += delta` under
    /// `array.get_lock()`.
    pub async fn fetch_add(&self, index: i64, delta: T) -> Result<T>
    where
        T: Number,
    {
        let Addition::OnBroker(limits) = T::ADDITION else {
            let mut before = None;
            self.update(index, |number| {
                before = Some(number);
                number + delta
            })
            .await?;
            return Ok(before.unwrap_or(delta));
        };
        let delta = json::encode(&delta)?;
        let (least, most) = limits.unzip();
        let text = |limit: Option<i64>| limit.map_or(String::new(), |limit| limit.to_string());
        let mut answer = self
            .container
            .change("array_add", |call| {
                let call = call.arg(index).arg(&delta);
                call.arg(text(least)).arg(text(most))
            })
            .await?;
        json::decode(&answer.bytes()?)
    }

    /// The lock that goes with it, for what takes more than one call. In Python this is `array.get_lock()`; the methods
    /// here do not take it.
    #[must_use]
    pub fn get_lock(&self) -> Lock {
        self.container.broker().lock(self.name())
    }

    /// Removes the array from the broker, whoever has a handle.
    pub async fn unlink(&self) -> Result<()> {
        self.container.unlink().await
    }
}
