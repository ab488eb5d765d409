//! The thread of a client, with a runtime of its own.

use std::sync::mpsc;
use std::{io, thread};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::{Error, Result};

/// A thread that runs what is spawned on its runtime, until it is dropped; what has not ended then is dropped as well.
///
/// A runtime of several threads would panic where the system has none left for it.
pub(super) struct Office {
    runtime: Handle,
    _open: DropGuard,
}

impl Office {
    pub(super) fn open() -> Result<Self> {
        let open = CancellationToken::new();
        let closed = open.clone();
        let (sender, runtime) = mpsc::channel();
        // The runtime is made and dropped there, which it could not be in an asynchronous caller.
        let run = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = sender.send(Ok(runtime.handle().clone()));
                runtime.block_on(closed.cancelled());
            }
            Err(error) => drop(sender.send(Err(error))),
        };
        let thread = thread::Builder::new().name("pmq-client".to_owned());
        thread.spawn(run).map_err(Error::NoThread)?;
        let runtime = runtime
            .recv()
            .unwrap_or_else(|gone| Err(io::Error::other(gone)));
        Ok(Self {
            runtime: runtime.map_err(Error::NoThread)?,
            _open: open.drop_guard(),
        })
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_what_is_spawned_and_drops_the_rest_when_it_closes() {
        let office = Office::open().unwrap();
        let (sender, done) = mpsc::channel();
        let other = sender.clone();
        office.runtime().spawn(async move { other.send("ran") });
        assert_eq!(done.recv().unwrap(), "ran");
        office.runtime().spawn(async move {
            std::future::pending::<()>().await;
            sender.send("never")
        });
        drop(office);
        assert!(done.recv().is_err(), "nobody is left to send");
    }
}
