//! The floor: what the same work costs as plain pipelined commands, from a plain synchronous client, with no code of pmq.
//!
//! [`Plain::Same`] does the key operations that pmq's functions do for each task, records, tokens and completion push
//! included, and wakes who waits as they do. [`Plain::Bare`] does the least that moves a task: written, popped, read,
//! deleted, answered; a crash loses it, and nothing knows of it.

use anyhow::Result;
use pmq_broker::{Config, Task, TaskId, envelope};
use redis::{Connection, Pipeline};
use serde::{Deserialize, Serialize};

use crate::client;
use crate::site::{DONE, completion};

/// The most completions that one take gets, as pmq's own consumer asks for.
const TAKE: usize = 500;
/// Seconds of a blocking pop; whoever waits longer asks again.
const WAIT: f64 = 1.0;
/// Where a completion holds its task's id.
const COMPLETION_ID: std::ops::Range<usize> = 40..56;
/// Bytes of a completion that a record keeps in any case.
const VERDICT: usize = 22;
/// The incarnation of a worker or consumer.
const WHO: [u8; 16] = *b"worker-or-client";

pub(crate) type Id = [u8; 16];

/// Which plain commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plain {
    /// The same key operations as pmq.
    Same,
    /// The same without the look whether a submitted task is known: who sends it again doubles it.
    Blind,
    /// The least that moves a task.
    Bare,
}

/// What becomes of a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Results {
    /// It goes to a completion queue, its verdict into the record by id.
    Posted,
    /// It goes into the record by id, and to no queue.
    Kept,
    /// Only its verdict goes into the record.
    Discarded,
}

/// The floor's keys.
pub(crate) struct Keys(String);

impl Keys {
    const PARTS: [&str; 13] = [
        "tasks",
        "ready",
        "wake",
        "running",
        "claims",
        "workers",
        "results",
        "old",
        "holes",
        "done",
        "wake.done",
        "items",
        "lock",
    ];

    pub(crate) fn new(config: &Config) -> Self {
        Self(format!("{}:{{floor/0}}:", config.namespace))
    }

    pub(crate) fn all(&self) -> Vec<String> {
        Self::PARTS.iter().map(|part| self.part(part)).collect()
    }

    pub(crate) fn part(&self, part: &str) -> String {
        format!("{}{part}", self.0)
    }
}

/// A plain client of the floor's keys.
pub(crate) struct Floor {
    pub(crate) connection: Connection,
    pub(crate) keys: Keys,
    plain: Plain,
    results: Results,
    envelope: Vec<u8>,
    completion: Vec<u8>,
    token: u64,
}

impl Floor {
    /// A client for tasks with bodies of `size` bytes, whose bytes in Redis are as many as pmq's.
    pub(crate) fn connect(config: &Config, plain: Plain, size: usize) -> Result<Self> {
        let task = Task::handler("noop", vec![b'7'; size]);
        Ok(Self {
            connection: client::connect(config)?,
            keys: Keys::new(config),
            plain,
            results: Results::Posted,
            envelope: envelope::encode(&task)?.to_vec(),
            completion: completion(TaskId::new()).encode().to_vec(),
            token: 0,
        })
    }

    pub(crate) fn with_results(mut self, results: Results) -> Self {
        self.results = results;
        self
    }

    /// The ids of a batch.
    pub(crate) fn ids(range: std::ops::Range<usize>) -> Vec<Id> {
        range.map(|n| (n as u128).to_be_bytes()).collect()
    }

    /// Looks whether the tasks are known, writes each and its id, and leaves a token.
    pub(crate) fn submit(&mut self, ids: &[Id]) -> Result<()> {
        let slices: Vec<&[u8]> = ids.iter().map(Id::as_slice).collect();
        let mut fields = Vec::with_capacity(2 * ids.len());
        for id in &slices {
            fields.extend([*id, self.envelope.as_slice()]);
        }
        let mut pipeline = Pipeline::new();
        let mut add = |name: &str, part: &str, arguments: &[&[u8]]| {
            let key = self.keys.part(part);
            pipeline.cmd(name).arg(key).arg(arguments).ignore();
        };
        if self.plain == Plain::Same {
            // As nothing else makes plain commands safe to send again.
            for bucket in ["tasks", "results", "old"] {
                add("HMGET", bucket, &slices);
            }
            add("SMISMEMBER", "holes", &slices);
        }
        add("HSET", "tasks", &fields);
        add("RPUSH", "ready", &slices);
        if self.plain != Plain::Bare {
            add("RPUSH", "wake", &[b"1"]);
        }
        Ok(pipeline.exec(&mut self.connection)?)
    }

