//! The tasks that a runner owes an answer: those that wait, and those that its child holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Answer, RunnerError};
use crate::child::CommandError;

type Reply = Result<Answer, RunnerError>;

/// What the handles of a runner tell its supervisor.
#[derive(Debug)]
pub(super) enum Message {
    Call(Call),
    /// Somebody has given up a call, which shows in its reply.
    Dropped,
}

/// One task on its way through the child.
#[derive(Debug)]
pub(super) struct Call {
    id: Uuid,
    line: Bytes,
    timeout: Option<Duration>,
    /// When the child has had its time; set once the task is the oldest that it holds.
    deadline: Option<Instant>,
    reply: oneshot::Sender<Reply>,
}

impl Call {
    pub(super) fn new(
        id: Uuid,
        line: Bytes,
        timeout: Option<Duration>,
    ) -> (Self, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        (
            Self {
                id,
                line,
                timeout,
                deadline: None,
                reply,
            },
            answer,
        )
    }

    fn is_dropped(&self) -> bool {
        self.reply.is_closed()
    }

    fn end(self, reply: Reply) {
        // Nobody waits for a call that was dropped.
        let _ = self.reply.send(reply);
    }
}

/// The caller's end of a call. Dropping it before the answer gives the call up.
pub(super) struct Ticket {
    reply: Option<oneshot::Receiver<Reply>>,
    inbox: mpsc::UnboundedSender<Message>,
}

impl Ticket {
    pub(super) fn new(
        call: Call,
        reply: oneshot::Receiver<Reply>,
        inbox: &mpsc::UnboundedSender<Message>,
    ) -> Self {
        // Where the supervisor is gone, so is the call, and the reply says so.
        let _ = inbox.send(Message::Call(call));
        Self {
            reply: Some(reply),
            inbox: inbox.clone(),
        }
    }

    pub(super) async fn answered(mut self) -> Reply {
        let Some(reply) = self.reply.as_mut() else {
            return Err(RunnerError::Closed);
        };
        let answer = reply.await;
        self.reply = None;
        answer.unwrap_or(Err(RunnerError::Closed))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            // The supervisor must find it closed when it gets the message.
            drop(reply);
            let _ = self.inbox.send(Message::Dropped);
        }
    }
}

/// All calls without an answer, oldest first.
#[derive(Debug, Default)]
pub(super) struct Calls {
    waiting: VecDeque<Call>,
    sent: VecDeque<Call>,
}

impl Calls {
    /// Takes a message, and all others that have arrived, so that their lines go out in one write.
    pub(super) fn take(&mut self, first: Message, inbox: &mut mpsc::UnboundedReceiver<Message>) {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Call(call) => self.waiting.push_back(call),
                Message::Dropped => self.waiting.retain(|call| !call.is_dropped()),
            }
            next = inbox.try_recv().ok();
        }
    }

    /// Appends the lines of the next tasks to `out`, until the child holds `depth`.
    pub(super) fn send(&mut self, depth: usize, out: &mut BytesMut) {
        while self.sent.len() < depth.max(1)
            && let Some(call) = self.waiting.pop_front()
        {
            out.extend_from_slice(&call.line);
            self.sent.push_back(call);
        }
        if let Some(oldest) = self.sent.front_mut()
            && oldest.deadline.is_none()
        {
            oldest.deadline = oldest
                .timeout
                .and_then(|timeout| Instant::now().checked_add(timeout));
        }
    }

    /// When the oldest task in the child is out of time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.front()?.deadline
    }

    /// Whether the child is working on a task that nobody waits for any more. One further back is
    /// left alone until its turn comes, as the task before it would die with the child.
    pub(super) fn oldest_is_dropped(&self) -> bool {
        self.sent.front().is_some_and(Call::is_dropped)
    }

    /// Gives a task its answer; false if the child does not hold it.
    pub(super) fn answer(&mut self, id: Uuid, answer: Answer) -> bool {
        let call = self
            .sent
            .iter()
            .position(|call| call.id == id)
            .and_then(|at| self.sent.remove(at));
        call.map(|call| call.end(Ok(answer))).is_some()
    }

    /// Fails the task that the child was working on.
    pub(super) fn fail_oldest(&mut self, error: RunnerError) {
        if let Some(call) = self.sent.pop_front() {
            call.end(Err(error));
        }
    }

    /// Puts what the child held back in front, for the next one.
    pub(super) fn put_back(&mut self) {
        while let Some(call) = self.sent.pop_back() {
            self.waiting.push_front(Call {
                deadline: None,
                ..call
            });
        }
        self.waiting.retain(|call| !call.is_dropped());
    }

    /// Fails everything, as there is no child to run it.
    pub(super) fn fail_all(&mut self, source: &Arc<CommandError>) {
        for call in self.waiting.drain(..) {
            call.end(Err(RunnerError::Start {
                source: source.clone(),
            }));
        }
    }
}
