//! Where it is measured: a broker, and in it a namespace of the run.

use std::time::Duration;

use anyhow::{Context, Result};
use pmq_broker::connection::local::LocalBroker;
use pmq_broker::keys::FleetKeys;
use pmq_broker::task_queue::{Ask, Claim, Finish, How, Settings, Shard};
use pmq_broker::{Broker, Completion, Config, Incarnation, Name, Outcome, Task, TaskId, TaskQueue};
use redis::Connection;

use crate::client;
use crate::crew::Launch;
use crate::floor;
use crate::info;

/// The completion queue of all tasks.
pub(crate) const DONE: &str = "done";
/// The queue of all tasks, and the name of the other objects.
const QUEUE: &str = "bench";
/// The lease of who claims only to prepare a queue.
const SHORT: Duration = Duration::from_secs(1);
/// The most records of ended tasks, as it is unless set.
const RESULTS_MAX: u64 = 1_000_000;

/// A broker, a namespace of the run's own, and how its processes are started.
pub struct Site {
    pub(crate) config: Config,
    pub(crate) launch: Launch,
    pub(crate) broker: Broker,
    /// Where it is the user's own broker, it runs at least as long as this.
    _local: Option<LocalBroker>,
}

impl Site {
    /// Connects to the broker of `config`, the local one where it names none, under a namespace that nobody else has.
    pub async fn open(mut config: Config, launch: Launch) -> Result<Self> {
        let mut local = None;
        if config.url.is_none() {
            let broker = open_local(&config).await?;
            config.url = Some(broker.url());
            local = Some(broker);
        }
        let id = TaskId::new().to_string();
        config.namespace = Name::new(format!("bench-{}", &id[id.len() - 12..]))?;
        Ok(Self {
            broker: Broker::connect(&config).await?,
            config,
            launch,
            _local: local,
        })
    }

    pub(crate) fn connect(&self) -> Result<Connection> {
        client::connect(&self.config)
    }

    pub(crate) fn queue(&self) -> TaskQueue {
        self.broker.task_queue(&queue_name())
    }

    /// Deletes all keys of the run, and waits until the server has freed them. To be called with no process at work.
    pub async fn clear(&self) -> Result<()> {
        self.queue().delete().await?;
        let mut connection = self.connect()?;
        let fleet = FleetKeys::new(&self.config.namespace);
        redis::cmd("UNLINK")
            .arg(floor::Keys::new(&self.config).all())
            .arg(&fleet.presence)
            .arg(&fleet.queues)
            .arg(self.queue().first().keys().wake_done(&done_name()))
            .exec(&mut connection)?;
        while info::is_freeing(&mut connection)? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Deletes every key of the namespace, also of what only this looks for: at the end, as it walks the whole keyspace.
    pub async fn leave(&self) -> Result<()> {
        self.clear().await?;
        let mut connection = self.connect()?;
        let pattern = format!("{}:*", self.config.namespace);
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys): (String, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(&cursor)
                .arg(&["MATCH", &pattern, "COUNT", "1000"])
                .query(&mut connection)?;
            if !keys.is_empty() {
                redis::cmd("UNLINK").arg(keys).exec(&mut connection)?;
            }
            cursor = next;
            if cursor == "0" {
                return Ok(());
            }
        }
    }

    /// An empty queue as it stands in daily use: with two live buckets of results, in which submit looks for each id.
    pub(crate) async fn seasoned_queue(&self) -> Result<TaskQueue> {
        self.clear().await?;
        let queue = self.queue();
        limit_results(&queue, 8).await?; // an eighth of it, one record, fills a bucket
        for _ in 0..2 {
            run_one(&queue).await?;
        }
        limit_results(&queue, RESULTS_MAX).await?;
        Ok(queue)
    }

    /// An empty queue of so many shards.
    pub(crate) async fn queue_of(&self, shards: u16) -> Result<()> {
        self.clear().await?;
        Ok(self.queue().create(shards).await?)
    }
}

async fn limit_results(queue: &TaskQueue, most: u64) -> Result<()> {
    let settings = Settings {
        results_max: Some(most),
        ..Settings::default()
    };
    Ok(queue.configure(&settings).await?)
}

/// Submits a task, claims it and ends it.
async fn run_one(queue: &TaskQueue) -> Result<()> {
    queue.submit(&Task::handler("noop", "0")).await?;
    let mut claimer = queue.first().claimer(Incarnation::new(), SHORT, None);
    let ask = Ask {
        n: 1,
        suspect: false,
        wait: false,
    };
    let claim = claimer.get_nowait(ask).await?.tasks.pop();
    let claim = claim.context("a task that was just submitted is not there")?;
    queue
        .first()
        .finish(&[finish(&claim, queue.first())])
        .await?;
    Ok(())
}

/// The end of a task that does nothing.
pub(crate) fn finish(claim: &Claim, shard: &Shard) -> Finish {
    Finish::new(claim, How::Ok, &completion(claim.id), shard.sealing())
}

/// The completion of a task that does nothing, as a worker of the run writes it.
pub(crate) fn completion(id: TaskId) -> Completion {
    Completion {
        id,
        outcome: Outcome::Ok,
        exit: None,
        digest: [0; 8],
        token: 0,
        attempt: 1,
        started_us: 0,
        finished_us: 0,
        worker: crate::role::WORKER.to_owned(),
        report: pmq_broker::Report::default(),
        body: bytes::Bytes::new(),
    }
}

pub(crate) fn queue_name() -> Name {
    Name::new(QUEUE).expect("it keeps to the grammar")
}

pub(crate) fn done_name() -> Name {
    Name::new(DONE).expect("it keeps to the grammar")
}

async fn open_local(config: &Config) -> Result<LocalBroker> {
    let directory = match &config.local_directory {
        Some(directory) => directory.clone(),
        None => LocalBroker::directory(None)?,
    };
    Ok(tokio::task::spawn_blocking(move || LocalBroker::open(&directory)).await??)
}
