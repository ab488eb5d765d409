//! start and `list_started`: where processes run.

use bytes::Bytes;
use redis::Value;
use serde::{Deserialize, Serialize};

use super::shards::all;
use super::{CHUNK, Run, Shard, TaskQueue};
use crate::broker::PATIENCE;
use crate::completion::Completion;
use crate::envelope;
use crate::error::{Error, Result};
use crate::ids::TaskId;
use crate::process::Lineage;
use crate::reply::{self, odd};
use crate::task::Work;

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its id in the operating system of `host`; of a handler its worker's.
    pub pid: u32,
    /// The name of the host.
    pub host: String,
    /// The worker's name.
    pub worker: String,
    /// When it started, in ms since the epoch by the broker's clock.
    pub started_ms: u64,
}

impl Started {
    /// What `start` wrote; `None` for anything else, as a record is.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// No worker has started it, or it is no process.
    Waiting,
    /// It runs there.
    Started(Started),
    /// It ended like this.
    Ended(Box<Completion>),
    /// No such task is known: never submitted, or forgotten after its retention time.
    Unknown,
}

/// A process that runs.
#[derive(Clone, Debug)]
pub struct StartedProcess {
    /// Its id.
    pub id: TaskId,
    /// Where it runs.
    pub started: Started,
    /// What it runs, where its envelope is readable.
    pub work: Option<Work>,
    /// Whether its worker's lease has ended: it ends as lost, unless that worker was only cut off and comes back first.
    pub lost: bool,
    /// Its name and its parent.
    pub lineage: Option<Lineage>,
}

impl TaskQueue {
    /// Looks where a process is, and has its start and its end published.
    pub(crate) async fn look(&self, id: TaskId) -> Result<Look> {
        self.shard_of(id).await?.look(id).await
    }

    /// The processes that run, oldest first. One that starts or ends during the call may be among them or not.
    pub async fn processes(&self) -> Result<Vec<StartedProcess>> {
        let found = all(self.shards().await?.iter().map(Shard::processes)).await?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        // A hash that is rehashed meanwhile may tell of a field twice.
        found.sort_by_key(|process| process.id);
        found.dedup_by_key(|process| process.id);
        Ok(found)
    }
}

impl Shard {
    /// Says where this run of a process is. [`Error::LeaseLost`] says that the run is this worker's no more.
    pub async fn start(&self, id: TaskId, run: &Run, started: &Started) -> Result<()> {
        let json = serde_json::to_string(started).map_err(|e| Error::BadOption(e.to_string()))?;
        let call = self
            .call("start")
            .arg(id.as_bytes().as_slice())
            .arg(run.0.as_ref())
            .arg(json);
        let answer = reply::tagged(self.broker.control().call(&call, PATIENCE).await?, "start")?;
        if answer.tag == "ok" {
            Ok(())
        } else {
            Err(Error::LeaseLost {
                queue: self.queue.clone(),
            })
        }
    }

    async fn look(&self, id: TaskId) -> Result<Look> {
        let call = self.call("watch").arg(id.as_bytes().as_slice());
        let answer = self.broker.control().call(&call, PATIENCE).await?;
        let mut answers = reply::items(answer, "watch")?.into_iter();
        let answer = answers.next().ok_or_else(|| odd("watch"))?;
        if answer == Value::Nil {
            return Ok(Look::Unknown);
        }
        let record = reply::bytes(answer, "watch")?;
        if record.is_empty() {
            return Ok(Look::Waiting);
        }
        if let Some(started) = Started::parse(&record) {
            return Ok(Look::Started(started));
        }
        let completion = self.sealing().open_completion(id, &record)?;
        Ok(Look::Ended(Box::new(completion)))
    }

    async fn processes(&self) -> Result<Vec<StartedProcess>> {
        let doing = "list processes";
        let (mut found, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let call = self.call("list_started").arg(&cursor).arg(CHUNK);
            let answer = self.broker.control().call(&call, PATIENCE).await?;
            let mut answer = reply::items(answer, doing)?.into_iter();
            let (Some(next), Some(page)) = (answer.next(), answer.next()) else {
                return Err(odd(doing));
            };
            let page = reply::items(page, doing)?;
            let mut fields = page.into_iter().map(|field| reply::bytes(field, doing));
            while let (Some(id), Some(json), Some(head), Some(lost)) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            {
                let lost = lost?.as_ref() == b"1";
                let process = process(&id?, &json?, &head?);
                found.extend(process.map(|process| StartedProcess { lost, ..process }));
            }
            cursor = reply::text(next, doing)?;
            if cursor == "0" {
                return Ok(found);
            }
        }
    }
}

fn process(id: &[u8], json: &[u8], head: &Bytes) -> Option<StartedProcess> {
    let (work, details) = envelope::decode_head(head).ok().unzip();
    Some(StartedProcess {
        id: TaskId::from_slice(id)?,
        started: Started::parse(json)?,
        work,
        lost: false,
        lineage: details.and_then(|details| details.process),
    })
}
