//! The reclaimer: takes back what dead workers held.

use std::sync::Arc;
use std::time::Duration;

use pmq_broker::task_queue::Shard;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::held::Line;

/// Walks whenever a claim or a heartbeat saw that a lease has ended. Others may walk at the same time.
pub(crate) async fn run(lines: Vec<Arc<Line>>, lease: Duration, ended: Arc<Notify>) {
    loop {
        ended.notified().await;
        let mut grace = Duration::ZERO;
        for line in lines.iter().filter(|line| line.take_lease_ended()) {
            grace = grace.max(walk(&line.shard, lease).await);
        }
        sleep(grace.min(lease / 5)).await;
    }
}

/// Walks to the end; answers for how long no lease ends there, because the broker was away.
async fn walk(shard: &Shard, lease: Duration) -> Duration {
    let mut tasks = 0;
    let grace = loop {
        match shard.reclaim(lease).await {
            Ok(step) => {
                tasks += step.tasks;
                if !step.more {
                    break step.grace;
                }
            }
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "could not reclaim");
                break Duration::ZERO;
            }
        }
    };
    if tasks > 0 {
        tracing::info!(target: "pmq", queue = %shard.queue(), tasks, "took back the tasks of a worker whose lease ended");
    }
    grace
}
