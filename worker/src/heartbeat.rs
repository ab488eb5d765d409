//! The heartbeat: renews the worker's lease on each shard in which it holds tasks, and carries out stop orders.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Heartbeat, Shard, StopOrders};
use pmq_broker::{Broker, Error, Incarnation};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::held::Line;

/// Renews the lease on one shard.
pub(crate) struct Heart {
    pub(crate) line: Arc<Line>,
    pub(crate) lease: Duration,
    pub(crate) reclaim: Arc<Notify>,
    /// Told when there is news of stop orders.
    pub(crate) orders: Arc<Notify>,
}

impl Heart {
    /// Beats five times a lease while something is held, and once when nothing is any more since the last claim.
    pub(crate) async fn run(self) {
        let mut ticks = interval(self.lease / 5);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut idle_since, mut carried_out) = (Some(0), Bytes::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.orders.notified() => {}
            }
            let idle = (self.line.count() == 0).then(|| self.line.claimed.load(Ordering::Relaxed));
            if idle.is_none() || idle != idle_since {
                carried_out = self.beat(idle, carried_out).await;
            }
            idle_since = idle;
        }
    }

    async fn beat(&self, idle: Option<u32>, carried_out: Bytes) -> Bytes {
        let who = self.line.incarnation();
        let beat = Heartbeat {
            who,
            lease: self.lease,
            idle,
            carried_out: carried_out.clone(),
        };
        match self.line.shard.heartbeat(&beat).await {
            Ok(beat) => {
                for order in &beat.orders {
                    self.line.carry_out(*order);
                }
                if beat.lease_ended {
                    self.line.tell_lease_ended(&self.reclaim);
                }
                beat.raw
            }
            // Nothing was held under it; if it matters, the next claim says so.
            Err(Error::LeaseLost { .. }) if idle.is_some() => Bytes::new(),
            Err(Error::LeaseLost { queue }) => {
                tracing::warn!(target: "pmq", %queue, "the lease ended while tasks were running; they are stopped here, and run elsewhere");
                self.line.lose(who);
                Bytes::new()
            }
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "a heartbeat failed");
                carried_out
            }
        }
    }
}

/// What shows a worker to others while it is up.
pub(crate) struct Presence {
    pub(crate) broker: Broker,
    pub(crate) who: Incarnation,
}

impl Presence {
    /// Says again and again that this worker is up, and what it does.
    pub(crate) async fn show(self: Arc<Self>, about: impl Fn() -> String) {
        const EVERY: Duration = Duration::from_secs(5);
        const LEASE: Duration = Duration::from_secs(16);
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.broker.present(&self.who, LEASE, &about()).await {
                tracing::debug!(target: "pmq", %error, "could not say that this worker is up");
            }
        }
    }

    /// Takes the worker off the list at once.
    pub(crate) async fn end(&self) {
        if let Err(error) = self.broker.present(&self.who, Duration::ZERO, "").await {
            tracing::debug!(target: "pmq", %error, "could not say that this worker is gone");
        }
    }
}

/// Listens for news of stop orders, so that they need not wait for the next beat.
pub(crate) async fn listen(lines: Vec<Arc<Line>>, hearts: Vec<Arc<Notify>>) {
    let shards: Vec<Shard> = lines.iter().map(|line| line.shard.clone()).collect();
    loop {
        if let Ok(Some(mut news)) = StopOrders::listen(&shards).await {
            while let Some(worker) = news.next().await {
                let mine = |line: &Line| line.incarnation().as_bytes().as_slice() == worker;
                for (_, heart) in lines.iter().zip(&hearts).filter(|(line, _)| mine(line)) {
                    heart.notify_one();
                }
            }
        }
        sleep(Duration::from_millis(fastrand::u64(500..2000))).await;
    }
}
