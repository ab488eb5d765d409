//! Keeps a runner's child alive, and decides what its end means for the tasks that it held.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::calls::{Calls, Message};
use super::session::{End, Greeting, Session};
use super::{Config, RunnerError};
use crate::child::Guard;

/// How long a child that closed its output has to leave by itself, for the sake of its exit code.
const LEAVE: Duration = Duration::from_secs(1);

const BACKOFF_FLOOR: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(5);

/// The task behind the handles of one runner.
pub(super) struct Supervisor {
    config: Config,
    guard: Guard,
    greeting: Greeting,
    calls: Calls,
    /// How many children in a row ended before they had answered anything.
    failures: u32,
}

impl Supervisor {
    pub(super) fn new(config: Config, guard: Guard, greeting: Greeting) -> Self {
        Self {
            config,
            guard,
            greeting,
            calls: Calls::default(),
            failures: 0,
        }
    }

    /// Starts one child after the other until the last handle is dropped.
    pub(super) async fn run(mut self, mut inbox: UnboundedReceiver<Message>) {
        loop {
            let open = match Session::start(&self.config, &self.guard, self.greeting.clone()) {
                Ok(session) => self.attend(session, &mut inbox).await,
                Err(error) => {
                    tracing::warn!(%error, "could not start a runner");
                    self.failures += 1;
                    self.calls.fail_all(&Arc::new(error));
                    true
                }
            };
            if !open || !self.pause(&mut inbox).await {
                return;
            }
        }
    }

    /// Serves with one child to its end; false once nobody needs another.
    async fn attend(
        &mut self,
        mut session: Session,
        inbox: &mut UnboundedReceiver<Message>,
    ) -> bool {
        let end = session.serve(&mut self.calls, inbox).await;
        let has_answered = session.has_answered;
        let patience = match end {
            End::Closed => self.config.grace,
            End::Died => LEAVE,
            End::Garbage(_) | End::TimedOut | End::Stopped => Duration::ZERO,
        };
        let exit = session.end(patience).await;
        let failed = matches!(end, End::Died | End::Garbage(_)) && !has_answered;
        self.failures = if failed { self.failures + 1 } else { 0 };
        let error = match end {
            End::Closed => return false,
            End::Died => RunnerError::Died { exit },
            End::Garbage(line) => RunnerError::Garbage { line },
            End::TimedOut => RunnerError::TimedOut,
            End::Stopped => RunnerError::Stopped,
        };
        tracing::warn!(%error, %exit, "a runner has ended, and starts again");
        self.calls.fail_oldest(error);
        self.calls.put_back();
        true
    }

    /// Waits before the next start if the last ones failed; false if the last handle was dropped.
    async fn pause(&mut self, inbox: &mut UnboundedReceiver<Message>) -> bool {
        let until = Instant::now() + backoff(self.failures);
        loop {
            match timeout_at(until, inbox.recv()).await {
                Ok(Some(message)) => self.calls.take(message, inbox),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }
}

/// The delay after this many failures in a row.
fn backoff(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => BACKOFF_FLOOR
            .saturating_mul(1 << (n - 1).min(16))
            .min(BACKOFF_CAP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_between_its_floor_and_its_cap() {
        assert_eq!(
            [0, 1, 2, 3].map(|n| backoff(n).as_millis()),
            [0, 100, 200, 400]
        );
        assert_eq!(
            [6, 7, 100, u32::MAX].map(|n| backoff(n).as_millis()),
            [3200, 5000, 5000, 5000]
        );
    }
}
