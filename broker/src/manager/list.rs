//! A list that processes share. In Python this is `manager.list()`.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::container::Container;
use super::pages::{CHUNK, Iter, Pages, TRIES, chunks, decode_all, snapshot};
use super::rewrite::rewrite;
use super::slice::Slice;
use super::{LIST, json};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::ids::Name;

/// A list of items of one type, shared by processes on any host. Clones are handles of the same list.
///
/// Both ends are quick at any length, and so are `get` and `set`. `insert`, `pop_at`, `remove`, `delete`, `delete_slice` and
/// `index` are one call each, in which Redis walks over the list, as Python's do; nothing else runs there for that long:
/// some 25 ns for each item on the way, 10 to 60 ms in a list of a million. `sort`, `reverse`,
/// `set_slice` and deleting more than 500 items read the whole list and replace it at once, so others see it before or
/// after; they begin again where somebody changed it meanwhile, and give up with
/// [`Error::Changed`](crate::Error::Changed) after 20 tries.
pub struct List<T> {
    container: Arc<Container>,
    types: PhantomData<fn() -> T>,
}

impl Broker {
    /// The list of this name; it is empty before anybody used it.
    #[must_use]
    pub fn list<T: Serialize + DeserializeOwned>(&self, name: &Name) -> List<T> {
        List::over(Container::named(self, LIST, name))
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        Self::over(self.container.clone())
    }
}

impl<T> List<T> {
    fn over(container: Arc<Container>) -> Self {
        Self {
            container,
            types: PhantomData,
        }
    }
}

impl<T: Serialize + DeserializeOwned> List<T> {
    pub(super) fn anonymous(broker: &Broker) -> Self {
        Self::over(Container::anonymous(broker, LIST))
    }

    pub(super) async fn attached(self) -> Result<Self> {
        self.container.attach().await?;
        Ok(self)
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.container.name()
    }

    /// Adds an item at the end. In Python this is `list.append`.
    pub async fn append(&self, item: &T) -> Result<()> {
        let text = self.container.store(item).await?;
        let append = self.container.change("list_extend", |call| call.arg(&text));
        append.await.map(drop)
    }