    /// Takes tasks, waiting for one, and ends them; answers how many.
    pub(crate) fn work_some(&mut self, batch: usize) -> Result<usize> {
        let ids = match self.plain {
            Plain::Same | Plain::Blind => self.claim_or_wait(batch)?,
            Plain::Bare => self.pop("ready", batch)?,
        };
        if ids.is_empty() {
            return Ok(0);
        }
        self.hold(&ids)?;
        self.finish(&ids)?;
        Ok(ids.len())
    }

    /// Waits for the next task, holds it under one round trip and ends it: what a worker does that is woken.
    pub(crate) fn echo(&mut self) -> Result<()> {
        let popped: Option<(Vec<u8>, Vec<u8>)> = redis::cmd("BLPOP")
            .arg(self.keys.part("ready"))
            .arg(WAIT)
            .query(&mut self.connection)?;
        if let Some((_, id)) = popped {
            self.hold(std::slice::from_ref(&id))?;
            self.finish(std::slice::from_ref(&id))?;
        }
        Ok(())
    }

    /// Claims what is ready.
    pub(crate) fn claim(&mut self, batch: usize) -> Result<Vec<Vec<u8>>> {
        let ids = self.try_pop("ready", batch)?;
        if !ids.is_empty() {
            self.hold(&ids)?;
        }
        Ok(ids)
    }

    fn claim_or_wait(&mut self, batch: usize) -> Result<Vec<Vec<u8>>> {
        let ids = self.try_pop("ready", batch)?;
        if !ids.is_empty() {
            return Ok(ids);
        }
        // Old tokens go first, then it looks once more, and only then it waits.
        redis::cmd("DEL")
            .arg(self.keys.part("wake"))
            .exec(&mut self.connection)?;
        let ids = self.try_pop("ready", batch)?;
        if ids.is_empty() {
            self.wait("wake")?;
        }
        Ok(ids)
    }

    fn try_pop(&mut self, part: &str, batch: usize) -> Result<Vec<Vec<u8>>> {
        let ids: Option<_> = redis::cmd("LPOP")
            .arg(self.keys.part(part))
            .arg(batch)
            .query(&mut self.connection)?;
        Ok(ids.unwrap_or_default())
    }

    fn pop(&mut self, part: &str, batch: usize) -> Result<Vec<Vec<u8>>> {
        let popped: Option<(String, Vec<Vec<u8>>)> = redis::cmd("BLMPOP")
            .arg(WAIT)
            .arg(1)
            .arg(self.keys.part(part))
            .arg(&["LEFT", "COUNT"])
            .arg(batch)
            .query(&mut self.connection)?;
        Ok(popped.map_or_else(Vec::new, |(_, items)| items))
    }

    pub(crate) fn wait(&mut self, part: &str) -> Result<()> {
        Ok(redis::cmd("BLPOP")
            .arg(self.keys.part(part))
            .arg(WAIT)
            .exec(&mut self.connection)?)
    }

    /// What stands in `running`: worker, token, name of the completion queue.
    fn run(&self) -> Vec<u8> {
        let name = DONE.as_bytes();
        let token = self.token.to_le_bytes();
        [&WHO, token.as_slice(), &[name.len() as u8], name].concat()
    }

