//! After the faults: everything is done within a bound, everybody goes, and nothing is left behind.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use pmq_broker::keys::ShardKeys;
use pmq_broker::task_queue::{State, TaskQueue};
use pmq_broker::{Broker, Config, TaskId};

use super::conductor::Conductor;
use crate::history::{History, What};
use crate::role::name;

/// The bound, beside two leases.
const BOUND: Duration = Duration::from_secs(25);
/// How many tasks are looked up at once.
const AT_ONCE: usize = 64;

/// Where entries of tasks stand beside their states: the key's place, its name, and how to count it.
const PLACES: [(usize, &str, &str); 4] = [
    (5, "claims", "HLEN"),
    (9, "stop orders", "HLEN"),
    (10, "watched tasks", "SCARD"),
    (18, "started processes", "HLEN"),
];

/// Lets everything come to its end.
pub fn drain(conductor: &mut Conductor, lease: Duration) -> Result<()> {
    let healed = Instant::now();
    for kind in ["producer", "sender", "waiter"] {
        let failed = conductor.crew.dismiss(kind);
        conductor.mishaps.extend(failed);
    }
    let (bound, late) = (BOUND + 2 * lease, conductor.late);
    // A consumer that died may have held completions; they come back when its lease has ended.
    let settled = lease + lease / 2;
    let mut is_empty = false;
    while healed.elapsed() < bound + conductor.late.saturating_sub(late)
        && !(is_empty && healed.elapsed() > settled)
    {
        conductor.turn()?;
        is_empty = conductor.is_empty();
    }
    for kind in [
        "hand",
        "holder",
        "registers",
        "consumer",
        "receiver",
        "crowd",
        "worker",
    ] {
        let failed = conductor.crew.dismiss(kind);
        conductor.mishaps.extend(failed);
    }
    if is_empty {
        conductor.phase("drained");
    }
    for member in conductor.crew.members.values_mut() {
        member.proxy = None; // with the connections that a black hole keeps open
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(look_up(conductor))?;
    runtime.block_on(tidy(conductor, lease))?;
    drop(runtime); // with its own connections
    conductor.count_leftovers();
    Ok(())
}

/// Writes down where the tasks are whose completion nobody got.
async fn look_up(conductor: &Conductor) -> Result<()> {
    let history = History::read(&conductor.site.directory)?;
    let (mut open, mut got) = (Vec::new(), BTreeSet::new());
    for event in &history.events {
        match &event.what {
            What::Submit { queue, tasks, .. } => {
                open.extend(tasks.iter().map(|task| (task.id, queue.clone())));
            }
            What::Completion { id, .. } => {
                got.insert(*id);
            }
            _ => {}
        }
    }
    open.sort();
    open.dedup();
    open.retain(|(id, _)| !got.contains(id));
    let broker = Broker::connect(&Config::url(conductor.site.url())).await?;
    for some in open.chunks(AT_ONCE) {
        for (id, queue) in some {
            let queue = broker.task_queue(&name(queue));
            conductor.recorder.record(find(&queue, *id).await?);
        }
    }
    Ok(())
}

async fn find(queue: &TaskQueue, id: TaskId) -> Result<What> {
    let found = queue.find(id).await?;
    let ended = found.completion.as_ref();
    Ok(What::Final {
        id,
        state: match found.state {
            State::Ended => "ended",
            other => other.as_str(),
        }
        .to_owned(),
        token: ended.map_or(0, |end| end.token),
        outcome: ended.map(|end| end.outcome),
    })
}

/// Takes back what the last leases still hold, as the next worker would.
async fn tidy(conductor: &Conductor, lease: Duration) -> Result<()> {
    let broker = Broker::connect(&Config::url(conductor.site.url())).await?;
    tokio::time::sleep(lease + Duration::from_millis(500)).await;
    for queue in &conductor.queues {
        let queue = broker.task_queue(&name(queue));
        // The first call may find that nobody has called for a while, and then no lease ends for one more. Waiting must
        // be no gap itself.
        while queue.first().reclaim(lease).await?.grace > Duration::ZERO {
            tokio::time::sleep(lease / 5).await;
        }
        while queue.first().reclaim(lease).await?.more {}
    }
    Ok(())
}

impl Conductor {
    /// Whether no task is left to run, and no completion to get.
    pub(super) fn is_empty(&mut self) -> bool {
        let queues = self.queues.clone();
        queues.iter().all(|queue| self.is_queue_empty(queue))
    }

    fn is_queue_empty(&mut self, queue: &str) -> bool {
        let Some(shard) = super::snapshot::read(&mut self.site, queue, &self.junk) else {
            return false;
        };
        shard.tasks.len() == shard.dead.len() && shard.running.is_empty() && shard.completions == 0
    }

    /// Counts what must not be there any more: entries of each queue, connections.
    fn count_leftovers(&mut self) {
        for queue in self.queues.clone() {
            let keys = ShardKeys::new(&name("pmq"), &name(&queue));
            let fixed = keys.fixed();
            if let Some(shard) = super::snapshot::read(&mut self.site, &queue, &self.junk) {
                let counts = [
                    ("ready", shard.live_ready()),
                    ("scheduled", shard.scheduled.len() as u64),
                    ("running", shard.running.len() as u64),
                    ("leases", shard.workers.len() as u64),
                ];
                for (what, count) in counts {
                    self.census((&queue, "after"), what, count);
                }
            }
            for (index, what, command) in PLACES {
                let count: Option<u64> = self.site.ask(redis::cmd(command).arg(&fixed[index]));
                self.census((&queue, "after"), what, count.unwrap_or_default());
            }
        }
        if self.site.is_single() {
            let others = self.connections_left();
            self.census(("redis", "after"), "connections", others);
        }
    }

    /// Connections beside that of the harness, once they have had a moment to go.
    fn connections_left(&mut self) -> u64 {
        let mut others = 0;
        for _ in 0..50 {
            let clients: Option<String> = self.site.ask(redis::cmd("CLIENT").arg("LIST"));
            others = clients
                .unwrap_or_default()
                .lines()
                .count()
                .saturating_sub(1) as u64;
            if others == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        others
    }
}
