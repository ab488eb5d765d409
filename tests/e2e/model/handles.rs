//! Three clients with a handle each of one shared object.

use std::future::Future;
use std::sync::OnceLock;

use pmq_broker::manager::Share;
use pmq_broker::{Broker, Config, Name, TaskId};
use pmq_tests::{Redis, shared};
use tokio::runtime::Runtime;

use crate::fleet::name;

pub(super) const CLIENTS: usize = 3;

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Runtime::new().unwrap())
        .block_on(work)
}

/// Clients of the shared server, each with connections and members of its own.
fn brokers() -> &'static [Broker; CLIENTS] {
    static BROKERS: OnceLock<[Broker; CLIENTS]> = OnceLock::new();
    BROKERS.get_or_init(|| {
        let config = Config::url(shared().url());
        [(); CLIENTS].map(|()| block_on(Broker::connect(&config)).unwrap())
    })
}

/// The handles of an object.
pub(super) struct Handles<H> {
    name: Name,
    handles: [H; CLIENTS],
}

impl<H: Share> Handles<H> {
    /// Handles of a new object with a name.
    pub(super) fn new() -> Self {
        let name = name(&format!("model.{}", TaskId::new()));
        let handles = brokers().each_ref().map(|broker| H::open(broker, &name));
        Self { name, handles }
    }

    /// The object's name, and a client to make it.
    pub(super) fn place(&self) -> (&'static Broker, &Name) {
        (&brokers()[0], &self.name)
    }

    pub(super) fn get(&self, client: usize) -> &H {
        &self.handles[client]
    }

    /// A process dies without a word, and another one comes.
    pub(super) fn crash(&mut self, client: usize) {
        let fresh = H::open(&brokers()[client], &self.name);
        std::mem::forget(std::mem::replace(&mut self.handles[client], fresh));
    }

    /// The leases of all members end.
    pub(super) fn end_leases(&self) {
        let mut connection = shared().raw();
        let members = format!("pmq:{}:{{{}}}:members", H::WORD, self.name);
        let rows: Vec<Vec<u8>> = redis::cmd("ZRANGE")
            .arg(&members)
            .arg(&[0, -1])
            .query(&mut connection)
            .unwrap();
        for member in rows {
            let mut end = redis::cmd("ZADD");
            end.arg(&members).arg(1).arg(member);
            end.exec(&mut connection).unwrap();
        }
    }
}
