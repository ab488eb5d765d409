//! A flag that processes on any host set, clear and wait for. In Python this is `multiprocessing.Event`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::broker::{Broker, PATIENCE};
use crate::error::Result;
use crate::ids::Name;
use crate::keys::Kind;
use crate::lending::while_waiting;
use crate::object::{ASK_AGAIN, Caller, Hold, Object, WAITING_LEASE};
use crate::task_queue::deadline_after;

pub(crate) const EVENT: Kind = Kind {
    word: "event",
    parts: &["meta", "members", "log", "waiters"],
};

/// A flag; unset at first. Clones are the same event.
///
/// Whoever waits when it is set is woken, also where it is cleared again at once. (Python's `Event.wait` may answer
/// `False` then.)
#[derive(Clone)]
pub struct Event(Arc<Hold>);

impl Broker {
    /// The event of this name.
    #[must_use]
    pub fn event(&self, name: &Name) -> Event {
        Event::over(Object::attached(self, EVENT, name))
    }

    /// A new event without a name of its own, which lives as long as some process uses it. In Python this is `Event()`.
    #[must_use]
    pub fn anonymous_event(&self) -> Event {
        Event::over(Object::anonymous(self, EVENT))
    }
}

impl Event {
    fn over(object: Object) -> Self {
        Self(Arc::new(Hold::new(object)))
    }

    /// The same, once it is sure to live for as long as this handle.
    pub(crate) async fn attached(self) -> Result<Self> {
        self.0.attached().await?;
        Ok(self)
    }

    /// What another process opens it by.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.0.object().name()
    }

    /// Sets it, and wakes everybody who waits. In Python this is `Event.set`.
    pub async fn set(&self) -> Result<()> {
        let mut set = "1";
        loop {
            let mut answer = self.0.step("event_set", |call| call.arg(set)).await?;
            if answer.text()? == "0" {
                return Ok(());
            }
            set = "0"; // the others, whether or not somebody has cleared it meanwhile
        }
    }

    /// Clears it. In Python this is `Event.clear`.
    pub async fn clear(&self) -> Result<()> {
        self.0.step("event_clear", |call| call).await.map(drop)
    }

    /// Whether it is set. In Python this is `Event.is_set`.
    pub async fn is_set(&self) -> Result<bool> {
        let answer = self.0.look("event_look", |call| call).await?;
        Ok(answer.tag == "set")
    }

    /// Waits until it is set. In Python this is `Event.wait()`.
    pub async fn wait(&self) -> Result<()> {
        while !self.wait_timeout(Duration::MAX).await? {}
        Ok(())
    }

    /// Waits up to `timeout` until it is set; whether it is. In Python this is `Event.wait(timeout)`.
    ///
    /// [`Error::Unreachable`](crate::Error::Unreachable) says that the broker answered nothing in all that time, or in
    /// the first 10 s of it.
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<bool> {
        let waits = !timeout.is_zero();
        let deadline = deadline_after(if waits { timeout } else { PATIENCE });
        let mut waiter = Waiter::new(self.0.attached_until(deadline).await?)?;
        if waiter.ask(waits, deadline).await? {
            return Ok(true);
        }
        if !waits {
            return Ok(false);
        }
        while_waiting(waiter.wait(deadline)).await
    }
}

/// Somebody who waits. Dropping it ends that.
struct Waiter<'a> {
    object: &'a Object,
    caller: Caller,
    /// How often the event had been set when it began to wait, as text; nothing before it is known.
    since: String,
    sent: Instant,
    /// Its call may be under way.
    asking: bool,
    in_line: bool,
}

impl<'a> Waiter<'a> {
    fn new(object: &'a Object) -> Result<Self> {
        Ok(Self {
            object,
            caller: Caller::new(object)?,
            since: String::new(),
            sent: Instant::now(),
            asking: false,
            in_line: true,
        })
    }

    /// Whether the event is set, or was since.
    async fn ask(&mut self, wait: bool, deadline: Instant) -> Result<bool> {
        self.sent = Instant::now();
        self.asking = true;
        let mut answer = self.object.send_until(&self.call(wait), deadline).await?;
        self.asking = false;
        self.in_line = answer.tag == "wait";
        if self.in_line {
            self.since = answer.text()?;
        }
        Ok(answer.tag == "set")
    }

    fn call(&self, wait: bool) -> crate::functions::Call {
        self.caller
            .call(self.object, "event_wait", WAITING_LEASE)
            .arg(&self.since)
            .arg(if wait { "1" } else { "0" })
    }

    async fn wait(&mut self, deadline: Instant) -> Result<bool> {
        let client = self.object.client()?;
        let mut mail = client.mail(self.caller.member, deadline).await;
        loop {
            let over = Instant::now() >= deadline;
            match self.ask(!over, deadline).await {
                Ok(false) if !over => {}
                Err(error) if error.is_transient() => {
                    if over {
                        return Ok(false);
                    }
                }
                set => return set,
            }
            let again = (self.sent + ASK_AGAIN).min(deadline);
            if mail.next(again).await.is_some_and(|word| !word.is_empty()) {
                self.in_line = false;
                return Ok(true);
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.in_line {
            self.object.give_up(self.call(false), self.asking);
        }
    }
}
