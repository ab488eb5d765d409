//! The lending socket: over it a command tells its worker that it waits for other tasks.
//!
//! A line with the run's token lends its slot for as long as the connection is open.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pmq_broker::lending::{self, Lender as _};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::Lender;

/// The longest path that every system takes for a socket.
const LONGEST_PATH: usize = 100;
/// The longest line that may be a token.
const LONGEST_LINE: u64 = 128;
/// How long a connection may take to show its token.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the next try to take a connection, where the system has no room for one.
const PAUSE: Duration = Duration::from_millis(100);

type Runs = Mutex<HashMap<String, (Arc<Lender>, CancellationToken)>>;

/// A worker's socket; it and its directory, which no other user can enter, are removed when this is dropped.
pub(crate) struct Socket {
    desk: Desk,
    accepting: AbortHandle,
    _directory: TempDir,
}

/// Where runs get their tickets.
#[derive(Clone)]
pub(crate) struct Desk {
    path: Arc<Path>,
    runs: Arc<Runs>,
}

/// The right of one run to lend its slot; it, and what was lent by it, end when this is dropped.
pub(crate) struct Ticket {
    token: String,
    desk: Desk,
    _over: DropGuard,
}

impl Socket {
    /// Makes the socket, and serves it on this runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let directory = short_directory()?;
        let path = directory.path().join("lend");
        let listener = UnixListener::bind(&path)?;
        let desk = Desk {
            path: path.into(),
            runs: Arc::default(),
        };
        let accepting = tokio::spawn(accept(listener, desk.runs.clone())).abort_handle();
        Ok(Self {
            desk,
            accepting,
            _directory: directory,
        })
    }

    pub(crate) fn desk(&self) -> Desk {
        self.desk.clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Desk {
    /// A ticket for the run that has this lender.
    pub(crate) fn admit(&self, lender: &Arc<Lender>) -> Ticket {
        let (token, over) = (
            Uuid::new_v4().simple().to_string(),
            CancellationToken::new(),
        );
        lock(&self.runs).insert(token.clone(), (lender.clone(), over.clone()));
        Ticket {
            token,
            desk: self.clone(),
            _over: over.drop_guard(),
        }
    }
}

impl Ticket {
    /// What the run's command must know to lend its slot.
    pub(crate) fn variables(&self) -> [(OsString, OsString); 2] {
        [
            (lending::SOCKET.into(), self.desk.path.as_os_str().into()),
            (lending::TOKEN.into(), self.token.clone().into()),
        ]
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.desk.runs).remove(&self.token);
    }
}

fn lock(runs: &Runs) -> MutexGuard<'_, HashMap<String, (Arc<Lender>, CancellationToken)>> {
    runs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that only this user can enter, with a path that leaves room for the socket's name.
fn short_directory() -> io::Result<TempDir> {
    let places = [
        Some(env::temp_dir()),
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
        Some("/tmp".into()),
    ];
    let mut refused = io::Error::from(io::ErrorKind::InvalidFilename);
    for place in places.into_iter().flatten() {
        let made = tempfile::Builder::new()
            .prefix("pmq-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(place);
        match made {
            Ok(directory) if directory.path().join("lend").as_os_str().len() < LONGEST_PATH => {
                return Ok(directory);
            }
            Ok(_too_long) => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

async fn accept(listener: UnixListener, runs: Arc<Runs>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, runs.clone()))),
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "could not take a connection of a command");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Lends the slot of the run whose token comes first, until the connection or the run ends.
async fn serve(stream: UnixStream, runs: Arc<Runs>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut start = (&mut stream).take(LONGEST_LINE);
    let shown = timeout(PATIENCE, start.read_line(&mut line)).await;
    if !matches!(shown, Ok(Ok(_))) {
        return;
    }
    let run = line
        .strip_suffix('\n')
        .and_then(|token| lock(&runs).get(token).cloned());
    let Some((lender, over)) = run else {
        tracing::warn!(target: "pmq", "refused to lend a slot: no run here has the token that was shown");
        return;
    };
    let _lent = lender.lend();
    let mut sink = tokio::io::sink();
    tokio::select! {
        _ = tokio::io::copy(&mut stream, &mut sink) => {}
        () = over.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::tests::one;
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    async fn show(socket: &Socket, line: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&socket.desk.path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        stream
    }

    async fn until_closed(mut stream: UnixStream) {
        let closed = timeout(SOON, stream.read(&mut [0])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)));
    }

    #[tokio::test]
    async fn a_connection_lends_until_it_is_closed() {
        let (slots, lender) = one().await;
        let socket = Socket::open().unwrap();
        let ticket = socket.desk().admit(&lender);
        let stream = show(&socket, &format!("{}\n", ticket.token)).await;
        let lent = timeout(SOON, slots.free()).await.unwrap();
        assert_eq!(lent.len(), 1);
        drop((lent, stream));
        while !slots.none_is_free() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_end_of_the_run_ends_the_loan_and_the_token() {
        let (_slots, lender) = one().await;
        let socket = Socket::open().unwrap();
        let ticket = socket.desk().admit(&lender);
        let line = format!("{}\n", ticket.token);
        let stream = show(&socket, &line).await;
        drop(ticket);
        until_closed(stream).await;
        until_closed(show(&socket, &line).await).await;
    }

    #[tokio::test]
    async fn a_stranger_is_refused() {
        let (slots, lender) = one().await;
        let socket = Socket::open().unwrap();
        let ticket = socket.desk().admit(&lender);
        let half = format!("{}\n", &ticket.token[..16]);
        for line in ["\n", &half, &"x".repeat(1000)] {
            until_closed(show(&socket, line).await).await;
        }
        assert!(slots.none_is_free());
    }

    #[tokio::test]
    async fn the_socket_is_closed_to_others_and_leaves_nothing() {
        let socket = Socket::open().unwrap();
        let path = socket.desk.path.clone();
        let directory = path.parent().unwrap();
        let mode = std::fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(socket);
        assert!(!directory.exists());
    }
}
