//! Submits one task at a time and waits for its end, as a program does that needs the answer.

use std::time::Duration;

use anyhow::Result;
use pmq_broker::task_queue::Ending;
use pmq_broker::{Task, TaskId, TaskQueue};

use super::body::Body;
use super::producer::{known, planned};
use super::worker::HANDLER;
use super::{Stage, name};
use crate::history::{Known, What};

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(50);

/// Submits and waits until it is asked to end.
pub(super) async fn play(stage: &Stage, queue: &str) -> Result<()> {
    let tasks = stage.broker.task_queue(&name(queue));
    let mut op = 0;
    while !stage.stop.is_cancelled() {
        op += 1;
        if let Some(id) = submit(stage, &tasks, op).await {
            wait(stage, &tasks, id).await;
        }
        stage.pause(PAUSE).await;
    }
    Ok(())
}

/// Submits a task; `None` where it may not have been taken.
async fn submit(stage: &Stage, queue: &TaskQueue, op: u64) -> Option<TaskId> {
    let body = Body {
        ms: 20,
        ..Body::default()
    };
    let task = Task::handler(HANDLER, body.encode());
    let name = queue.name().to_string();
    stage.recorder.record(What::Submit {
        op,
        queue: name,
        tasks: vec![planned(&task)],
    });
    let answer = queue.submit(&task).await;
    let outcome = known(answer.as_ref().err());
    stage.recorder.record(What::Submitted {
        op,
        outcome,
        letters: "n".to_owned(),
        err: answer.err().map(|error| error.to_string()),
    });
    (outcome == Known::Ok).then_some(task.id)
}

/// Waits for its end, however often that takes a new call.
async fn wait(stage: &Stage, queue: &TaskQueue, id: TaskId) {
    loop {
        let endings = queue.wait(&[id], PATIENCE).await.unwrap_or_default();
        match endings.first() {
            Some(Ending::Ended(completion)) => {
                let token = completion.token;
                stage.recorder.record(What::Waited { id, token });
                return;
            }
            Some(Ending::Unknown) => return,
            _ if stage.stop.is_cancelled() => return,
            _ => stage.pause(PAUSE).await,
        }
    }
}
