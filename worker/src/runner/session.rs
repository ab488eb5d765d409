//! One child of a runner, from its start to its end.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::timeout;

use super::calls::{Calls, Message};
use super::lines::Lines;
use super::protocol::Line;
use super::{Config, log};
use crate::child::{CommandError, Exit, Guard, Running, until};

/// The longest answer in bytes: a result of 16 MiB and its frame.
const LINE_LIMIT: usize = 16 * 1024 * 1024 + 64 * 1024;

/// How long the output of a dead child may stay open: something in the background may hold it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of a wrong line is shown, in bytes.
const EXCERPT: usize = 200;

/// Where the names of the tasks that a child can run are published.
pub(super) type Greeting = watch::Sender<Option<Arc<[String]>>>;

/// Why a session is over.
#[derive(Debug)]
pub(super) enum End {
    /// The last handle was dropped.
    Closed,
    /// The child left, or closed one of its pipes.
    Died,
    /// It wrote this, which is not an answer to a task that it holds.
    Garbage(String),
    /// Its oldest task is out of time.
    TimedOut,
    /// Its oldest task was given up.
    Stopped,
}

/// A running child, and the bytes on their way to and from it.
#[derive(Debug)]
pub(super) struct Session {
    running: Running,
    stdin: ChildStdin,
    stdout: ChildStdout,
    out: BytesMut,
    lines: Lines,
    depth: usize,
    /// Who wants to know what the child can run; gone once it has said its first line.
    greeting: Option<Greeting>,
    /// Whether the child has done any work, so that its end is not a failure to start.
    pub(super) has_answered: bool,
}

impl Session {
    pub(super) fn start(
        config: &Config,
        guard: &Guard,
        greeting: Greeting,
    ) -> Result<Self, CommandError> {
        let (running, pipes) = config.program.start(Stdio::piped(), guard)?;
        tokio::spawn(log::run(pipes.stderr, running.child.id()));
        Ok(Self {
            running,
            stdin: pipes.stdin.expect("standard input is piped"),
            stdout: pipes.stdout,
            out: BytesMut::new(),
            lines: Lines::new(LINE_LIMIT),
            depth: config.depth,
            greeting: Some(greeting),
            has_answered: false,
        })
    }

    /// Feeds calls to the child and answers them, until either side has had enough.
    pub(super) async fn serve(
        &mut self,
        calls: &mut Calls,
        inbox: &mut UnboundedReceiver<Message>,
    ) -> End {
        loop {
            calls.send(self.depth, &mut self.out);
            if calls.oldest_is_dropped() {
                return End::Stopped;
            }
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => calls.take(message, inbox),
                    None => return End::Closed,
                },
                read = self.stdout.read_buf(self.lines.space()) => match read {
                    Ok(1..) => if let Err(end) = self.take_lines(calls) { return end },
                    _ => return End::Died,
                },
                written = self.stdin.write_buf(&mut self.out), if !self.out.is_empty() => {
                    if written.is_err() {
                        return self.last_words(calls).await;
                    }
                }
                _ = self.running.child.wait() => return self.last_words(calls).await,
                () = until(calls.deadline()) => return End::TimedOut,
            }
        }
    }

    /// Lets the child go after `patience`, and says how it went.
    pub(super) async fn end(mut self, patience: Duration) -> Exit {
        drop(self.stdin);
        let status = self.running.end(patience).await;
        // Waiting fails only for a process that is not our child.
        status.map_or(Exit::Signal(Signal::KILL.as_raw()), Exit::from)
    }

    /// Takes the answers that a dead child has left in its pipe.
    async fn last_words(&mut self, calls: &mut Calls) -> End {
        self.running.group.signal(Signal::KILL);
        while let Ok(Ok(1..)) = timeout(LAST_WORDS, self.stdout.read_buf(self.lines.space())).await
        {
            if let Err(end) = self.take_lines(calls) {
                return end;
            }
        }
        End::Died
    }

    fn take_lines(&mut self, calls: &mut Calls) -> Result<(), End> {
        while let Some(line) = self.lines.next() {
            self.take_line(&line, calls).ok_or_else(|| garbage(&line))?;
        }
        if self.lines.is_full() {
            return Err(garbage(&self.lines.rest()));
        }
        Ok(())
    }

    /// Takes one line; `None` if it makes no sense here.
    fn take_line(&mut self, line: &Bytes, calls: &mut Calls) -> Option<()> {
        let greeting = self.greeting.take();
        match Line::parse(line)? {
            Line::Ready(tasks) => {
                greeting?.send_replace(Some(tasks.into()));
            }
            Line::Answer(id, answer) => {
                calls.answer(id, answer).then_some(())?;
                self.has_answered = true;
            }
        }
        Some(())
    }
}

fn garbage(line: &Bytes) -> End {
    let excerpt = &line[..line.len().min(EXCERPT)];
    End::Garbage(String::from_utf8_lossy(excerpt).into_owned())
}
