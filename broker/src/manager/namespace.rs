//! Attributes that processes share. In Python this is `manager.Namespace()`.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Dict, NAMESPACE};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::Name;

/// Attributes of any types, shared by processes on any host. Clones are handles of the same namespace. In Python this
/// is `manager.Namespace()`.
#[derive(Clone)]
pub struct Namespace {
    attributes: Dict<String, Value>,
}

impl Broker {
    /// The namespace object of this name; it has no attributes before anybody used it.
    #[must_use]
    pub fn shared_namespace(&self, name: &Name) -> Namespace {
        Namespace {
            attributes: Dict::named(self, NAMESPACE, name),
        }
    }
}

impl Namespace {
    pub(super) fn anonymous(broker: &Broker) -> Self {
        Self {
            attributes: Dict::anonymous_of(broker, NAMESPACE),
        }
    }

    pub(super) async fn attached(self) -> Result<Self> {
        self.attributes.clone().attached().await?;
        Ok(self)
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.attributes.name()
    }

    /// The value of an attribute. [`Error::Missing`] where there is none. In Python this is `namespace.attribute`.
    pub async fn get<T: DeserializeOwned>(&self, attribute: &str) -> Result<T> {
        let value = self.attributes.get(&attribute.to_owned()).await?;
        let value = value.ok_or_else(|| Error::Missing {
            kind: NAMESPACE.word,
            name: self.name().clone(),
        })?;
        serde_json::from_value(value).map_err(|error| Error::Unreadable {
            what: "attribute",
            why: error.to_string(),
        })
    }

    /// Sets an attribute. In Python this is `namespace.attribute = value`.
    pub async fn set<T: Serialize>(&self, attribute: &str, value: &T) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|error| {
            Error::BadOption(format!("the attribute has no JSON form: {error}"))
        })?;
        self.attributes.insert(&attribute.to_owned(), &value).await
    }

    /// Removes an attribute. [`Error::Missing`] where there is none. In Python this is `del namespace.attribute`.
    pub async fn delete(&self, attribute: &str) -> Result<()> {
        self.attributes.remove(&attribute.to_owned()).await
    }

    /// The names of all attributes, in the order in which they were first set. In Python this is `dir(namespace)`.
    pub async fn attributes(&self) -> Result<Vec<String>> {
        self.attributes.keys().await
    }

    /// Removes the namespace from the broker, whoever has a handle.
    pub async fn unlink(&self) -> Result<()> {
        self.attributes.unlink().await
    }
}
