//! The heartbeat: renews the worker's lease on each shard in which it holds tasks, and carries out stop orders.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use pmq_broker::task_queue::{Beat, Heartbeat, Shard, StopOrders};
use pmq_broker::{Broker, Error, Incarnation};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::held::Line;
use crate::lives::Life;

/// Renews the lease on one shard.
pub(crate) struct Heart {
    pub(crate) line: Arc<Line>,
    pub(crate) lease: Duration,
    pub(crate) reclaim: Arc<Notify>,
    /// Told when there is news of stop orders.
    pub(crate) orders: Arc<Notify>,
}

/// What the heart remembers of one life from beat to beat.
struct Pulse {
    life: Life,
    /// It held nothing when it last beat: the number of its last claim.
    idle: Option<u32>,
    carried_out: Bytes,
    /// Since when it is a former life.
    former: Option<Instant>,
    /// What the broker has running in it, and the worker not, is looked for.
    searched: bool,
}

impl Pulse {
    fn new(life: Life) -> Self {
        Self {
            life,
            idle: Some(0),
            carried_out: Bytes::new(),
            former: None,
            searched: false,
        }
    }
}

impl Heart {
    /// Beats five times a lease while something is held, and once when nothing is any more since the last claim.
    pub(crate) async fn run(self) {
        let mut ticks = interval(self.lease / 5);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pulses: Vec<Pulse> = Vec::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.orders.notified() => {}
            }
            let lives = self.line.lives();
            pulses.retain(|pulse| lives.iter().any(|life| life.who == pulse.life.who));
            for life in lives {
                match pulses.iter_mut().find(|p| p.life.who == life.who) {
                    // What a former one was granted last the broker knows better.
                    Some(pulse) if pulse.former.is_some() => {}
                    Some(pulse) => pulse.life = life,
                    None => pulses.push(Pulse::new(life)),
                }
            }
            join_all(pulses.iter_mut().map(|pulse| self.turn(pulse))).await;
        }
    }

    async fn turn(&self, pulse: &mut Pulse) {
        let who = pulse.life.who;
        let idle = (!self.line.holds_of(who)).then_some(pulse.life.granted.number);
        let told = std::mem::replace(&mut pulse.idle, idle);
        if idle.is_none() || idle != told {
            self.beat(pulse, idle).await;
        }
        let is_old = pulse
            .former
            .is_some_and(|since| since.elapsed() > self.lease);
        if is_old && !pulse.searched {
            pulse.searched = true;
            tokio::spawn(release_strays(self.line.clone(), who, self.lease));
        }
    }

    async fn beat(&self, pulse: &mut Pulse, idle: Option<u32>) {
        let who = pulse.life.who;
        let beat = Heartbeat {
            who,
            lease: self.lease,
            idle,
            carried_out: pulse.carried_out.clone(),
        };
        match self.line.shard.heartbeat(&beat).await {
            Ok(beat) => self.hear(pulse, idle.is_some(), beat),
            // Nothing was held under it; if it matters, the next claim says so.
            Err(Error::LeaseLost { .. }) if idle.is_some() => {
                pulse.carried_out = Bytes::new();
                self.end_if_former(pulse);
            }
            Err(Error::LeaseLost { queue }) => {
                tracing::warn!(target: "pmq", %queue, "the lease ended while tasks were running; they are stopped here, and run elsewhere");
                self.line.lose(who);
                pulse.carried_out = Bytes::new();
            }
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "a heartbeat failed");
                pulse.idle = None;
            }
        }
    }

    fn hear(&self, pulse: &mut Pulse, idle: bool, beat: Beat) {
        for order in &beat.orders {
            self.line.carry_out(*order);
        }
        if beat.lease_ended {
            self.line.tell_lease_ended(&self.reclaim);
        }
        if self.line.hear(pulse.life, &beat) {
            let queue = self.line.shard.queue();
            tracing::info!(target: "pmq", %queue, "the broker may have lost its last writes; running tasks go on, and what it still takes for running here is handed back");
            pulse.former = Some(Instant::now());
            pulse.idle = None;
        } else if idle {
            self.end_if_former(pulse);
        }
        if pulse.former.is_some() {
            pulse.life.granted = beat.granted;
        }
        pulse.carried_out = beat.raw;
    }

    /// A former life that holds nothing is over.
    fn end_if_former(&self, pulse: &Pulse) {
        if pulse.former.is_some() {
            self.line.retire(pulse.life.who);
        }
    }
}

/// Hands back what the broker has running in a former life, and the worker not. The heart waits a lease for that, as most
/// lives have ended by then: their rows end, and whoever reclaims next takes back what is left.
async fn release_strays(line: Arc<Line>, who: Incarnation, lease: Duration) {
    while line.is(who.as_bytes()) {
        let holds = |id: &_, run: &_| line.holds(id, run);
        match line.shard.release_strays(who, holds).await {
            Ok(tasks) => {
                tracing::info!(target: "pmq", tasks, "handed back what ran nowhere");
                return;
            }
            Err(error) => {
                tracing::debug!(target: "pmq", %error, "could not look for tasks that run nowhere");
            }
        }
        sleep(lease).await;
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
                for (_, heart) in lines
                    .iter()
                    .zip(&hearts)
                    .filter(|(line, _)| line.is(&worker))
                {
                    heart.notify_one();
                }
            }
        }
        sleep(Duration::from_millis(fastrand::u64(500..2000))).await;
    }
}
