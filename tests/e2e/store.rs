//! A queue's keys as a stranger with redis-cli sees and changes them.

use pmq_broker::TaskId;
use pmq_broker::task_queue::Shard;
use pmq_tests::shared::Raw;
use pmq_tests::{Redis, shared};
use redis::cmd;

use crate::fleet::Fleet;

/// The keys of one queue, which has been made.
pub(crate) struct Store {
    connection: Raw,
    shards: Vec<Shard>,
}

impl Store {
    /// The keys of a fleet's queue on the server that tests share.
    pub(crate) async fn of(fleet: &Fleet) -> Self {
        Self::on(shared(), fleet).await
    }

    /// The keys of a fleet's queue on this server.
    pub(crate) async fn on(server: &impl Redis, fleet: &Fleet) -> Self {
        Self {
            connection: server.raw(),
            shards: fleet.queue.open().await.unwrap().to_vec(),
        }
    }

    /// Goes on as another user of the server.
    pub(crate) fn log_in(&mut self, user: &str, password: &str) {
        let answer = cmd("AUTH")
            .arg(user)
            .arg(password)
            .exec(&mut self.connection);
        answer.unwrap();
    }

    /// A key of the shard that has this task.
    fn key(&self, id: TaskId, part: &str) -> String {
        key(&self.shards[id.shard(self.shards.len())], part)
    }

    /// The key of each shard.
    fn keys(&self, part: &str) -> Vec<String> {
        self.shards.iter().map(|shard| key(shard, part)).collect()
    }

    /// Makes a ready task of any bytes.
    pub(crate) fn push(&mut self, envelope: &[u8]) -> TaskId {
        let id = TaskId::new();
        self.push_as(id, envelope);
        id
    }

    /// Makes a ready task of this id of any bytes, or replaces one, and wakes a worker.
    pub(crate) fn push_as(&mut self, id: TaskId, envelope: &[u8]) {
        let shard = id.shard(self.shards.len());
        let (tasks, ready) = (self.key(id, "tasks"), self.key(id, "ready:5"));
        let (wake, token) = if self.shards.len() == 1 {
            (self.key(id, "wake"), "1".to_owned())
        } else {
            (key(&self.shards[0], "wake.all"), shard.to_string())
        };
        if self.shards.len() > 1 {
            // As the first task of this shard would have it.
            let count = self.shards.len().to_string();
            cmd("HSET")
                .arg(&[&self.key(id, "meta"), "shards", &count])
                .exec(&mut self.connection)
                .unwrap();
        }
        cmd("HSET")
            .arg(tasks)
            .arg(id.as_bytes())
            .arg(envelope)
            .exec(&mut self.connection)
            .unwrap();
        cmd("RPUSH")
            .arg(ready)
            .arg(id.as_bytes())
            .exec(&mut self.connection)
            .unwrap();
        cmd("RPUSH")
            .arg(&[wake, token])
            .exec(&mut self.connection)
            .unwrap();
    }

    /// Puts a completion on the completion queue `done`.
    pub(crate) fn post(&mut self, completion: &[u8]) {
        let done = key(&self.shards[0], "done:done");
        cmd("RPUSH")
            .arg(done)
            .arg(completion)
            .exec(&mut self.connection)
            .unwrap();
    }

    /// What is on the completion queue `done`.
    pub(crate) fn posted(&mut self) -> Vec<Vec<u8>> {
        let mut posted = Vec::new();
        for done in self.keys("done:done") {
            let some: Vec<Vec<u8>> = cmd("LRANGE")
                .arg(&[&done, "0", "-1"])
                .query(&mut self.connection)
                .unwrap();
            posted.extend(some);
        }
        posted
    }

    /// Puts something in place of the record of an ended task, as it changes it.
    pub(crate) fn rewrite_record(&mut self, id: TaskId, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let bucket = self.newest_bucket(id);
        let record: Vec<u8> = cmd("HGET")
            .arg(&bucket)
            .arg(id.as_bytes())
            .query(&mut self.connection)
            .unwrap();
        self.put_record(id, &change(record));
    }

    /// Says that a task has ended like this.
    pub(crate) fn put_record(&mut self, id: TaskId, record: &[u8]) {
        let bucket = self.newest_bucket(id);
        cmd("HSET")
            .arg(bucket)
            .arg(id.as_bytes())
            .arg(record)
            .exec(&mut self.connection)
            .unwrap();
    }

    /// All that Redis holds of the queue, as text.
    pub(crate) fn everything(&mut self) -> String {
        let mut all = Vec::new();
        for shard in self.shards.clone() {
            let buckets: Option<String> = cmd("HGET")
                .arg(&[&key(&shard, "meta"), "buckets"])
                .query(&mut self.connection)
                .unwrap();
            let buckets = buckets.unwrap_or_default();
            let named = buckets.split(',').map(|bucket| format!("results:{bucket}"));
            let named = named.chain(["done:done".to_owned()]);
            let fixed = shard.keys().fixed().iter().cloned();
            for key in fixed.chain(named.map(|part| key(&shard, &part))) {
                all.extend(self.values(&key));
            }
        }
        String::from_utf8_lossy(&all.join(&b'\n')).into_owned()
    }

