//! Lending: a task that waits for other tasks lends its slot, so that they can run in it.

use std::env;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The variable in which a command finds the path of its worker's lending socket.
pub const SOCKET: &str = "PMQ_WORKER_SOCKET";
/// The variable in which a command finds the token with which it lends its slot there, and no other.
pub const TOKEN: &str = "PMQ_LEND_TOKEN";

/// Lends the slot of one task.
pub trait Lender: Send + Sync {
    /// Lends it until the answer is dropped. However often it is lent at a time, it is one slot that is lent.
    fn lend(self: Arc<Self>) -> Lent;
}

/// A slot is lent while this lives.
pub type Lent = Box<dyn Send>;

tokio::task_local! {
    static LENDER: Arc<dyn Lender>;
}

/// The connection over which this process, which is a command's, lends its slot: one for all its waits.
static CONNECTION: Mutex<Weak<UnixStream>> = Mutex::new(Weak::new());

/// Runs a task's work; what waits in it by [`while_waiting`] lends by this lender. Workers call it, handlers need not.
pub async fn with_lender<F: Future>(lender: Arc<dyn Lender>, work: F) -> F::Output {
    LENDER.scope(lender, work).await
}

/// Awaits what other tasks bring about, and meanwhile lends the slot of the task that this is part of, if it is part
/// of one: a handler's, or a command's. Else it only awaits. The end of the wait takes the slot back without waiting
/// for it. Python's multiprocessing has no counterpart: a `Pool` whose workers all wait for its other tasks is stuck.
///
/// All waits for tasks in this crate do so by themselves. It is for waits of another kind, as for a channel that
/// another task of the runtime feeds; in what is spawned, a handler's slot is not known.
pub async fn while_waiting<F: Future>(wait: F) -> F::Output {
    let _lent = lend();
    wait.await
}

/// Runs what works for a task beside it, whose waits are not the task's own: they lend nothing.
pub(crate) async fn without_lending<F: Future>(work: F) -> F::Output {
    with_lender(Arc::new(Nobody), work).await
}

struct Nobody;

impl Lender for Nobody {
    fn lend(self: Arc<Self>) -> Lent {
        Box::new(())
    }
}

fn lend() -> Option<Lent> {
    if let Ok(lender) = LENDER.try_with(Arc::clone) {
        return Some(lender.lend());
    }
    let (socket, token) = (env::var_os(SOCKET)?, env::var(TOKEN).ok()?);
    match connect(&CONNECTION, socket.as_ref(), &token) {
        Ok(connection) => Some(Box::new(connection)),
        Err(error) => {
            tracing::debug!(target: "pmq", %error, "could not lend the slot of this command; it waits in it");
            None
        }
    }
}

/// The open connection, or a new one. Neither a full buffer nor a slow worker is waited for: the token is a line.
fn connect(
    open: &Mutex<Weak<UnixStream>>,
    socket: &Path,
    token: &str,
) -> io::Result<Arc<UnixStream>> {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connection) = open.upgrade() {
        return Ok(connection);
    }
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{token}\n").as_bytes())?;
    let connection = Arc::new(stream);
    *open = Arc::downgrade(&connection);
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    struct Waiting(Arc<Count>);

    impl Lender for Count {
        fn lend(self: Arc<Self>) -> Lent {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::new(Waiting(self))
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_wait_lends_by_its_own_task_from_its_start_to_its_end() {
        let lender = Arc::new(Count::default());
        let waits = || lender.0.load(Ordering::Relaxed);
        let inner = async || while_waiting(async { waits() }).await;
        let work = async {
            assert_eq!((waits(), inner().await), (0, 1));
            assert_eq!(while_waiting(inner()).await, 2);
            assert_eq!(waits(), 0);
            let mut dropped = Box::pin(while_waiting(std::future::pending::<()>()));
            tokio::select! {
                biased;
                () = &mut dropped => {}
                () = std::future::ready(()) => assert_eq!(waits(), 1),
            }
            drop(dropped);
            assert_eq!(waits(), 0);
            assert_eq!(without_lending(inner()).await, 0);
        };
        with_lender(lender.clone(), work).await;
        assert_eq!(while_waiting(async { waits() }).await, 0);
    }

    #[test]
    fn a_process_lends_over_one_connection_while_any_wait_lives() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lend");
        let open = Mutex::new(Weak::new());
        assert!(connect(&open, &path, "secret").is_err());
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let first = connect(&open, &path, "secret").unwrap();
        let second = connect(&open, &path, "secret").unwrap();
        let mut worker = BufReader::new(listener.accept().unwrap().0);
        assert!(listener.accept().is_err(), "one connection for both");
        let mut line = String::new();
        worker.read_line(&mut line).unwrap();
        assert_eq!(line, "secret\n");
        drop(first);
        worker.get_ref().set_nonblocking(true).unwrap();
        assert!(worker.read(&mut [0]).is_err(), "still open");
        drop(second);
        assert_eq!(worker.read(&mut [0]).unwrap(), 0);
        let _third = connect(&open, &path, "secret").unwrap();
        assert!(listener.accept().is_ok());
    }
}
