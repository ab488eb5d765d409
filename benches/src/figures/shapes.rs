//! The server time of calls that meet much at once; while one runs, nobody else is served.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pmq_broker::task_queue::{Ask, Claimer, DEFAULT_LEASE, Heartbeat};
use pmq_broker::{Incarnation, Task, TaskQueue};
use redis::Connection;

use super::backlog::fill_queue;
use super::{Options, SIZE};
use crate::figure::{Figure, Section};
use crate::info::Counters;
use crate::role::body;
use crate::site::Site;

const MANY: usize = 1_000_000;
const WORKERS: usize = 1000;
/// Shards of the queue whose workers beat.
const SHARDS: [u16; 2] = [1, 12];
/// Tasks of a claim.
const BATCH: usize = 500;
/// Ids that one command writes.
const STEP: usize = 500;

/// The server time of calls, from its own count before and after each.
struct Stopwatch {
    connection: Connection,
    calls: usize,
    slowest: f64,
    sum: f64,
}

impl Stopwatch {
    fn new(site: &Site) -> Result<Self> {
        Ok(Self {
            connection: site.connect()?,
            calls: 0,
            slowest: 0.0,
            sum: 0.0,
        })
    }

    async fn time<T>(&mut self, call: impl Future<Output = pmq_broker::Result<T>>) -> Result<T> {
        let before = Counters::read(&mut self.connection)?;
        let answer = call.await?;
        let counted = Counters::read(&mut self.connection)?.since(before);
        self.calls += 1;
        self.slowest = self.slowest.max(counted.call_us);
        self.sum += counted.call_us;
        Ok(answer)
    }

    /// The slowest call and the mean.
    fn figures(&self, name: &str) -> [Figure; 2] {
        let mean = self.sum / self.calls.max(1) as f64;
        [
            Figure::new(
                format!("{name}_slowest_us"),
                "µs of server time, slowest call",
                self.slowest,
            ),
            Figure::new(format!("{name}_mean_us"), "µs of server time, mean", mean),
        ]
    }
}

pub(super) async fn all(site: &Site, options: &Options) -> Result<Section> {
    let many = MANY.min(options.backlog);
    let note = format!(
        "claim_holes: claims that pass {many} cancelled ids before one live task. reclaim: taking back {many} tasks of one \
         dead worker. heartbeat: of {WORKERS} workers that hold a task of each of so many shards. By the server's own count (INFO commandstats) \
         around each call; the goal is 5,000 µs."
    );
    let mut section = Section::new("Hard calls", &note);
    section.figures.extend(holes(site, many).await?);
    section.figures.extend(reclaim(site, many).await?);
    for shards in SHARDS {
        section.figures.extend(heartbeats(site, shards).await?);
    }
    site.clear().await?;
    Ok(section)
}

fn ask(n: usize) -> Ask {
    Ask {
        n,
        suspect: false,
        wait: false,
    }
}

fn claimer(queue: &TaskQueue, who: Incarnation, lease: Duration) -> Claimer {
    queue.first().claimer(who, lease, None)
}

/// Cancelled ids stay on their list, and in the set of holes.
fn dig_holes(site: &Site, many: usize) -> Result<()> {
    let mut connection = site.connect()?;
    let queue = site.queue();
    let key = |part: &str| {
        let key = queue
            .first()
            .keys()
            .fixed()
            .iter()
            .find(|key| key.ends_with(part));
        key.cloned().unwrap_or_default()
    };
    let (ready, holes) = (key(":ready:5"), key(":holes"));
    for start in (0..many).step_by(STEP) {
        let end = many.min(start + STEP);
        let ids: Vec<[u8; 16]> = (start..end).map(|n| (n as u128).to_be_bytes()).collect();
        let ids: Vec<&[u8]> = ids.iter().map(<[u8; 16]>::as_slice).collect();
        let mut pipeline = redis::Pipeline::new();
        pipeline.cmd("RPUSH").arg(&ready).arg(&ids).ignore();
        pipeline.cmd("SADD").arg(&holes).arg(&ids).ignore();
        pipeline.exec(&mut connection)?;
    }
    Ok(())
}

async fn holes(site: &Site, many: usize) -> Result<[Figure; 2]> {
    let queue = site.seasoned_queue().await?;
    dig_holes(site, many)?;
    queue.submit(&Task::handler("noop", body(SIZE))).await?;
    let mut claimer = claimer(&queue, Incarnation::new(), DEFAULT_LEASE);
    let mut watch = Stopwatch::new(site)?;
    while watch
        .time(claimer.get_nowait(ask(BATCH)))
        .await?
        .tasks
        .is_empty()
    {
        ensure!(watch.calls <= many, "the live task is not found");
    }
    Ok(watch.figures("claim_holes"))
}

async fn reclaim(site: &Site, many: usize) -> Result<[Figure; 2]> {
    let queue = site.seasoned_queue().await?;
    fill_queue(site, many + 1)?;
    let (who, living) = (Incarnation::new(), Incarnation::new());
    let beat = |who: Incarnation, lease: Duration| Heartbeat {
        who,
        lease,
        idle: None,
        carried_out: bytes::Bytes::new(),
    };
    let mut dying = claimer(&queue, who, DEFAULT_LEASE);
    let mut held = 0;
    while held < many {
        let n = BATCH.min(many - held);
        let some = dying.get_nowait(ask(n)).await?.tasks.len();
        ensure!(some > 0, "tasks are missing");
        held += some;
    }
    claimer(&queue, living, DEFAULT_LEASE)
        .get_nowait(ask(1))
        .await?;
    queue.first().heartbeat(&beat(who, Duration::ZERO)).await?;
    let (mut watch, mut back) = (Stopwatch::new(site)?, 0);
    loop {
        // Somebody has to be heard, or the broker takes the silence for an outage of its own.
        if watch.calls % 1000 == 0 {
            let alive = beat(living, DEFAULT_LEASE);
            queue.first().heartbeat(&alive).await?;
        }
        let reclaimed = watch.time(queue.first().reclaim(DEFAULT_LEASE)).await?;
        back += reclaimed.tasks;
        if !reclaimed.more {
            break;
        }
    }
    ensure!(
        back == many as u64,
        "{back} tasks of {many} were taken back"
    );
    Ok(watch.figures("reclaim"))
}

/// Each worker holds a task of each shard.
async fn heartbeats(site: &Site, shards: u16) -> Result<[Figure; 2]> {
    site.clear().await?;
    let queue = site.queue();
    queue.create(shards).await?;
    let tasks: Vec<Task> = (0..2 * WORKERS * usize::from(shards)) // ids spread them evenly enough
        .map(|_| Task::handler("noop", body(SIZE)))
        .collect();
    queue.submit_many(&tasks).await?;
    let workers: Vec<Incarnation> = (0..WORKERS).map(|_| Incarnation::new()).collect();
    let mut watch = Stopwatch::new(site)?;
    for shard in queue.shards().await? {
        for who in &workers {
            let mut claimer = shard.claimer(*who, DEFAULT_LEASE, None);
            let claimed = claimer.get_nowait(ask(1)).await?;
            claimed.tasks.first().context("a task is missing")?;
        }
        for who in &workers {
            let beat = Heartbeat {
                who: *who,
                lease: DEFAULT_LEASE,
                idle: None,
                carried_out: bytes::Bytes::new(),
            };
            watch.time(shard.heartbeat(&beat)).await?;
        }
    }
    Ok(watch.figures(&format!("heartbeat_{shards}")))
}
