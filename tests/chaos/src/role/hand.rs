//! A worker that makes its calls one by one, so that it can make them late, twice, and again much later; and that
//! writes down in which order it was given tasks.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use pmq_broker::task_queue::{Ask, Claim, Claimer, Finish, Finished, Heartbeat, How};
use pmq_broker::{Completion, Error, Incarnation, TaskQueue, envelope};

use super::body::hash;
use super::{COMPLETIONS, Stage, name};
use crate::history::{Effects, Known, RunEnd, What};

const AT_ONCE: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// A hand at work.
struct Hand<'a> {
    stage: &'a Stage,
    queue: TaskQueue,
    claimer: Claimer,
    who: Incarnation,
    rng: fastrand::Rng,
    /// Ends that were sent, to be sent again.
    sent: Vec<Finish>,
}

/// Claims and finishes until it is asked to end.
pub(super) async fn play(stage: &Stage, queue: &str, lazy: bool) -> Result<()> {
    let queue = stage.broker.task_queue(&name(queue));
    let who = Incarnation::new();
    let claimer = queue
        .first()
        .claimer(who, stage.lease(), Some(&name(COMPLETIONS)));
    let rng = stage.rng();
    let mut hand = Hand {
        stage,
        queue,
        claimer,
        who,
        rng,
        sent: Vec::new(),
    };
    while !stage.stop.is_cancelled() {
        hand.turn(lazy).await;
        stage.pause(PAUSE).await;
    }
    Ok(())
}

impl Hand<'_> {
    async fn turn(&mut self, lazy: bool) {
        let ask = Ask {
            n: AT_ONCE,
            suspect: false,
            wait: false,
        };
        let claims = match self.claimer.get_nowait(ask).await {
            Ok(claimed) => {
                if claimed.lease_ended {
                    self.take_back().await;
                }
                claimed.tasks
            }
            Err(Error::LeaseLost { .. }) => {
                self.who = Incarnation::new();
                self.claimer.become_incarnation(self.who);
                return;
            }
            Err(_) => return,
        };
        if claims.is_empty() {
            self.beat(Some(self.claimer.number())).await;
            return;
        }
        self.begin(&claims);
        let late = lazy && self.rng.bool();
        self.work(late).await;
        let runs: Vec<Finish> = claims.iter().map(|claim| self.end(claim)).collect();
        self.finish(&runs).await;
        if self.rng.u8(..4) == 0 {
            self.finish(&runs).await;
        }
        self.sent.extend(runs);
        if self.rng.u8(..8) == 0 {
            let again = std::mem::take(&mut self.sent);
            self.finish(&again).await;
        }
        self.sent.truncate(100);
    }

    /// Takes back what workers held whose lease has ended, as every worker does.
    async fn take_back(&self) {
        let lease = self.stage.lease();
        while self
            .queue
            .first()
            .reclaim(lease)
            .await
            .is_ok_and(|step| step.more)
        {}
    }

    fn begin(&self, claims: &[Claim]) {
        let queue = self.queue.name().to_string();
        let (token, ids) = (
            claims[0].run.token(),
            claims.iter().map(|claim| claim.id).collect(),
        );
        self.stage.recorder.record(What::Claimed {
            queue: queue.clone(),
            token,
            ids,
        });
        for claim in claims {
            self.stage.recorder.record(What::Start {
                id: claim.id,
                queue: queue.clone(),
                attempt: claim.attempt(),
                token: claim.run.token(),
                hash: envelope::decode(claim.id, &claim.envelope)
                    .map_or(0, |task| hash(&task.body)),
            });
        }
    }

    /// Works for a moment under its lease, or for longer than that without renewing it.
    async fn work(&mut self, late: bool) {
        if late {
            let (name, target) = ("late hand".to_owned(), self.stage.brief.actor.clone());
            let effects = Effects {
                ends_leases: true,
                ..Effects::default()
            };
            self.stage.recorder.record(What::Fault {
                name,
                target,
                on: true,
                effects,
            });
            let lease = self.stage.lease();
            self.stage
                .pause(lease + lease.mul_f64(self.rng.f64() / 2.0))
                .await;
        } else {
            self.beat(None).await;
        }
    }

    fn end(&self, claim: &Claim) -> Finish {
        let (id, token) = (claim.id, claim.run.token());
        self.stage.recorder.record(What::End {
            id,
            token,
            how: RunEnd::Ok,
        });
        let completion = Completion {
            finished_us: claim.claimed_ms * 1000 + 1,
            worker: self.stage.brief.actor.clone(),
            ..claim.completion(How::Ok)
        };
        Finish::new(claim, How::Ok, &completion, self.queue.sealing())
    }

    async fn finish(&self, runs: &[Finish]) {
        let answers = self.queue.first().finish(runs).await;
        for (i, run) in runs.iter().enumerate() {
            let (outcome, answer) = match &answers {
                Ok(answers) => (Known::Ok, letter(answers[i])),
                Err(_) => (Known::Info, ""),
            };
            let (id, token, answer) = (run.id, run.run.token(), answer.to_owned());
            self.stage.recorder.record(What::Finished {
                id,
                token,
                outcome,
                answer,
            });
        }
    }

    async fn beat(&self, idle: Option<u32>) {
        let beat = Heartbeat {
            who: self.who,
            lease: self.stage.lease(),
            idle,
            carried_out: Bytes::new(),
        };
        // What it comes to is seen at the next claim.
        let _ = self.queue.first().heartbeat(&beat).await;
    }
}

fn letter(finished: Finished) -> &'static str {
    match finished {
        Finished::Ended => "ended",
        Finished::Retried => "retried",
        Finished::Buried => "buried",
        Finished::AlreadyDone => "already",
        Finished::Lost => "lost",
    }
}
