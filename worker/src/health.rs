//! Health: whether the claim loop turns. A worker that does not is no worker.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use crate::Health;

/// After so many seconds without a turn the worker ends with an error rather than idle as a zombie.
const STUCK: u32 = 60;
const HEALTHY: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_secs(1);

/// Beats at each turn of the claim loop.
#[derive(Clone)]
pub(crate) struct Pulse {
    born: Instant,
    last_ms: Arc<AtomicU64>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            born: Instant::now(),
            last_ms: Arc::default(),
        }
    }

    pub(crate) fn beat(&self) {
        self.last_ms
            .store(self.born.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn age(&self) -> Duration {
        self.born
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last_ms.load(Ordering::Relaxed)))
    }

    /// Shows the pulse to others; returns once the loop is stuck.
    pub(crate) async fn watch(self, health: Health) {
        let serving = health
            .addr
            .map(|addr| tokio::spawn(serve(addr, self.clone())));
        // Counted in turns of this loop: time that the whole process stood still is no fault of the claim loop.
        let (mut last, mut still) = (0, 0);
        while still < STUCK {
            let beat = self.last_ms.load(Ordering::Relaxed);
            still = if beat == last { still + 1 } else { 0 };
            last = beat;
            if let Some(file) = &health.file
                && self.age() < HEALTHY
            {
                touch(file).await;
            }
            sleep(EVERY).await;
        }
        if let Some(serving) = serving {
            serving.abort();
        }
    }
}

async fn touch(file: &Path) {
    if let Err(error) = tokio::fs::write(file, b"").await {
        tracing::warn!(target: "pmq", %error, "could not touch the health file {}", file.display());
    }
}

async fn serve(addr: std::net::SocketAddr, pulse: Pulse) {
    let listener = match TcpListener::bind(addr).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(target: "pmq", %error, "could not listen on the health address {addr}");
            return;
        }
    };
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            sleep(EVERY).await;
            continue;
        };
        let healthy = pulse.age() < HEALTHY;
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let _ = tokio::time::timeout(EVERY, stream.read(&mut request)).await;
            let (status, body) = if healthy {
                ("200 OK", "ok\n")
            } else {
                ("503 Service Unavailable", "the claim loop does not turn\n")
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}
