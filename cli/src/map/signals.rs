//! The signals that ask the run to stop.
use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ignored::is_ignored;

/// SIGINT, SIGTERM and, unless it is ignored, SIGHUP, from now on.
#[derive(Debug)]
pub struct StopSignals(Vec<Signal>);

impl StopSignals {
    /// Catches them.
    pub fn catch() -> io::Result<Self> {
        let mut caught = vec![
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ];
        if !is_ignored(SignalKind::hangup()) {
            caught.push(signal(SignalKind::hangup())?);
        }
        Ok(Self(caught))
    }

    /// Waits for the next of them. Loses none when dropped.
    pub async fn next(&mut self) {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            if signals.any(|signal| signal.poll_recv(context).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}
