//! Semaphores, conditions and barriers as arguments of a task. A name alone does not open them, so the rest travels with it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::travel::here;
use crate::barrier::Barrier;
use crate::broker::Broker;
use crate::condition::Condition;
use crate::ids::Name;
use crate::semaphore::Semaphore;

/// What it takes to open one of them.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Shape {
    Semaphore {
        name: Name,
        permits: u64,
        bounded: bool,
    },
    /// A lock that was made a semaphore.
    Lock {
        name: Name,
    },
    Condition {
        name: Name,
        lock: Name,
    },
    Barrier {
        name: Name,
        parties: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
}

impl Shape {
    fn kind(&self) -> &'static str {
        match self {
            Self::Semaphore { .. } => "semaphore",
            Self::Lock { .. } => "lock",
            Self::Condition { .. } => "condition",
            Self::Barrier { .. } => "barrier",
        }
    }

    fn open<'de, H, D: Deserializer<'de>>(
        deserializer: D,
        wanted: &str,
        open: impl FnOnce(&Self, &Broker) -> Option<H>,
    ) -> Result<H, D::Error> {
        let shape = Self::deserialize(deserializer)?;
        let handle = open(&shape, &here::<D::Error>()?);
        handle.ok_or_else(|| de::Error::custom(format!("a {} is no {wanted}", shape.kind())))
    }
}

/// With its permits, and whether it is bounded; the lease of its permits is each handle's own.
impl Serialize for Semaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = self.name().clone();
        let shape = match self.shape() {
            None => Shape::Lock { name },
            Some((permits, bounded)) => Shape::Semaphore {
                name,
                permits,
                bounded,
            },
        };
        shape.serialize(serializer)
    }
}

/// On the broker of what runs here ([`Broker::current`]).
impl<'de> Deserialize<'de> for Semaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shape::open(deserializer, "semaphore", |shape, broker| match shape {
            Shape::Semaphore {
                name,
                permits,
                bounded: true,
            } => Some(broker.bounded_semaphore(name, *permits)),
            Shape::Semaphore { name, permits, .. } => Some(broker.semaphore(name, *permits)),
            Shape::Lock { name } => Some(broker.lock(name).into()),
            _ => None,
        })
    }
}

/// With its lock.
impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shape = Shape::Condition {
            name: self.name().clone(),
            lock: self.lock().name().clone(),
        };
        shape.serialize(serializer)
    }
}

/// On the broker of what runs here ([`Broker::current`]).
impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shape::open(deserializer, "condition", |shape, broker| match shape {
            Shape::Condition { name, lock } => Some(broker.lock(lock).condition(name)),
            _ => None,
        })
    }
}

/// With its parties and its timeout, in whole ms. Fails for one with an action, which is code: send the barrier without
/// it, and give it to each handle where it arrives.
impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (timeout, has_action) = self.habits();
        if has_action {
            return Err(ser::Error::custom(
                "a barrier's action cannot travel; send the barrier without it, and call with_action where it arrives",
            ));
        }
        let shape = Shape::Barrier {
            name: self.name().clone(),
            parties: self.parties(),
            timeout_ms: timeout.map(|timeout| timeout.as_millis() as u64),
        };
        shape.serialize(serializer)
    }
}

/// On the broker of what runs here ([`Broker::current`]).
impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Shape::open(deserializer, "barrier", |shape, broker| match shape {
            Shape::Barrier {
                name,
                parties,
                timeout_ms,
            } => {
                let timeout = timeout_ms.map_or(Duration::MAX, Duration::from_millis);
                Some(broker.barrier(name, *parties).with_timeout(timeout))
            }
            _ => None,
        })
    }
}
