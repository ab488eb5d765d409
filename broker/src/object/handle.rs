//! What the handles of this process on one object share: a hold on an anonymous one, and members for numbered calls.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::{Granted, Lease, Member, Object};
use crate::error::Result;
use crate::functions::Call;
use crate::reply::Tagged;
use crate::task_queue::DEFAULT_LEASE;

/// An object that this process uses. An anonymous one lives at least as long as this.
pub(crate) struct Handle {
    object: Object,
    /// Members whose calls have all been answered.
    idle: Mutex<Vec<Caller>>,
    hold: tokio::sync::Mutex<Option<Hold>>,
}

/// A member that holds nothing of an anonymous object but the object itself.
struct Hold {
    member: Member,
    lease: Lease,
}

/// A member that makes one numbered call after another, each of which counts once, however often it is sent.
pub(crate) struct Caller {
    pub(crate) member: Member,
    /// Of the call that it makes now.
    pub(crate) number: u32,
}

impl Caller {
    /// Its present call. The row of the member lives for `lease_ms` from then on.
    pub(crate) fn call(&self, object: &Object, verb: &'static str, lease_ms: u128) -> Call {
        object
            .call(verb)
            .arg(self.member.as_bytes())
            .arg(self.number)
            .arg(lease_ms as u64)
    }
}

impl Handle {
    pub(crate) fn new(object: Object) -> Self {
        Self {
            object,
            idle: Mutex::default(),
            hold: tokio::sync::Mutex::default(),
        }
    }

    /// The object, without seeing to it that it lives.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// The object, which lives from now on for as long as this handle.
    pub(crate) async fn held(&self) -> Result<&Object> {
        let object = &self.object;
        if !object.is_anonymous() {
            return Ok(object);
        }
        let mut hold = self.hold.lock().await;
        if hold.as_ref().is_none_or(|hold| hold.lease.is_lost()) {
            let member = object.client().member();
            let granted = Granted {
                lease: DEFAULT_LEASE,
                first: DEFAULT_LEASE,
                sent: Instant::now(),
            };
            let lease_ms = DEFAULT_LEASE.as_millis() as u64;
            let attach = object.call("attach").arg(member.as_bytes()).arg(lease_ms);
            object.send(&attach).await?;
            let lease = object.client().keep(object, member, granted);
            *hold = Some(Hold { member, lease });
        }
        Ok(object)
    }

    /// A member for a call: its number is new.
    pub(crate) fn caller(&self) -> Caller {
        let idle = self.idle.lock();
        let idle = idle.unwrap_or_else(PoisonError::into_inner).pop();
        let mut caller = idle.unwrap_or_else(|| Caller {
            member: self.object.client().member(),
            number: 0,
        });
        caller.number += 1;
        caller
    }

    /// Keeps a member whose last call was answered for another one.
    pub(crate) fn give_back(&self, caller: Caller) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(caller);
    }

    /// Makes one numbered call, to which `with` adds its own arguments.
    pub(crate) async fn step(
        &self,
        verb: &'static str,
        with: impl Fn(Call) -> Call,
    ) -> Result<Tagged> {
        let object = self.held().await?;
        loop {
            let caller = self.caller();
            let call = with(caller.call(object, verb, DEFAULT_LEASE.as_millis()));
            let answer = object.send(&call).await?;
            // The row of a member that was idle for longer than its lease may have ended. Nothing happened then.
            if answer.tag != "lost" {
                self.give_back(caller);
                return Ok(answer);
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(Hold { member, lease }) = self.hold.get_mut().take() {
            drop(lease);
            let detach = self.object.call("detach").arg(member.as_bytes());
            self.object.client().farewell(detach);
        }
    }
}
