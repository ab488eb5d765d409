//! How ends are passed to other processes. In Python this is pickling a `Connection`.

use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::end::{End, Origin, Side};
use super::{Connection, PIPE, Receiver, Sender};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::ids::Name;
use crate::object::{Member, Object};

/// How long a ticket that nobody has opened holds its end.
const TICKET_LEASE: Duration = Duration::from_secs(60);

/// One more hold of an end, on its way to another process: as JSON in a task's arguments, or over another pipe. In
/// Python this is the pickled `Connection`.
///
/// It can be opened once, within 60 s. Until then it holds the end as an open one does, so the pipe does not end while
/// it is on its way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "", transparent)]
pub struct Ticket<E> {
    halves: Vec<Half>,
    #[serde(skip)]
    end: PhantomData<fn() -> E>,
}

impl<E> Clone for Ticket<E> {
    fn clone(&self) -> Self {
        Self::of(self.halves.clone())
    }
}

impl<E> Ticket<E> {
    fn of(halves: Vec<Half>) -> Self {
        Self {
            halves,
            end: PhantomData,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Half {
    pipe: Name,
    side: Side,
    /// The member that holds the end meanwhile.
    holder: Uuid,
    lease_ms: u64,
}

/// An end that can be passed to another process: [`Receiver`], [`Sender`] and [`Connection`].
pub trait Shared: Sized + private::Halves {
    /// A ticket by which another process opens this end too, at most 60 s from now. This one stays open.
    fn share(&self) -> impl Future<Output = Result<Ticket<Self>>> + Send;
}

impl Broker {
    /// Opens an end that another process has shared. [`Error::TicketGone`] where somebody opened it before, or where
    /// it took longer than 60 s.
    pub async fn open_end<E: Shared>(&self, ticket: &Ticket<E>) -> Result<E> {
        let mut ends = Vec::new();
        for half in &ticket.halves {
            ends.push(half.open(self).await?);
        }
        E::join(ends)
            .ok_or_else(|| Error::BadOption("the ticket is for an end of another kind".to_owned()))
    }
}

impl<E: private::Halves + Sync> Shared for E {
    async fn share(&self) -> Result<Ticket<Self>> {
        let mut halves = Vec::new();
        for end in self.halves() {
            halves.push(Half::share(end).await?);
        }
        Ok(Ticket::of(halves))
    }
}

impl Half {
    async fn share(end: &End) -> Result<Self> {
        Ok(Self {
            pipe: end.object().name().clone(),
            side: end.side(),
            holder: Uuid::from_bytes(end.share(TICKET_LEASE).await?.to_bytes()),
            lease_ms: end.lease().as_millis() as u64,
        })
    }

    async fn open(&self, broker: &Broker) -> Result<End> {
        let object = Object::attached(broker, PIPE, &self.pipe);
        let lease = Duration::from_millis(self.lease_ms.max(1000));
        let holder = Member::from_slice(self.holder.as_bytes()).expect("both have 16 bytes");
        End::open(object, self.side, lease, Origin::InPlaceOf(holder)).await
    }
}

/// Keeps [`Shared`] to the ends of this crate.
mod private {
    use super::End;

    #[expect(
        private_interfaces,
        reason = "nobody outside can call it, as its module is private"
    )]
    pub trait Halves {
        fn halves(&self) -> Vec<&End>;
        fn join(ends: Vec<End>) -> Option<Self>
        where
            Self: Sized;
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl<T> private::Halves for Receiver<T> {
    fn halves(&self) -> Vec<&End> {
        vec![self.end()]
    }

    fn join(ends: Vec<End>) -> Option<Self> {
        let [end] = <[End; 1]>::try_from(ends).ok()?;
        (end.side() == Side::Reader).then(|| Self::new(end))
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl<T> private::Halves for Sender<T> {
    fn halves(&self) -> Vec<&End> {
        vec![self.end()]
    }

    fn join(ends: Vec<End>) -> Option<Self> {
        let [end] = <[End; 1]>::try_from(ends).ok()?;
        (end.side() == Side::Writer).then(|| Self::new(end))
    }
}

#[expect(private_interfaces, reason = "as in the trait")]
impl<T> private::Halves for Connection<T> {
    fn halves(&self) -> Vec<&End> {
        vec![self.receiver().end(), self.sender().end()]
    }

    fn join(ends: Vec<End>) -> Option<Self> {
        let [reader, writer] = <[End; 2]>::try_from(ends).ok()?;
        let sides = (reader.side(), writer.side());
        (sides == (Side::Reader, Side::Writer))
            .then(|| Self::new(Receiver::new(reader), Sender::new(writer)))
    }
}
