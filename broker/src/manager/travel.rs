//! Shared objects as arguments of a task: they travel as references, and arrive as handles. In Python they can be `args`
//! of a `Process` likewise.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Array, Dict, List, Namespace, Share, Shared, Value};
use crate::broker::Broker;
use crate::event::Event;
use crate::ids::Name;
use crate::lock::Lock;
use crate::queue::{JoinableQueue, Queue, SimpleQueue};
use crate::rlock::RLock;

/// The broker of what runs here, to open something on.
pub(super) fn here<E: serde::de::Error>() -> Result<Broker, E> {
    Broker::current().ok_or_else(|| {
        E::custom("a handle can only be read in a handler or in Program::run; read its name, or a Shared, elsewhere")
    })
}

macro_rules! travels {
    ($($handle:ident $(<$($item:ident),+>)?),+ $(,)?) => {$(
        /// As a reference, which keeps nothing alive.
        impl $(<$($item: Serialize + DeserializeOwned),+>)? Serialize for $handle $(<$($item),+>)? {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.share().serialize(serializer)
            }
        }

        /// On the broker of what runs here ([`Broker::current`]).
        impl<'de, $($($item: Serialize + DeserializeOwned),+)?> Deserialize<'de> for $handle $(<$($item),+>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let shared = Shared::<Self>::deserialize(deserializer)?;
                Ok(shared.open(&here::<D::Error>()?))
            }
        }
    )+};
}

macro_rules! arrives_by_name {
    ($($handle:ident $open:ident),+ $(,)?) => {$(
        /// On the broker of what runs here ([`Broker::current`]).
        impl<'de> Deserialize<'de> for $handle {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = Name::deserialize(deserializer)?;
                Ok(here::<D::Error>()?.$open(&name))
            }
        }
    )+};
}

travels! {
    Queue<T>, JoinableQueue<T>, SimpleQueue<T>, List<T>, Dict<K, V>, Namespace, Value<T>, Array<T>, Event,
}

arrives_by_name! { Lock lock, RLock rlock }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_arrives_only_where_there_is_a_broker() {
        for (text, what) in [
            (r#"{"$ref":"queue/fruit"}"#, "a queue"),
            (r#"{"$ref":"list/fruit"}"#, "another kind"),
        ] {
            let error = serde_json::from_str::<Queue<String>>(text).err().unwrap();
            let is_about_the_broker = error.to_string().contains("Program::run");
            assert_eq!(is_about_the_broker, what == "a queue", "{what}: {error}");
        }
        assert!(serde_json::from_str::<Lock>(r#""ledger""#).is_err());
    }
}
