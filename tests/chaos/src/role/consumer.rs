//! Gets completions and writes each down before it confirms it, as somebody does who must not lose one.

use std::time::Duration;

use anyhow::Result;
use pmq_broker::{Completion, task_queue::Consumer};

use super::{COMPLETIONS, Stage, name};
use crate::history::What;

const AT_ONCE: usize = 100;
const PATIENCE: Duration = Duration::from_millis(500);

/// Gets completions until it is asked to end; what it has got then, it confirms.
pub(super) async fn play(stage: &Stage, queue: &str) -> Result<()> {
    let tasks = stage.broker.task_queue(&name(queue));
    let mut consumer = tasks
        .completions(&name(COMPLETIONS))
        .with_lease(stage.lease());
    loop {
        let got = get(&mut consumer).await;
        for completion in got.iter().flatten() {
            stage.recorder.record(seen(queue, completion));
        }
        if stage.stop.is_cancelled() {
            break;
        }
        if got.is_none() {
            stage.pause(Duration::from_millis(100)).await;
        }
    }
    consumer.close().await?;
    Ok(())
}

/// The next completions; `None` while the broker is away.
async fn get(consumer: &mut Consumer) -> Option<Vec<Completion>> {
    consumer.get_many(AT_ONCE, PATIENCE).await.ok()
}

fn seen(queue: &str, completion: &Completion) -> What {
    What::Completion {
        id: completion.id,
        queue: queue.to_owned(),
        token: completion.token,
        attempt: completion.attempt,
        outcome: completion.outcome,
        finished_us: completion.finished_us,
    }
}
