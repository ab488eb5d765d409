//! Keeps alive what shared objects refer to.
//!
//! A container is a member of each anonymous object that its items refer to. Whoever holds an anonymous container
//! renews these memberships, and those of what the inner ones refer to in turn. When the last holder is gone nobody
//! does, and all of them expire. An object that is referred to no more expires likewise, unless somebody holds it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use sha2::{Digest, Sha256};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::KEPT;
use crate::connection::lane::Lane;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::{Kind, ObjectKeys};
use crate::object::{ANONYMOUS_TTL, Member, Object, attach};
use crate::reply;

/// How often memberships are renewed, which last as long as the keys of an anonymous object do without them.
const RENEW: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(5);

/// An object that an item refers to.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Reference(String);

impl Reference {
    fn of(object: &Object) -> Self {
        Self(format!("{}/{}", object.word(), object.name()))
    }

    /// Its kind and name, where it is a kind that a reference keeps alive.
    fn parse(&self) -> Option<(Kind, Name)> {
        let (word, name) = self.0.split_once('/')?;
        let kind = KEPT.into_iter().find(|kind| kind.word == word)?;
        Some((kind, Name::new(name).ok()?))
    }

    /// Who a container is as a member of what it refers to.
    fn member(&self) -> Member {
        let digest = Sha256::digest(&self.0);
        Member::from_slice(&digest[..16]).expect("it has 16 bytes")
    }
}

/// The anonymous objects that a text refers to. In a string of the text the quotes would be escaped.
fn references(text: &[u8]) -> Vec<Reference> {
    let text = String::from_utf8_lossy(text);
    let found = text.split("\"$ref\":\"").skip(1);
    found
        .filter_map(|rest| rest.split('"').next())
        .filter(|reference| reference.contains("/anon."))
        .map(|reference| Reference(reference.to_owned()))
        .collect()
}

/// Makes a container a member of what an item refers to, before the item is stored.
pub(super) async fn adopt(container: &Object, text: &[u8]) -> Result<()> {
    for reference in references(text) {
        let Some((kind, name)) = reference.parse() else {
            continue;
        };
        if !container.is_anonymous() {
            return Err(Error::BadOption(format!(
                "{} {} would outlive the anonymous {} that it shall hold: give that one a name",
                container.word(),
                container.name(),
                kind.word
            )));
        }
        let inner = Object::attached(container.broker(), kind, &name);
        let member = Reference::of(container).member();
        let call = attach(inner.call("attach"), member, ANONYMOUS_TTL, true);
        if inner.send(&call).await?.tag != "ok" {
            return Err(Error::Gone {
                kind: kind.word,
                name,
            });
        }
    }
    Ok(())
}

/// Renews what an anonymous container refers to until it is dropped.
pub(super) struct Keeper(AbortHandle);

impl Keeper {
    pub(super) fn start(container: &Object) -> Result<Self> {
        let client = container.client()?;
        let walk = Walk {
            link: client.link(),
            namespace: container.broker().namespace().clone(),
        };
        let root = Reference::of(container);
        let keep = async move {
            loop {
                sleep(RENEW).await;
                if let Err(error) = walk.renew_below(root.clone()).await {
                    tracing::debug!(target: "pmq", %error, "could not renew what an object refers to");
                }
            }
        };
        Ok(Self(client.runtime().spawn(keep).abort_handle()))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A walk over everything that a container refers to.
struct Walk {
    link: Arc<Lane>,
    namespace: Name,
}

impl Walk {
    /// Each is visited once, as objects may refer to each other in a circle.
    async fn renew_below(&self, root: Reference) -> Result<()> {
        let mut seen = HashSet::from([root.clone()]);
        let mut open = vec![root];
        while let Some(outer) = open.pop() {
            for inner in self.references_of(&outer).await? {
                self.renew(&outer, &inner).await?;
                if seen.insert(inner.clone()) {
                    open.push(inner);
                }
            }
        }
        Ok(())
    }

    async fn renew(&self, outer: &Reference, inner: &Reference) -> Result<()> {
        let Some((kind, name)) = inner.parse() else {
            return Ok(());
        };
        let keys = ObjectKeys::new(&self.namespace, kind, &name);
        let call = Call::new("attach", keys.fixed()).arg(ANONYMOUS_TTL.as_millis() as u64);
        let call = attach(call, outer.member(), ANONYMOUS_TTL, true);
        self.link.call(&call, CALL).await.map(drop)
    }

    async fn references_of(&self, outer: &Reference) -> Result<Vec<Reference>> {
        // Events and queues refer to nothing.
        let Some((kind, name)) = outer
            .parse()
            .filter(|(kind, _)| kind.parts.contains(&"refs"))
        else {
            return Ok(Vec::new());
        };
        let keys = ObjectKeys::new(&self.namespace, kind, &name);
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        loop {
            let call = Call::new("refs", keys.fixed()).arg(&cursor);
            let answer = self.link.call(&call, CALL).await?;
            let mut page = reply::items(answer, "refs")?.into_iter();
            let mut next = || page.next().unwrap_or(Value::Nil);
            cursor = reply::text(next(), "refs")?;
            for name in reply::items(next(), "refs")? {
                found.push(Reference(reply::text(name, "refs")?));
            }
            if cursor == "0" || cursor.is_empty() {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_found_where_they_are_and_not_in_strings() {
        let text =
            br#"[{"$ref":"list/anon.1"},{"a":{"$ref":"dict/named"}},"{\"$ref\":\"list/anon.2\"}"]"#;
        let found: Vec<_> = references(text).into_iter().map(|r| r.0).collect();
        assert_eq!(found, ["list/anon.1"]);
    }

    #[test]
    fn a_reference_names_a_kind_that_is_known() {
        let parse = |text: &str| Reference(text.to_owned()).parse();
        assert_eq!(parse("list/anon.1").unwrap().0.word, "list");
        assert!(parse("lock/anon.1").is_none() && parse("list").is_none());
        assert!(parse("list/A/B").is_none());
    }
}
