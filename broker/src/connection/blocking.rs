//! Work that blocks, beside the runtime.

use std::{io, thread};

use tokio::sync::oneshot;

/// Does it in a thread of its own. The runtime's own way panics where the system has no thread left; this is an error.
pub(crate) async fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, done) = oneshot::channel();
    thread::Builder::new()
        .name("pmq-blocking".to_owned())
        .spawn(move || drop(sender.send(work())))?;
    done.await
        .map_err(|_| io::Error::other("the thread panicked"))
}
