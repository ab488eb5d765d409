//! Chunks of a pool: the handler runs for each item in turn, and one completion tells the results of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pmq_broker::task::{BODY_LIMIT, Chunk, Initializer};
use pmq_broker::task_queue::How;
use pmq_broker::{Task, Work};
use serde_json::value::RawValue;
use tokio::sync::Mutex;

use crate::end::End;
use crate::executor::{Run, Shared};
use crate::handlers::caught;

/// A worker that has been at several chunks for so long leaves the rest to others.
const ENOUGH: Duration = Duration::from_millis(10);
/// Likewise one with so many bytes of results: all of a task must fit into one answer.
const ENOUGH_BYTES: usize = 1 << 20;
/// So many pools are remembered; a worker that runs for months serves many.
const POOLS: usize = 1000;

/// How a call for one item ended.
enum Called {
    /// With a result, or the item's own error, as JSON.
    Item(Vec<u8>),
    /// In a way that concerns the whole chunk: the run was stopped, or another worker shall have it.
    Run(End),
}

impl Shared {
    /// Runs a chunk. An item that fails does not fail the chunk, which would run the others again.
    pub(crate) async fn chunk(&self, chunk: &Chunk, task: &Task, run: &Run) -> End {
        if let Some(initializer) = &chunk.initializer
            && let Some(end) = self.initialize(initializer, task, run).await
        {
            return end;
        }
        let items: Vec<&RawValue> = match serde_json::from_slice(&task.body) {
            Ok(items) => items,
            Err(error) => {
                let reason = format!("its body is no array of arguments: {error}");
                return End::failed(How::FailedForGood, reason);
            }
        };
        let (mut answer, size, began) = (vec![b'['], chunk.size as usize, Instant::now());
        for (i, item) in items.iter().enumerate() {
            let is_enough = || began.elapsed() >= ENOUGH || answer.len() >= ENOUGH_BYTES;
            if size > 0 && i > 0 && i % size == 0 && is_enough() {
                break;
            }
            let args = task.body.slice_ref(item.get().as_bytes());
            match self.item(call(task, args), run).await {
                Called::Item(json) => {
                    if answer.len() > 1 {
                        answer.push(b',');
                    }
                    answer.extend_from_slice(&json);
                }
                Called::Run(end) => return end,
            }
        }
        answer.push(b']');
        End::ok(fitting(answer, items.len()).into())
    }

    async fn item(&self, task: Task, run: &Run) -> Called {
        let end = match caught(Box::pin(self.work(&task, run))).await {
            Ok(end) => end,
            Err(panic) => End::failed(How::Failed, format!("the handler panicked: {panic}")),
        };
        match end {
            _ if run.switch.stop.is_cancelled() => Called::Run(End::failed(How::Failed, "stopped")),
            End::Finished {
                how: How::Ok, body, ..
            } => Called::Item(result(&body)),
            End::Finished { report, .. } => {
                Called::Item(failure(&report.error.unwrap_or_default()))
            }
            end => Called::Run(end),
        }
    }

    /// Prepares this process for the pool, unless that is done; `None` where the chunk may run.
    async fn initialize(&self, initializer: &Initializer, task: &Task, run: &Run) -> Option<End> {
        let pool = self.pools.get(&initializer.pool);
        let mut left = pool.lock().await;
        if *left == 0 {
            let mut setup = call(task, initializer.args.to_string().into());
            setup.work = Work::Handler(initializer.name.clone());
            let end = match caught(Box::pin(self.work(&setup, run))).await {
                Ok(end) => end,
                Err(panic) => End::failed(How::Failed, format!("it panicked: {panic}")),
            };
            match end {
                End::Finished { how: How::Ok, .. } => {}
                End::Finished { report, .. } if !run.switch.stop.is_cancelled() => {
                    let reason = report.error.unwrap_or_default();
                    let told = serde_json::json!({ "initializer": reason });
                    return Some(End::ok(told.to_string().into()));
                }
                end => return Some(end),
            }
            *left = initializer.every;
        }
        *left = match (initializer.every, *left) {
            (0, _) => u32::MAX,
            (_, left) => left - 1,
        };
        None
    }
}

/// A single call of the chunk's handler.
fn call(task: &Task, args: Bytes) -> Task {
    let mut call = task.clone();
    call.body = args;
    call.details.chunk = None;
    call
}

fn result(body: &[u8]) -> Vec<u8> {
    let body = if body.is_empty() { b"null" } else { body };
    if let Err(error) = serde_json::from_slice::<&RawValue>(body) {
        return failure(&format!(
            "its result is no JSON, which a chunk's must be: {error}"
        ));
    }
    [br#"{"ok":"#.as_slice(), body, b"}"].concat()
}

fn failure(reason: &str) -> Vec<u8> {
    serde_json::json!({ "error": reason }).to_string().into()
}

/// The answer, or one that says that it is too large to keep.
fn fitting(answer: Vec<u8>, items: usize) -> Vec<u8> {
    if answer.len() <= BODY_LIMIT {
        return answer;
    }
    let reason = format!(
        "the results of its chunk have {} bytes, more than the limit of {BODY_LIMIT}",
        answer.len()
    );
    let errors = vec![serde_json::json!({ "error": reason }); items];
    serde_json::Value::from(errors).to_string().into()
}

/// For each pool that this process is prepared for, how many chunks it has still to run before it prepares again; 0 at the start.
#[derive(Default)]
pub(crate) struct Pools(SyncMutex<HashMap<String, Arc<Mutex<u32>>>>);

impl Pools {
    /// The state of a pool. Who holds its lock is preparing; chunks that come meanwhile wait.
    fn get(&self, pool: &str) -> Arc<Mutex<u32>> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= POOLS
            && !pools.contains_key(pool)
            && let Some(oldest) = pools.keys().min().cloned()
        {
            // Ids of pools begin with the time.
            pools.remove(&oldest);
        }
        pools.entry(pool.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_json_whatever_the_handler_gives() {
        let text = |json: Vec<u8>| String::from_utf8(json).unwrap();
        assert_eq!(text(result(b"[1]")), r#"{"ok":[1]}"#);
        assert_eq!(text(result(b"")), r#"{"ok":null}"#);
        assert!(text(result(b"{")).starts_with(r#"{"error":"its result is no JSON"#));
        assert_eq!(text(failure("a \"b\"")), r#"{"error":"a \"b\""}"#);
    }

    #[test]
    fn an_answer_that_is_too_large_fails_each_item() {
        let text = String::from_utf8(fitting(vec![b'1'; BODY_LIMIT + 1], 2)).unwrap();
        assert_eq!(text.matches("more than the limit").count(), 2);
        assert_eq!(fitting(b"[]".to_vec(), 0), b"[]");
    }

    #[test]
    fn pools_are_forgotten_oldest_first() {
        let pools = Pools::default();
        for i in 0..=POOLS {
            *pools.get(&format!("{i:04}")).try_lock().unwrap() = 1;
        }
        assert_eq!(*pools.get("0001").try_lock().unwrap(), 1);
        assert_eq!(*pools.get("0000").try_lock().unwrap(), 0);
    }
}
