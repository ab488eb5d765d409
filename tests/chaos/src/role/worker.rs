//! A worker with handlers, as any program with pmq is one.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use pmq_worker::{Context, TaskError, Worker};
use rustix::process::{Signal, getpid, kill_process};

use super::body::{Body, hash};
use super::{COMPLETIONS, EFFECTS, Stage, name};
use crate::history::{Recorder, RunEnd, What};

/// The handler that all tasks of a run name.
pub(crate) const HANDLER: &str = "work";

/// What a handler writes down: what it saw, and apart from that its effect.
pub(super) struct Notes {
    seen: Recorder,
    effects: Recorder,
}

impl Notes {
    pub(super) fn open(stage: &Stage) -> Result<Self> {
        let effects = Recorder::open(&stage.brief.directory, &stage.brief.actor, EFFECTS)?;
        Ok(Self {
            seen: stage.recorder.clone(),
            effects,
        })
    }
}

/// Runs tasks until it is asked to end; what still runs then is handed back.
pub(super) async fn play(stage: &Stage, queues: &[String], slots: usize) -> Result<()> {
    let notes = Arc::new(Notes::open(stage)?);
    let mut worker = Worker::new(stage.broker.clone());
    worker.options.name.clone_from(&stage.brief.actor);
    worker.options.queues = queues.iter().map(|queue| name(queue)).collect();
    worker.options.completions = Some(name(COMPLETIONS));
    worker.options.lease = stage.lease();
    worker.options.slots = slots;
    worker.options.grace = Duration::ZERO;
    worker.handle_bytes(HANDLER, move |context, body| {
        let notes = notes.clone();
        async move { run(&notes, &context, &body).await }
    });
    let stop = stage.stop.clone();
    worker.run(async move { stop.cancelled().await }).await?;
    Ok(())
}

/// One run, whose end is written down however it comes, unless the process dies.
struct Running<'a> {
    notes: &'a Notes,
    context: &'a Context,
    how: RunEnd,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (id, token) = (self.context.id, self.context.token);
        self.notes.seen.record(What::End {
            id,
            token,
            how: self.how,
        });
    }
}

async fn run(notes: &Notes, context: &Context, bytes: &[u8]) -> Result<Bytes, TaskError> {
    let (id, attempt, token) = (context.id, context.attempt, context.token);
    let queue = context.queue.to_string();
    notes.seen.record(What::Start {
        id,
        queue,
        attempt,
        token,
        hash: hash(bytes),
    });
    let mut running = Running {
        notes,
        context,
        how: RunEnd::Dropped,
    };
    let body: Body = serde_json::from_slice(bytes)
        .map_err(|error| TaskError::ForGood(format!("not a body of this harness: {error}")))?;
    tokio::time::sleep(Duration::from_millis(body.ms)).await;
    if attempt <= body.poison {
        die(attempt);
    }
    if attempt <= body.fails {
        running.how = RunEnd::Failed;
        return Err(TaskError::Retry("as its body says".into()));
    }
    notes.effects.record(What::Effect { id, attempt, token });
    running.how = RunEnd::Ok;
    Ok(token.to_string().into())
}

/// Takes the worker along, in one of two ways.
fn die(attempt: u16) {
    if attempt.is_multiple_of(2) {
        let _ = kill_process(getpid(), Signal::SEGV);
    }
    process::abort()
}
