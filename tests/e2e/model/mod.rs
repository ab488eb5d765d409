//! Each object beside a plain one in memory: random steps by several clients, with crashes and leases that end.

mod barrier;
mod condition;
mod dict;
mod event;
mod handles;
mod list;
mod pipe;
mod queue;
mod semaphore;
mod value;

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pmq_broker::{Broker, Config, Name};
use pmq_tests::{Redis, shared};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fleet::{SOON, name};

static OBJECTS: AtomicU32 = AtomicU32::new(0);

/// A name that no other case of a model test uses.
fn fresh_name() -> Name {
    name(&format!("model{}", OBJECTS.fetch_add(1, Ordering::Relaxed)))
}

/// What runs the calls of all clients.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Runtime::new().unwrap())
}

/// So many clients of the shared server, each with connections and members of its own.
fn clients(n: usize) -> &'static [Broker] {
    static CLIENTS: OnceLock<Vec<Broker>> = OnceLock::new();
    let connect = || {
        let config = Config::url(shared().url());
        let connect = async || Broker::connect(&config).await.unwrap();
        runtime().block_on(async { vec![connect().await, connect().await, connect().await] })
    };
    &CLIENTS.get_or_init(connect)[..n]
}

/// Waits until the calls have arrived that were sent before by anybody, also by those who do not await them any more: the
/// last call of one that crashed may renew its lease after the test has ended it. A connection keeps their order.
async fn all_arrived(clients: &[Broker]) {
    for client in clients {
        client.ping().await.unwrap();
    }
}

/// A call that is under way, and may be dropped or crash.
struct Waiting<T> {
    task: JoinHandle<Option<T>>,
    crash: oneshot::Sender<()>,
}

impl<T: Send + 'static> Waiting<T> {
    fn start(call: impl Future<Output = T> + Send + 'static) -> Self {
        let (crash, crashed) = oneshot::channel();
        let task = runtime().spawn(async move {
            let mut call = Box::pin(call);
            tokio::select! {
                done = &mut call => Some(done),
                Ok(()) = crashed => {
                    std::mem::forget(call); // as a killed process, it gives nothing back
                    None
                }
            }
        });
        Self { task, crash }
    }

    fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    async fn result(self) -> T {
        let result = tokio::time::timeout(SOON, self.task).await;
        result.expect("it ends soon").unwrap().unwrap()
    }

    async fn drop_it(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    async fn crash(self) {
        let _ = self.crash.send(());
        let _ = self.task.await;
        all_arrived(clients(3)).await;
    }
}