    fn values(&mut self, key: &str) -> Vec<Vec<u8>> {
        let kind: String = cmd("TYPE").arg(key).query(&mut self.connection).unwrap();
        let (read, range) = match kind.as_str() {
            "none" => return Vec::new(),
            "hash" => ("HGETALL", [].as_slice()),
            "set" => ("SMEMBERS", [].as_slice()),
            "list" => ("LRANGE", ["0", "-1"].as_slice()),
            "zset" => ("ZRANGE", ["0", "-1"].as_slice()),
            other => panic!("{key} is a {other}"),
        };
        let mut ask = cmd(read);
        let ask = ask.arg(key).arg(range);
        ask.query(&mut self.connection).unwrap()
    }

    fn newest_bucket(&mut self, id: TaskId) -> String {
        let meta = self.key(id, "meta");
        let buckets: String = cmd("HGET")
            .arg(meta)
            .arg("buckets")
            .query(&mut self.connection)
            .unwrap();
        let newest = buckets.split(',').next().unwrap();
        self.key(id, &format!("results:{newest}"))
    }

    /// A task's envelope.
    pub(crate) fn envelope(&mut self, id: TaskId) -> Vec<u8> {
        let tasks = self.key(id, "tasks");
        cmd("HGET")
            .arg(tasks)
            .arg(id.as_bytes())
            .query(&mut self.connection)
            .unwrap()
    }

    /// Since when a task is refused, in ms since the epoch; `None` where it is not.
    pub(crate) fn refused_ms(&mut self, id: TaskId) -> Option<u64> {
        let row = self.attempts(id)?;
        let refused = u64::from_le_bytes(row[12..20].try_into().unwrap());
        (refused > 0).then_some(refused)
    }

    /// Lets a task have been refused for five minutes, and often enough: its next refusal is the last.
    pub(crate) fn exhaust_patience(&mut self, id: TaskId) {
        let mut row = self.attempts(id).unwrap();
        let refused = self.refused_ms(id).unwrap() - 300_000;
        row[12..20].copy_from_slice(&refused.to_le_bytes());
        row[20..22].copy_from_slice(&19_u16.to_le_bytes());
        let attempts = self.key(id, "attempts");
        cmd("HSET")
            .arg(attempts)
            .arg(id.as_bytes())
            .arg(row)
            .exec(&mut self.connection)
            .unwrap();
    }

    fn attempts(&mut self, id: TaskId) -> Option<Vec<u8>> {
        let attempts = self.key(id, "attempts");
        cmd("HGET")
            .arg(attempts)
            .arg(id.as_bytes())
            .query(&mut self.connection)
            .unwrap()
    }

    /// How many crashes each task has used that has used any attempts.
    pub(crate) fn crashes(&mut self) -> Vec<u16> {
        let mut rows: Vec<Vec<u8>> = Vec::new();
        for attempts in self.keys("attempts") {
            let some = cmd("HVALS").arg(attempts).query(&mut self.connection);
            rows.extend::<Vec<_>>(some.unwrap());
        }
        rows.iter()
            .map(|row| u16::from_le_bytes([row[2], row[3]]))
            .collect()
    }

    /// How many calls clients have made that workers make.
    pub(crate) fn calls(&mut self) -> u64 {
        let commands = [
            "fcall",
            "blpop",
            "ping",
            "sadd",
            "rpush",
            "hello",
            "subscribe",
        ];
        commands.iter().map(|command| self.calls_of(command)).sum()
    }

    /// How many calls of one command there were.
    pub(crate) fn calls_of(&mut self, command: &str) -> u64 {
        let info: String = cmd("INFO")
            .arg("commandstats")
            .query(&mut self.connection)
            .unwrap();
        let start = format!("cmdstat_{command}:calls=");
        let calls = info
            .lines()
            .find_map(|line| line.strip_prefix(&start)?.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }

    /// The server's clock, in seconds.
    pub(crate) fn seconds(&mut self) -> f64 {
        let (seconds, micros): (u64, u64) = cmd("TIME").query(&mut self.connection).unwrap();
        seconds as f64 + micros as f64 / 1e6
    }

    /// Puts a string where a key of ours should be, on each shard, and the key aside.
    pub(crate) fn spoil(&mut self, part: &str) {
        for shard in &self.shards {
            let (key, aside) = (key(shard, part), key(shard, "aside"));
            // It may not exist, which is an error of RENAME.
            let _ = cmd("RENAME")
                .arg(&[&key, &aside])
                .exec(&mut self.connection);
            cmd("SET")
                .arg(&[key.as_str(), "spoilt"])
                .exec(&mut self.connection)
                .unwrap();
        }
    }

    /// Puts the keys back.
    pub(crate) fn mend(&mut self, part: &str) {
        for shard in &self.shards {
            let (key, aside) = (key(shard, part), key(shard, "aside"));
            cmd("DEL").arg(&key).exec(&mut self.connection).unwrap();
            let _ = cmd("RENAME")
                .arg(&[&aside, &key])
                .exec(&mut self.connection);
        }
    }
}

/// A part of a shard.
fn key(shard: &Shard, part: &str) -> String {
    let meta = &shard.keys().fixed()[0];
    let prefix = meta.strip_suffix("meta").unwrap();
    format!("{prefix}{part}")
}
