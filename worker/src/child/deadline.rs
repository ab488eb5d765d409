//! Waiting for a moment that may never be set.

use std::future::pending;

use tokio::time::{Instant, sleep_until};

/// Returns at `deadline`, or never if there is none.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
