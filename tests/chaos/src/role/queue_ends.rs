//! The ends of a plain queue: senders of numbered items, and receivers.

use std::time::Duration;

use anyhow::Result;
use pmq_broker::{GetError, PutError, Queue};

use super::{Stage, name};
use crate::history::{Known, What};

const PATIENCE: Duration = Duration::from_millis(500);

/// Puts numbered items until it is asked to end. What may or may not have been put is not put again.
pub(super) async fn send(stage: &Stage, queue: &str, rate: u64) -> Result<()> {
    let items: Queue<(String, u64)> = stage.broker.queue(&name(queue));
    let pause = Duration::from_micros(1_000_000 / rate.max(1));
    let mut seq = 0;
    while !stage.stop.is_cancelled() {
        seq += 1;
        let queue = queue.to_owned();
        stage.recorder.record(What::Put {
            queue: queue.clone(),
            seq,
        });
        let outcome = match items.put((stage.brief.actor.clone(), seq)).await {
            Ok(()) => Known::Ok,
            Err(PutError::Full(_)) => Known::Fail,
            Err(_) => Known::Info,
        };
        stage.recorder.record(What::PutDone {
            queue,
            seq,
            outcome,
        });
        stage.pause(pause).await;
    }
    Ok(())
}

/// Gets items until it is asked to end and none is left.
pub(super) async fn receive(stage: &Stage, queue: &str) -> Result<()> {
    let items: Queue<(String, u64)> = stage.broker.queue(&name(queue));
    loop {
        match items.get_timeout(PATIENCE).await {
            Ok((sender, seq)) => {
                let queue = queue.to_owned();
                stage.recorder.record(What::Got { queue, sender, seq });
            }
            Err(GetError::Empty) if stage.stop.is_cancelled() => return Ok(()),
            Err(error) => {
                let queue = queue.to_owned();
                stage.recorder.record(What::Missed { queue });
                if !matches!(error, GetError::Empty) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
