//! The handlers of a worker: what it runs by name.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use pmq_broker::process::{self, CurrentProcess, Lineage, Stream};
use pmq_broker::{Name, TaskId};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Task;
use crate::print::printing_to;
use crate::process_log::Chunk;
use crate::runner::Runner;

/// What a handler is told about its run.
#[derive(Clone, Debug)]
pub struct Context {
    /// The task.
    pub id: TaskId,
    /// Which run of it this is, 1 for the first.
    pub attempt: u16,
    /// A number that grows with each run of the task. A store that remembers the highest one that it saw can refuse what
    /// an earlier run still writes.
    pub token: u64,
    /// The queue it came from.
    pub queue: Name,
    /// This worker's name. In Python this is `current_process().name`.
    pub worker: Arc<str>,
    /// Cancelled when the run shall stop; soon after, the handler is dropped.
    pub stop: CancellationToken,
    pub(crate) log: Option<mpsc::Sender<Chunk>>,
}

impl Context {
    /// Prints a line to the log of this process, as its standard output. In Python this is `print` in a child.
    ///
    /// A task that is no process has no log, and its lines go nowhere.
    pub async fn print(&self, line: impl Display) {
        if let Some(log) = &self.log {
            // A log that is closed belongs to a process that has ended.
            let _ = log.send((Stream::Stdout, format!("{line}\n").into())).await;
        }
    }
}

/// Why a handler failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskError {
    /// Another attempt may succeed.
    Retry(String),
    /// No attempt will.
    ForGood(String),
}

type Answer = Pin<Box<dyn Future<Output = Result<Bytes, TaskError>> + Send>>;
pub(crate) type Function = Arc<dyn Fn(Context, Bytes) -> Answer + Send + Sync>;
type Template = Arc<dyn Fn(&[u8]) -> Result<Vec<OsString>, String> + Send + Sync>;

/// What stands behind a task's name.
#[derive(Clone)]
pub(crate) enum Handler {
    /// A function of this program.
    Function(Function),
    /// A long-lived child.
    Runner(Runner),
    /// A command that the worker's owner wrote; the task only fills its slots.
    Template(Template),
}

/// All handlers of a worker, by name.
#[derive(Clone, Default)]
pub(crate) struct Handlers(HashMap<String, Handler>);

impl Handlers {
    pub(crate) fn get(&self, name: &str) -> Option<&Handler> {
        self.0.get(name)
    }

    pub(crate) fn add(&mut self, name: &str, handler: Handler) {
        self.0.insert(name.to_owned(), handler);
    }

    /// Whether some task runs a function of this program, which may block its thread.
    pub(crate) fn has_function(&self) -> bool {
        self.0
            .values()
            .any(|handler| matches!(handler, Handler::Function(_)))
    }

    pub(crate) fn has_template(&self) -> bool {
        self.0
            .values()
            .any(|handler| matches!(handler, Handler::Template(_)))
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Calls a function, as the process that it is where it is one.
pub(crate) fn call(
    function: &Function,
    context: Context,
    body: Bytes,
    lineage: Option<&Lineage>,
) -> Answer {
    let Some(lineage) = lineage else {
        return function(context, body);
    };
    let (function, current) = (
        function.clone(),
        CurrentProcess::handler(context.id, lineage),
    );
    let log = context.log.clone();
    Box::pin(process::scope(current, async move {
        let answer = function(context, body);
        match log {
            Some(log) => printing_to(log, answer).await,
            None => answer.await,
        }
    }))
}

/// A typed function as a handler: JSON in, JSON out.
pub(crate) fn typed<A, R, E, F, Fut>(_task: Task<A, R>, function: F) -> Handler
where
    A: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    E: Display + Send + 'static,
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
{
    let function = Arc::new(function);
    Handler::Function(Arc::new(move |_context, body| {
        let function = function.clone();
        Box::pin(async move {
            let args = if body.is_empty() {
                b"null".as_slice()
            } else {
                &body
            };
            let args = serde_json::from_slice(args)
                .map_err(|e| TaskError::ForGood(format!("its arguments do not fit: {e}")))?;
            let result = function(args)
                .await
                .map_err(|e| TaskError::Retry(e.to_string()))?;
            let json = serde_json::to_vec(&result)
                .map_err(|e| TaskError::ForGood(format!("its result is no JSON: {e}")))?;
            Ok(json.into())
        })
    }))
}

/// Runs a handler's future; a panic becomes a value, so that it fails this task alone.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(message(panic.as_ref()))),
        },
    )
    .await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_value() {
        assert_eq!(caught(async { 1 }).await, Ok(1));
        let answer: Result<(), String> = caught(async { panic!("boom {}", 7) }).await;
        assert_eq!(answer, Err("boom 7".to_owned()));
    }
}