    /// Adds items at the end. In Python this is `list.extend`.
    ///
    /// Up to 500 items and 1 MiB are added at once; more in several calls, between which others may add theirs.
    pub async fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let texts = self.container.store_all(items).await?;
        for chunk in chunks(&texts, CHUNK, Vec::len) {
            self.container
                .change("list_extend", |call| call.arg(chunk))
                .await?;
        }
        Ok(())
    }

    /// Inserts an item before the one at `index`; beyond an end it becomes the first or last. In Python this is
    /// `list.insert`.
    ///
    /// Redis walks from the first item to that one, as `LINSERT` does.
    pub async fn insert(&self, index: i64, item: &T) -> Result<()> {
        let text = self.container.store(item).await?;
        self.container
            .change("list_insert", |call| call.arg(index).arg(&text))
            .await
            .map(drop)
    }

    /// Takes the last item. [`Error::OutOfRange`](crate::Error::OutOfRange) where there is none. In Python this is
    /// `list.pop()`.
    pub async fn pop(&self) -> Result<T> {
        self.pop_at(-1).await
    }

    /// Takes the item at `index`, negative from the end. [`Error::OutOfRange`](crate::Error::OutOfRange) where there is
    /// none. In Python this is `list.pop(index)`.
    ///
    /// Redis walks to it from the nearer end, as `LREM` does.
    pub async fn pop_at(&self, index: i64) -> Result<T> {
        let pop = self.container.change("list_pop", |call| call.arg(index));
        json::decode(&pop.await?.bytes()?)
    }

    /// Removes the first item that is equal. [`Error::Missing`](crate::Error::Missing) where there is none. In Python
    /// this is `list.remove`.
    ///
    /// Redis walks from the first item to that one, as `LREM` does.
    pub async fn remove(&self, item: &T) -> Result<()> {
        let text = json::encode(item)?;
        let remove = self.container.change("list_remove", |call| call.arg(&text));
        remove.await.map(drop)
    }

    /// Removes the item at `index`, negative from the end. [`Error::OutOfRange`](crate::Error::OutOfRange) where there
    /// is none. In Python this is `del list[index]`.
    ///
    /// Redis walks to it from the nearer end, as `LREM` does.
    pub async fn delete(&self, index: i64) -> Result<()> {
        let delete = self.container.change("list_pop", |call| call.arg(index));
        delete.await.map(drop)
    }

    /// Removes the items of a slice. In Python this is `del list[start:stop:step]`.
    ///
    /// Up to 500 items are one call, in which Redis walks over them from the nearer end, as `LREM` does.
    pub async fn delete_slice(&self, slice: impl Into<Slice>) -> Result<()> {
        let slice = slice.into().checked()?;
        let verb = "list_delete";
        let answer = self
            .container
            .try_change(verb, |call| slice.add_to(call))
            .await?;
        match answer.tag.as_str() {
            "none" => Ok(()),
            "large" => rewrite(&self.container, |items| Ok(without(items, slice))).await,
            _ => self.container.done(answer).map(drop),
        }
    }

    /// Removes all items. In Python this is `list.clear`.
    pub async fn clear(&self) -> Result<()> {
        let clear = self.container.change("list_clear", |call| call);
        clear.await.map(drop)
    }

    /// The item at `index`, negative from the end. [`Error::OutOfRange`](crate::Error::OutOfRange) where there is none.
    /// In Python this is `list[index]`.
    pub async fn get(&self, index: i64) -> Result<T> {
        let get = self.container.look("list_get", |call| call.arg(index));
        json::decode(&get.await?.bytes()?)
    }

    /// Replaces the item at `index`, negative from the end. [`Error::OutOfRange`](crate::Error::OutOfRange) where there
    /// is none. In Python this is `list[index] = item`.
    pub async fn set(&self, index: i64, item: &T) -> Result<()> {
        let text = self.container.store(item).await?;
        self.container
            .change("list_set", |call| call.arg(index).arg(&text))
            .await
            .map(drop)
    }

    /// A copy of a slice, as it was at one moment: `list.slice(2..5)`, `list.slice(-3..)`. In Python this is
    /// `list[start:stop:step]`.
    ///
    /// More than 500 items or 1 MiB take several calls, which begin again where the list changed meanwhile, and give up
    /// with [`Error::Changed`](crate::Error::Changed) after 20 tries.
    pub async fn slice(&self, slice: impl Into<Slice>) -> Result<Vec<T>> {
        let slice = slice.into().checked()?;
        let read = snapshot(&self.container, "list_read", Some(slice)).await?;
        decode_all(&read.items)
    }

    /// Puts items in the place of a slice: as many as you like for a contiguous one, as many as there were for one with a
    /// step; [`Error::OtherSize`](crate::Error::OtherSize) otherwise. In Python this is
    /// `list[start:stop:step] = items`.
    ///
    /// It reads the whole list and replaces it at once, as `sort` does.
    pub async fn set_slice(
        &self,
        slice: impl Into<Slice>,
        items: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let slice = slice.into().checked()?;
        let texts = self.container.store_all(items).await?;
        let new: Vec<Bytes> = texts.into_iter().map(Bytes::from).collect();
        let replaced = |mut items: Vec<Bytes>| {
            if slice.is_contiguous() {
                let range = slice.range(items.len());
                items.splice(range, new.iter().cloned());
                return Ok(items);
            }
            let places = slice.indices(items.len());
            if places.len() != new.len() {
                let size = places.len() as u64;
                return Err(self.container.other_size(size, new.len()));
            }
            for (at, item) in places.into_iter().zip(&new) {
                items[at] = item.clone();
            }
            Ok(items)
        };
        rewrite(&self.container, replaced).await
    }

    /// A copy of all items, as [`List::slice`] makes one. In Python this is `list.copy`.
    pub async fn to_vec(&self) -> Result<Vec<T>> {
        self.slice(..).await
    }

    /// The items one after the other, 500 a call. As in Python it goes by the index: where somebody removes an item
    /// before it, it passes over one.
    #[must_use]
    pub fn scan(&self) -> Iter<'_, T> {
        let all = Some((..).into());
        Iter::new(Pages::loose(&self.container, "list_read", all))
    }

    /// How many items there are. In Python this is `len(list)`.
    pub async fn len(&self) -> Result<u64> {
        let len = self.container.look("list_len", |call| call);
        len.await?.number()
    }

    /// Whether there is none. In Python this is `not l`.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Where the first item is that is equal. [`Error::Missing`](crate::Error::Missing) where there is none. In Python
    /// this is `list.index`.
    ///
    /// Redis walks from the first item to that one, as `LPOS` does.
    pub async fn index(&self, item: &T) -> Result<u64> {
        let text = json::encode(item)?;
        let index = self.container.look("list_index", |call| call.arg(&text));
        index.await?.number()
    }

    /// How many items are equal. In Python this is `list.count`.
    ///
    /// It takes a call for each 16,000 items or 1 MiB. These begin again where somebody changed the list meanwhile, and
    /// give up with [`Error::Changed`](crate::Error::Changed) after 20 tries.
    pub async fn count(&self, item: &T) -> Result<u64> {
        let text = json::encode(item)?;
        let mut tries = 1;
        loop {
            match self.count_once(&text).await {
                Err(Error::Changed { .. }) if tries < TRIES => tries += 1,
                count => return count,
            }
        }
    }

    async fn count_once(&self, text: &[u8]) -> Result<u64> {
        let (mut version, mut next, mut equal) = (String::new(), "0".to_owned(), 0);
        while !next.is_empty() {
            let count = |call: Call| call.arg(&version).arg(&next).arg(text);
            let mut page = self.container.look("list_count", count).await?;
            version = page.text()?;
            equal += page.number()?;
            next = page.text()?;
        }
        Ok(equal)
    }

    /// Whether an item is equal. In Python this is `item in list`.
    pub async fn contains(&self, item: &T) -> Result<bool> {
        match self.index(item).await {
            Err(Error::Missing { .. }) => Ok(false),
            index => index.map(|_| true),
        }
    }

    /// Turns the order round. In Python this is `list.reverse`.
    pub async fn reverse(&self) -> Result<()> {
        let reversed = |mut items: Vec<Bytes>| {
            items.reverse();
            Ok(items)
        };
        rewrite(&self.container, reversed).await
    }

    /// Sorts the items; equal ones keep their order. In Python this is `list.sort`.
    pub async fn sort(&self) -> Result<()>
    where
        T: Ord,
    {
        self.sort_by(T::cmp).await
    }

    /// Sorts the items by a comparison, as `f64::total_cmp` is one. In Python this is `list.sort(key=...)`.
    pub async fn sort_by(&self, compare: impl Fn(&T, &T) -> Ordering) -> Result<()> {
        let sorted = |items: Vec<Bytes>| {
            let mut pairs = decode_all::<T>(&items)?
                .into_iter()
                .zip(items)
                .collect::<Vec<_>>();
            pairs.sort_by(|(one, _), (other, _)| compare(one, other));
            Ok(pairs.into_iter().map(|(_, text)| text).collect())
        };
        rewrite(&self.container, sorted).await
    }

    /// Removes the list from the broker, whoever has a handle. It has no counterpart in Python, where a list ends with
    /// its manager.
    pub async fn unlink(&self) -> Result<()> {
        self.container.unlink().await
    }
}

/// The items that are not in the slice.
fn without(items: Vec<Bytes>, slice: Slice) -> Vec<Bytes> {
    let mut kept: Vec<_> = items.into_iter().map(Some).collect();
    for at in slice.indices(kept.len()) {
        kept[at] = None;
    }
    kept.into_iter().flatten().collect()
}
