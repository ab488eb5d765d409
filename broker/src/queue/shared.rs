//! What the clones of a handle share: the queue, its terms, the members that call, whether it is closed.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio_util::task::TaskTracker;

use super::frame;
use super::turn::{Ask, Turn, Until};
use crate::error::{Error, Result};
use crate::lending::while_waiting;
use crate::object::{CALLER_LEASE, Caller, Hold, Object};
use crate::reply;
use crate::task_queue::{CHUNK, CHUNK_BYTES};

/// The most bytes of an item.
pub const ITEM_LIMIT: usize = 16 << 20;

/// What a handle says about its queue with each call.
#[derive(Clone, Copy, Default)]
pub(super) struct Terms {
    pub(super) maxsize: Option<u64>,
    pub(super) joinable: bool,
}

/// How a queue stands.
pub(super) struct Sizes {
    /// Items that were put and not got.
    pub(super) items: u64,
    pub(super) maxsize: u64,
    /// Room that putters were granted who waited for it.
    pub(super) granted: u64,
}

pub(super) struct Shared {
    pub(super) hold: Hold,
    pub(super) terms: Terms,
    /// Puts under way; closed with the handle.
    puts: TaskTracker,
    abandoned: AtomicBool,
}

impl Shared {
    pub(super) fn new(object: Object) -> Self {
        Self {
            hold: Hold::new(object),
            terms: Terms::default(),
            puts: TaskTracker::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    pub(super) fn object(&self) -> &Object {
        self.hold.object()
    }

    /// Puts items one after the other; answers how many were put before the time was over, or before the error.
    pub(super) async fn put(&self, items: &[Bytes], until: Until) -> (usize, Result<()>) {
        let _under_way = self.puts.token();
        let mut put = 0;
        let ended = self.put_all(items, until, &mut put).await;
        (put, ended)
    }

    async fn put_all(&self, items: &[Bytes], until: Until, put: &mut usize) -> Result<()> {
        for item in items {
            check_size(item)?;
        }
        self.hold.attached_until(until.deadline()).await?;
        let mut turn = Turn::new(self)?;
        let mut most = CHUNK;
        while *put < items.len() {
            let chunk = first_chunk(&items[*put..], most);
            let frames = frame::encode(chunk);
            let ask = Ask {
                verb: "queue_put",
                waits: true,
                count: None,
                frames: &frames,
            };
            let Some(mut answer) = turn.take(&ask, until).await? else {
                break;
            };
            let taken = answer.number()? as usize;
            *put += taken;
            // Where room is scarce, do not send again and again what does not fit.
            most = if taken < chunk.len() {
                taken * 2
            } else {
                CHUNK.min(most * 2)
            };
        }
        Ok(())
    }

    /// Gets up to `n` items as soon as there is one; none where the time is over.
    pub(super) async fn get(&self, n: usize, until: Until) -> Result<Vec<Bytes>> {
        if n == 0 {
            return Ok(Vec::new());
        }
        let ask = Ask {
            verb: "queue_get",
            waits: true,
            count: Some(n),
            frames: &[],
        };
        let Some(mut answer) = self.take(&ask, until).await? else {
            return Ok(Vec::new());
        };
        frame::decode(answer.bytes()?).ok_or_else(|| reply::odd(ask.verb))
    }

    pub(super) async fn task_done(&self, n: usize) -> Result<()> {
        let ask = Ask {
            verb: "queue_task_done",
            waits: false,
            count: Some(n),
            frames: &[],
        };
        self.take(&ask, Until::Now).await.map(drop)
    }

    /// Waits until no item is unfinished; answers whether that came in time.
    pub(super) async fn join(&self, until: Until) -> Result<bool> {
        let ask = Ask {
            verb: "queue_join",
            waits: true,
            count: None,
            frames: &[],
        };
        Ok(self.take(&ask, until).await?.is_some())
    }

    async fn take(&self, ask: &Ask<'_>, until: Until) -> Result<Option<reply::Tagged>> {
        self.hold.attached_until(until.deadline()).await?;
        Turn::new(self)?.take(ask, until).await
    }

    pub(super) async fn sizes(&self) -> Result<Sizes> {
        let object = self.hold.attached().await?;
        let look = object.look("queue_look");
        let answer = reply::items(object.send_raw(&look).await?, look.verb)?;
        let numbers = answer.into_iter().map(|n| reply::number(n, look.verb));
        match numbers.collect::<Result<Vec<_>>>()?[..] {
            [items, maxsize, granted, ..] => Ok(Sizes {
                items,
                maxsize,
                granted,
            }),
            _ => Err(reply::odd(look.verb)),
        }
    }

    pub(super) fn close(&self) {
        self.puts.close();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.puts.is_closed()
    }

    /// The error of what a closed queue refuses.
    pub(super) fn closed(&self) -> Error {
        Error::Closed {
            kind: self.object().word(),
            name: self.object().name().clone(),
        }
    }

    /// Waits for the puts under way, unless that was cancelled.
    pub(super) async fn join_thread(&self) -> Result<()> {
        if !self.is_closed() {
            return Err(Error::NotClosed {
                kind: self.object().word(),
                name: self.object().name().clone(),
            });
        }
        if !self.abandoned.load(Ordering::Relaxed) {
            while_waiting(self.puts.wait()).await;
        }
        Ok(())
    }

    pub(super) fn cancel_join_thread(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Ends callers in the background: those that did not hear the answer to their present call where `unheard` says so.
    pub(super) fn leave(&self, callers: &[Caller], unheard: bool) {
        let mut call = self
            .object()
            .call("queue_leave")
            .arg(CALLER_LEASE.as_millis() as u64);
        for caller in callers {
            let number = if unheard { caller.number } else { 0 };
            call = call.arg(caller.member.as_bytes()).arg(number);
        }
        self.object().farewell(call);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let callers = self.hold.take_callers();
        if !callers.is_empty() {
            self.leave(&callers, false);
        }
    }
}

fn check_size(item: &Bytes) -> Result<()> {
    if item.len() > ITEM_LIMIT {
        return Err(Error::TooLarge {
            what: "the item",
            size: item.len(),
            limit: ITEM_LIMIT,
        });
    }
    Ok(())
}

/// The first items, at most so many and 1 MiB, but at least one.
fn first_chunk(items: &[Bytes], most: usize) -> &[Bytes] {
    let mut bytes = 0;
    let fit = items.iter().take(most.min(CHUNK)).take_while(|item| {
        bytes += item.len();
        bytes <= CHUNK_BYTES
    });
    &items[..fit.count().max(1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_bounded_and_never_empty() {
        let items = |n: usize, size: usize| vec![Bytes::from(vec![0; size]); n];
        assert_eq!(first_chunk(&items(2000, 10), CHUNK).len(), 500);
        assert_eq!(first_chunk(&items(2000, 10), 7).len(), 7);
        assert_eq!(first_chunk(&items(3, 400_000), CHUNK).len(), 2);
        assert_eq!(first_chunk(&items(2, 2_000_000), CHUNK).len(), 1);
    }

    #[test]
    fn an_item_has_a_limit() {
        assert!(check_size(&Bytes::from(vec![0; ITEM_LIMIT])).is_ok());
        let error = check_size(&Bytes::from(vec![0; ITEM_LIMIT + 1])).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }));
    }
}
