//! A dict that processes share. In Python this is `manager.dict()`.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::container::Container;
use super::pages::{CHUNK, Iter, Pages, chunks, snapshot};
use super::{DICT, json};
use crate::broker::Broker;
use crate::error::Result;
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::Kind;
use crate::reply::Tagged;

/// Keys with values, in the order of their insertion, shared by processes on any host. Clones are handles of the same
/// dict.
///
/// Each method is one call of constant cost, but those that read or write more than 500 keys or 1 MiB: these read one
/// state of the dict and begin again where it changed meanwhile, and give up with
/// [`Error::Changed`](crate::Error::Changed) after 20 tries. Keys are equal when their JSON is: `1`, `1.0` and `true` are
/// three keys, where Python has one.
pub struct Dict<K, V> {
    container: Arc<Container>,
    types: PhantomData<fn() -> (K, V)>,
}

impl Broker {
    /// The dict of this name; it is empty before anybody used it. In Python this is `manager.dict()`.
    #[must_use]
    pub fn dict<K, V>(&self, name: &Name) -> Dict<K, V>
    where
        K: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        Dict::named(self, DICT, name)
    }
}

impl<K, V> Clone for Dict<K, V> {
    fn clone(&self) -> Self {
        Self::over(self.container.clone())
    }
}

impl<K, V> Dict<K, V> {
    fn over(container: Arc<Container>) -> Self {
        Self {
            container,
            types: PhantomData,
        }
    }
}