    /// Reads the bodies of popped ids and puts them under a lease.
    fn hold(&mut self, ids: &[Vec<u8>]) -> Result<()> {
        self.token += 1;
        let run = self.run();
        let mut pipeline = Pipeline::new();
        pipeline.cmd("HMGET").arg(self.keys.part("tasks")).arg(ids);
        if self.plain != Plain::Bare {
            let log = [b"1234w12345678".as_slice(), &ids.concat()].concat();
            let held: Vec<(&[u8], &[u8])> = ids
                .iter()
                .map(|id| (id.as_slice(), run.as_slice()))
                .collect();
            pipeline.cmd("HSET").arg(self.keys.part("running"));
            pipeline.arg(&held).ignore();
            pipeline.cmd("HSET").arg(self.keys.part("claims"));
            pipeline.arg(&WHO).arg(log).ignore();
            pipeline.cmd("ZADD").arg(self.keys.part("workers"));
            pipeline.arg(1_700_000_000_000_u64).arg(&WHO).ignore();
        }
        let (_bodies,): (Vec<Vec<u8>>,) = pipeline.query(&mut self.connection)?;
        Ok(())
    }

    /// Ends held tasks: looks whether they are, then record, completion, token, gone.
    pub(crate) fn finish(&mut self, ids: &[Vec<u8>]) -> Result<()> {
        let completions: Vec<Vec<u8>> = ids.iter().map(|id| self.completion_of(id)).collect();
        let mut pipeline = Pipeline::new();
        if self.plain != Plain::Bare {
            let kept = match self.results {
                Results::Kept => self.completion.len(),
                Results::Posted | Results::Discarded => VERDICT,
            };
            let records: Vec<(&[u8], &[u8])> = ids
                .iter()
                .zip(&completions)
                .map(|(id, completion)| (id.as_slice(), &completion[..kept]))
                .collect();
            pipeline.cmd("HMGET").arg(self.keys.part("running"));
            pipeline.arg(ids).ignore();
            pipeline.cmd("HDEL").arg(self.keys.part("running"));
            pipeline.arg(ids).ignore();
            pipeline.cmd("HSET").arg(self.keys.part("results"));
            pipeline.arg(&records).ignore();
        }
        pipeline.cmd("HDEL").arg(self.keys.part("tasks"));
        pipeline.arg(ids).ignore();
        if self.results == Results::Posted {
            pipeline.cmd("RPUSH").arg(self.keys.part("done"));
            pipeline.arg(&completions).ignore();
            if self.plain != Plain::Bare {
                pipeline.cmd("RPUSH").arg(self.keys.part("wake.done"));
                pipeline.arg("1").ignore();
            }
        }
        Ok(pipeline.exec(&mut self.connection)?)
    }

    fn completion_of(&self, id: &[u8]) -> Vec<u8> {
        let mut completion = self.completion.clone();
        completion[COMPLETION_ID].copy_from_slice(id);
        completion
    }

    /// Gets completions, waiting for one.
    pub(crate) fn consume_some(&mut self) -> Result<Vec<Vec<u8>>> {
        if self.plain == Plain::Bare {
            return self.pop("done", TAKE);
        }
        let items = self.take()?;
        if items.is_empty() {
            self.wait("wake.done")?;
        }
        Ok(items)
    }

    /// Reads the head of the completion queue, removes it, and notes what was taken until that is confirmed.
    pub(crate) fn take(&mut self) -> Result<Vec<Vec<u8>>> {
        let items: Vec<Vec<u8>> = redis::cmd("LRANGE")
            .arg(self.keys.part("done"))
            .arg(0)
            .arg(TAKE - 1)
            .query(&mut self.connection)?;
        if items.is_empty() {
            return Ok(items);
        }
        let mut pipeline = Pipeline::new();
        pipeline.cmd("LTRIM").arg(self.keys.part("done"));
        pipeline.arg(items.len()).arg(-1).ignore();
        pipeline.cmd("HSET").arg(self.keys.part("claims"));
        pipeline.arg(&WHO).arg(items.concat()).ignore();
        pipeline.exec(&mut self.connection)?;
        Ok(items)
    }

    /// The number of the task that a completion is of.
    pub(crate) fn number_of(completion: &[u8]) -> usize {
        let id = completion.get(COMPLETION_ID);
        let id: Option<Id> = id.and_then(|id| id.try_into().ok());
        id.map_or(0, u128::from_be_bytes) as usize
    }
}
