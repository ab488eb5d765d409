//! References to shared objects, which travel as data.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ARRAY, Array, DICT, Dict, LIST, List, NAMESPACE, Namespace, VALUE, Value};
use crate::broker::Broker;
use crate::event::{EVENT, Event};
use crate::ids::Name;
use crate::lock::Lock;
use crate::queue::{JoinableQueue, QUEUE, Queue, SimpleQueue};
use crate::rlock::RLock;

/// What a reference can name.
pub trait Share: Sized {
    /// The word for it.
    const WORD: &'static str;

    /// The object of this name.
    fn open(broker: &Broker, name: &Name) -> Self;

    /// Its name.
    fn name(&self) -> &Name;

    /// A reference to it.
    fn share(&self) -> Shared<Self> {
        Shared {
            name: self.name().clone(),
            types: PhantomData,
        }
    }
}

/// A reference to a shared object: plain data, which may be an argument of a task, or an item of another shared object.
/// In Python this is a proxy inside of another one.
///
/// As JSON it is `{"$ref": "<kind>/<name>"}`. What the items of an anonymous list, dict, namespace, value or array refer
/// to lives as long as that one (a lock lives by its use); a named one can only refer to what has a name, as it outlives its holders. Elsewhere a
/// reference keeps nothing alive, so keep a handle until the receiver has used its own.
pub struct Shared<H> {
    name: Name,
    types: PhantomData<fn() -> H>,
}

impl<H: Share> Shared<H> {
    /// A handle of the object. In Python the unpickled proxy is the handle already.
    #[must_use]
    pub fn open(&self, broker: &Broker) -> H {
        H::open(broker, &self.name)
    }
}

impl<H> Shared<H> {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl<H> Clone for Shared<H> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            types: PhantomData,
        }
    }
}

impl<H> PartialEq for Shared<H> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<H> Eq for Shared<H> {}

impl<H: Share> fmt::Debug for Shared<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", H::WORD, self.name)
    }
}

#[derive(Serialize, Deserialize)]
struct Plain {
    #[serde(rename = "$ref")]
    reference: String,
}

impl<H: Share> Serialize for Shared<H> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reference = format!("{}/{}", H::WORD, self.name);
        Plain { reference }.serialize(serializer)
    }
}

impl<'de, H: Share> Deserialize<'de> for Shared<H> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Plain { reference } = Plain::deserialize(deserializer)?;
        let name = reference
            .split_once('/')
            .filter(|(word, _)| *word == H::WORD)
            .ok_or_else(|| D::Error::custom(format!("'{reference}' is no {}", H::WORD)))?
            .1;
        Ok(Self {
            name: Name::new(name).map_err(D::Error::custom)?,
            types: PhantomData,
        })
    }
}

/// Each is opened by its name.
macro_rules! share {
    ($($handle:ident $(<$($item:ident),+>)? = $word:expr, |$broker:ident, $name:ident| $open:expr;)+) => {$(
        impl $(<$($item: Serialize + DeserializeOwned),+>)? Share for $handle $(<$($item),+>)? {
            const WORD: &'static str = $word;

            fn open($broker: &Broker, $name: &Name) -> Self {
                $open
            }

            fn name(&self) -> &Name {
                self.name()
            }
        }
    )+};
}

share! {
    List<T> = LIST.word, |broker, name| broker.list(name);
    Dict<K, V> = DICT.word, |broker, name| broker.dict(name);
    Namespace = NAMESPACE.word, |broker, name| broker.shared_namespace(name);
    Value<T> = VALUE.word, |broker, name| Value::existing(broker, name);
    Array<T> = ARRAY.word, |broker, name| Array::existing(broker, ARRAY, name);
    Lock = "lock", |broker, name| broker.lock(name);
    RLock = Lock::WORD, |broker, name| broker.rlock(name);
    Event = EVENT.word, |broker, name| broker.event(name);
    Queue<T> = QUEUE.word, |broker, name| broker.queue(name);
    JoinableQueue<T> = QUEUE.word, |broker, name| broker.joinable_queue(name);
    SimpleQueue<T> = QUEUE.word, |broker, name| broker.simple_queue(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_travels_as_json_and_keeps_its_kind() {
        let shared = Shared::<List<i64>> {
            name: Name::new("squares").unwrap(),
            types: PhantomData,
        };
        let text = serde_json::to_string(&shared).unwrap();
        assert_eq!(text, r#"{"$ref":"list/squares"}"#);
        assert_eq!(
            serde_json::from_str::<Shared<List<i64>>>(&text).unwrap(),
            shared
        );
        assert!(serde_json::from_str::<Shared<Lock>>(&text).is_err());
    }
}