impl<K, V> Dict<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    pub(super) fn named(broker: &Broker, kind: Kind, name: &Name) -> Self {
        Self::over(Container::named(broker, kind, name))
    }

    pub(super) fn anonymous(broker: &Broker) -> Self {
        Self::anonymous_of(broker, DICT)
    }

    pub(super) fn anonymous_of(broker: &Broker, kind: Kind) -> Self {
        Self::over(Container::anonymous(broker, kind))
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

    /// The value of a key, if there is one. In Python this is `dict.get(key)`.
    pub async fn get(&self, key: &K) -> Result<Option<V>> {
        let key = json::encode(key)?;
        let get = self.container.look("dict_get", |call| call.arg(&key));
        match optional(get.await)? {
            Some(mut answer) => json::decode(&answer.bytes()?).map(Some),
            None => Ok(None),
        }
    }

    /// The value of a key, or this one. In Python this is `dict.get(key, default)`.
    pub async fn get_or(&self, key: &K, default: V) -> Result<V> {
        Ok(self.get(key).await?.unwrap_or(default))
    }

    /// Sets the value of a key; a new key becomes the last, another one keeps its place. In Python this is
    /// `dict[key] = value`.
    pub async fn insert(&self, key: &K, value: &V) -> Result<()> {
        let (key, value) = (json::encode(key)?, self.container.store(value).await?);
        self.container
            .change("dict_set", |call| call.arg(&key).arg(&value))
            .await
            .map(drop)
    }

    /// Sets the value of a key that has none, and answers the one that it has then. In Python this is
    /// `dict.setdefault`.
    pub async fn setdefault(&self, key: &K, default: V) -> Result<V> {
        let (key, value) = (json::encode(key)?, self.container.store(&default).await?);
        let verb = "dict_setdefault";
        let mut answer = self
            .container
            .try_change(verb, |call| call.arg(&key).arg(&value))
            .await?;
        if answer.tag == "had" {
            return json::decode(&answer.bytes()?);
        }
        self.container.done(answer).map(|_| default)
    }

    /// Sets many values. In Python this is `dict.update`.
    ///
    /// Up to 250 keys and 1 MiB are set at once; more in several calls, between which others may set theirs.
    pub async fn update(&self, items: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let mut pairs = Vec::new();
        for (key, value) in items {
            pairs.push([json::encode(&key)?, self.container.store(&value).await?]);
        }
        for chunk in chunks(&pairs, CHUNK / 2, |[key, value]| key.len() + value.len()) {
            let set = self.container.change("dict_set", |call| {
                let texts = chunk.iter().flatten();
                texts.fold(call, Call::arg)
            });
            set.await?;
        }
        Ok(())
    }

    /// Takes the value of a key, if there is one. In Python this is `dict.pop(key, None)`.
    pub async fn pop(&self, key: &K) -> Result<Option<V>> {
        let key = json::encode(key)?;
        let pop = self.container.change("dict_pop", |call| call.arg(&key));
        Ok(optional(pop.await)?
            .map(|answer| pair::<K, V>(answer))
            .transpose()?
            .map(|(_, value)| value))
    }

    /// Takes the key that was inserted last, if there is one, and its value. In Python this is `dict.popitem`.
    pub async fn popitem(&self) -> Result<Option<(K, V)>> {
        let pop = self.container.change("dict_popitem", |call| call);
        optional(pop.await)?.map(pair).transpose()
    }

    /// Removes a key. [`Error::Missing`](crate::Error::Missing) where it is not there. In Python this is
    /// `del dict[key]`.
    pub async fn remove(&self, key: &K) -> Result<()> {
        let key = json::encode(key)?;
        let remove = self.container.change("dict_pop", |call| call.arg(&key));
        remove.await.map(drop)
    }

    /// Removes all keys. In Python this is `dict.clear`.
    pub async fn clear(&self) -> Result<()> {
        let clear = self.container.change("dict_clear", |call| call);
        clear.await.map(drop)
    }

    /// Whether a key is there. In Python this is `key in dict`.
    pub async fn contains_key(&self, key: &K) -> Result<bool> {
        let key = json::encode(key)?;
        let contains = self.container.look("dict_contains", |call| call.arg(&key));
        Ok(optional(contains.await)?.is_some())
    }

    /// How many keys there are. In Python this is `len(dict)`.
    pub async fn len(&self) -> Result<u64> {
        let len = self.container.look("dict_len", |call| call);
        len.await?.number()
    }

    /// Whether there is none. In Python this is `not d`.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// The keys and their values, as they were at one moment, in the order of insertion. In Python this is
    /// `dict.items`, or `dict.copy`.
    pub async fn items(&self) -> Result<Vec<(K, V)>> {
        let read = snapshot(&self.container, "dict_read", None).await?;
        let pairs = read.items.chunks_exact(2);
        pairs
            .map(|pair| Ok((json::decode(&pair[0])?, json::decode(&pair[1])?)))
            .collect()
    }

    /// The keys, likewise. In Python this is `dict.keys`.
    pub async fn keys(&self) -> Result<Vec<K>> {
        let read = snapshot(&self.container, "dict_read", None).await?;
        let keys = read.items.iter().step_by(2);
        keys.map(|key| json::decode(key)).collect()
    }

    /// The values, likewise. In Python this is `dict.values`.
    pub async fn values(&self) -> Result<Vec<V>> {
        let read = snapshot(&self.container, "dict_read", None).await?;
        let values = read.items.iter().skip(1).step_by(2);
        values.map(|value| json::decode(value)).collect()
    }

    /// The keys and their values one after the other, 500 a call. It ends with [`Error::Changed`](crate::Error::Changed)
    /// where the dict changes meanwhile, as Python's does with `RuntimeError`.
    #[must_use]
    pub fn scan(&self) -> Pairs<'_, K, V> {
        let pages = Pages::strict(&self.container, "dict_read", None);
        Pairs {
            texts: Iter::new(pages),
            types: PhantomData,
        }
    }

    /// Removes the dict from the broker, whoever has a handle. It has no counterpart in Python, where a dict ends with
    /// its manager.
    pub async fn unlink(&self) -> Result<()> {
        self.container.unlink().await
    }
}

/// The answer, or nothing where it says that there is no such key.
fn optional(answer: Result<Tagged>) -> Result<Option<Tagged>> {
    match answer {
        Err(crate::Error::Missing { .. }) => Ok(None),
        answer => answer.map(Some),
    }
}

fn pair<K: DeserializeOwned, V: DeserializeOwned>(mut answer: Tagged) -> Result<(K, V)> {
    Ok((
        json::decode(&answer.bytes()?)?,
        json::decode(&answer.bytes()?)?,
    ))
}

/// The keys of a dict and their values one after the other, read in pages. In Python this is what `dict.items()`
/// answers.
pub struct Pairs<'a, K, V> {
    texts: Iter<'a, serde_json::Value>,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K: DeserializeOwned, V: DeserializeOwned> Pairs<'_, K, V> {
    /// The next key and its value; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<(K, V)>> {
        let (Some(key), Some(value)) =
            (self.texts.next_text().await?, self.texts.next_text().await?)
        else {
            return Ok(None);
        };
        Ok(Some((json::decode(&key)?, json::decode(&value)?)))
    }
}
