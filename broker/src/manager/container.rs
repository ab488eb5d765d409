//! What the handles of lists, dicts and arrays are made of.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use super::json;
use super::keeper::{self, Keeper};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::ids::Name;
use crate::keys::Kind;
use crate::object::{Hold, Object};
use crate::reply::Tagged;

/// A hold on a shared object, and on the anonymous ones that its items refer to.
pub(super) struct Container {
    hold: Hold,
    /// Looks after what an anonymous container refers to, from its first use on.
    keeper: OnceLock<Keeper>,
}

impl Container {
    /// A new one without a name of its own.
    pub(super) fn anonymous(broker: &Broker, kind: Kind) -> Arc<Self> {
        Self::over(Hold::new(Object::anonymous(broker, kind)))
    }

    /// The one of this name; an anonymous one must be there.
    pub(super) fn named(broker: &Broker, kind: Kind, name: &Name) -> Arc<Self> {
        Self::over(Hold::existing(Object::attached(broker, kind, name)))
    }

    fn over(hold: Hold) -> Arc<Self> {
        Arc::new(Self {
            hold,
            keeper: OnceLock::new(),
        })
    }

    pub(super) fn name(&self) -> &Name {
        self.hold.object().name()
    }

    pub(super) fn broker(&self) -> &Broker {
        self.hold.object().broker()
    }

    /// Sees to it that an anonymous one is there.
    pub(super) async fn attach(&self) -> Result<()> {
        self.kept()?.attached().await.map(drop)
    }

    /// The hold, once it is looked after what the items of an anonymous one refer to.
    fn kept(&self) -> Result<&Hold> {
        let object = self.hold.object();
        if object.is_anonymous() && self.keeper.get().is_none() {
            let keeper = Keeper::start(object)?;
            self.keeper.get_or_init(|| keeper);
        }
        Ok(&self.hold)
    }

    /// The text of an item. What it refers to is kept alive from now on.
    pub(super) async fn store<T: Serialize>(&self, item: &T) -> Result<Vec<u8>> {
        let text = json::encode(item)?;
        keeper::adopt(self.hold.object(), &text).await?;
        Ok(text)
    }

    /// The texts of many items.
    pub(super) async fn store_all<T: Serialize>(
        &self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Vec<Vec<u8>>> {
        let mut texts = Vec::new();
        for item in items {
            texts.push(self.store(&item).await?);
        }
        Ok(texts)
    }

    /// Makes a step that answers "ok", or an error.
    pub(super) async fn change(
        &self,
        verb: &'static str,
        with: impl Fn(Call) -> Call,
    ) -> Result<Tagged> {
        self.done(self.try_change(verb, with).await?)
    }

    /// Makes a step that may answer otherwise.
    pub(super) async fn try_change(
        &self,
        verb: &'static str,
        with: impl Fn(Call) -> Call,
    ) -> Result<Tagged> {
        self.kept()?.step(verb, with).await
    }

    /// Makes a call that only looks; it answers "ok", or an error.
    pub(super) async fn look(
        &self,
        verb: &'static str,
        with: impl FnOnce(Call) -> Call,
    ) -> Result<Tagged> {
        self.done(self.kept()?.look(verb, with).await?)
    }

    /// The answer where it is "ok".
    pub(super) fn done(&self, answer: Tagged) -> Result<Tagged> {
        let kind = self.hold.object().word();
        let name = self.name().clone();
        Err(match answer.tag.as_str() {
            "ok" => return Ok(answer),
            "range" => Error::OutOfRange { kind, name },
            "missing" => Error::Missing { kind, name },
            "overflow" => Error::Overflow { kind, name },
            "changed" => Error::Changed { kind, name },
            "gone" => Error::Gone { kind, name },
            other => Error::Unreadable {
                what: "answer",
                why: format!("'{other}' from {kind} {name}"),
            },
        })
    }

    /// The error that it has another size.
    pub(super) fn other_size(&self, size: u64, asked: usize) -> Error {
        Error::OtherSize {
            kind: self.hold.object().word(),
            name: self.name().clone(),
            size,
            asked: asked as u64,
        }
    }

    /// Removes it with its items, whoever has a handle.
    pub(super) async fn unlink(&self) -> Result<()> {
        let object = self.hold.object();
        object.send(&object.look("unlink")).await.map(drop)
    }
}
