//! Many workers in one process, each with a connection of its own on which it waits for a task.

use anyhow::{Context, Result};
use pmq_broker::Incarnation;
use pmq_broker::task_queue::{Ask, Claimer, Finish, How, Waiter};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use super::body::hash;
use super::{COMPLETIONS, Stage, name};
use crate::history::{RunEnd, What};

const LONGEST: std::time::Duration = std::time::Duration::from_secs(5);

/// Waits and works until it is asked to end.
pub(super) async fn play(stage: &Stage, queue: &str, workers: usize) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("could not raise the limit of open files")?;
    let queue = stage.broker.task_queue(&name(queue));
    let mut all = JoinSet::new();
    for _ in 0..workers {
        let mut waiter = Waiter::for_tasks([queue.first()], LONGEST);
        let claimer =
            queue
                .first()
                .claimer(Incarnation::new(), stage.lease(), Some(&name(COMPLETIONS)));
        let (recorder, stop) = (stage.recorder.clone(), stage.stop.clone());
        all.spawn(async move {
            let mut one = One { claimer, recorder };
            while !stop.is_cancelled() {
                let waits = one.work().await;
                if waits {
                    tokio::select! {
                        _ = waiter.wait(LONGEST) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        });
    }
    while all.join_next().await.is_some() {}
    Ok(())
}

struct One {
    claimer: Claimer,
    recorder: crate::history::Recorder,
}

impl One {
    /// Claims one task and ends it; answers whether to wait then.
    async fn work(&mut self) -> bool {
        let ask = Ask {
            n: 1,
            suspect: true,
            wait: true,
        };
        let claimed = match self.claimer.get_nowait(ask).await {
            Ok(claimed) => claimed,
            Err(pmq_broker::Error::LeaseLost { .. }) => {
                self.claimer.become_incarnation(Incarnation::new());
                return false;
            }
            Err(_) => return true,
        };
        let waits = claimed.wait != Some(std::time::Duration::ZERO);
        for claim in claimed.tasks {
            let (id, token, attempt) = (claim.id, claim.run.token(), claim.attempt());
            let queue = self.claimer.shard().queue().to_string();
            let hash = pmq_broker::envelope::decode(id, &claim.envelope)
                .map_or(0, |task| hash(&task.body));
            self.recorder.record(What::Start {
                id,
                queue,
                attempt,
                token,
                hash,
            });
            self.recorder.record(What::End {
                id,
                token,
                how: RunEnd::Ok,
            });
            let completion = claim.completion(How::Ok);
            let end = Finish::new(&claim, How::Ok, &completion, self.claimer.shard().sealing());
            while self
                .claimer
                .shard()
                .finish(std::slice::from_ref(&end))
                .await
                .is_err()
            {}
        }
        waits
    }
}
