//! What is published on some channels.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// How often a server that may be replaced by another is asked whether it is there.
const CHECK_EVERY: Duration = Duration::from_secs(5);
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// What is published on some channels. It may lose messages: use it to be quick, never to be right.
pub(crate) struct Subscription {
    messages: UnboundedReceiver<PushInfo>,
    connection: MultiplexedConnection,
    /// Where another server may take this one's place: when it does.
    retired: Option<CancellationToken>,
    checked: Instant,
}

impl Subscription {
    pub(super) fn new(
        messages: UnboundedReceiver<PushInfo>,
        connection: MultiplexedConnection,
        retired: Option<CancellationToken>,
    ) -> Self {
        Self {
            messages,
            connection,
            retired,
            checked: Instant::now(),
        }
    }

    /// The payloads that have arrived already.
    pub(crate) fn waiting(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let Ok(push) = self.messages.try_recv() {
            payloads.extend(payload(push));
        }
        payloads
    }

    /// The next message's payload; `None` once the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let push = tokio::select! {
                push = self.messages.recv() => push?,
                () = gone(&mut self.connection, self.retired.as_ref(), &mut self.checked) => return None,
            };
            if push.kind == PushKind::Disconnection {
                return None;
            }
            if let Some(payload) = payload(push) {
                return Some(payload);
            }
        }
    }
}

/// Returns when the server is not to be heard any more: another has taken its place, or it answers nothing.
async fn gone(
    connection: &mut MultiplexedConnection,
    retired: Option<&CancellationToken>,
    checked: &mut Instant,
) {
    let Some(retired) = retired else {
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            () = retired.cancelled() => return,
            () = sleep_until(*checked + CHECK_EVERY) => {}
        }
        let ping = redis::cmd("PING");
        let answer = timeout(CHECK_LIMIT, connection.send_packed_command(&ping)).await;
        if !matches!(answer, Ok(Ok(_))) {
            return;
        }
        *checked = Instant::now();
    }
}

fn payload(push: PushInfo) -> Option<Vec<u8>> {
    match (push.kind, push.data.into_iter().nth(1)) {
        (PushKind::Message, Some(Value::BulkString(payload))) => Some(payload),
        _ => None,
    }
}
