//! The reclaimer: takes back what dead workers held.

use std::sync::Arc;
use std::time::Duration;

use pmq_broker::TaskQueue;
use tokio::sync::Notify;

/// Walks whenever a claim or a heartbeat saw that a lease has ended. Others may walk at the same time.
pub(crate) async fn run(queues: Vec<TaskQueue>, lease: Duration, ended: Arc<Notify>) {
    loop {
        ended.notified().await;
        for queue in &queues {
            walk(queue, lease).await;
        }
    }
}

async fn walk(queue: &TaskQueue, lease: Duration) {
    let mut tasks = 0;
    loop {
        match queue.reclaim(lease).await {
            Ok(step) => {
                tasks += step.tasks;
                if !step.more {
                    break;
                }
            }
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "could not reclaim");
                break;
            }
        }
    }
    if tasks > 0 {
        tracing::info!(target: "pmq", queue = %queue.name(), tasks, "took back the tasks of a worker whose lease ended");
    }
}
