//! A queue's keys as a stranger with redis-cli sees and changes them.

use pmq_broker::TaskId;
use pmq_tests::shared::Raw;
use pmq_tests::{Redis, shared};
use redis::cmd;

use crate::fleet::Fleet;

/// The keys of one queue.
pub(crate) struct Store {
    connection: Raw,
    prefix: String,
}

impl Store {
    /// The keys of a fleet's queue on the shared server.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        Self::on(shared(), fleet)
    }

    /// The keys of a fleet's queue on this server.
    pub(crate) fn on(server: &impl Redis, fleet: &Fleet) -> Self {
        Self {
            connection: server.raw(),
            prefix: format!("pmq:{{{}/0}}:", fleet.queue.name()),
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

    fn key(&self, part: &str) -> String {
        format!("{}{part}", self.prefix)
    }

    /// Makes a ready task of any bytes.
    pub(crate) fn push(&mut self, envelope: &[u8]) -> TaskId {
        let id = TaskId::new();
        self.push_as(id, envelope);
        id
    }

    /// Makes a ready task of this id of any bytes, or replaces one, and wakes a worker.
    pub(crate) fn push_as(&mut self, id: TaskId, envelope: &[u8]) {
        let (tasks, ready, wake) = (self.key("tasks"), self.key("ready:5"), self.key("wake"));
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
            .arg(&[&wake, "1"])
            .exec(&mut self.connection)
            .unwrap();
    }

    /// Puts a completion on the completion queue `done`.
    pub(crate) fn post(&mut self, completion: &[u8]) {
        let done = self.key("done:done");
        cmd("RPUSH")
            .arg(done)
            .arg(completion)
            .exec(&mut self.connection)
            .unwrap();
    }

    /// What is on the completion queue `done`.
    pub(crate) fn posted(&mut self) -> Vec<Vec<u8>> {
        let done = self.key("done:done");
        cmd("LRANGE")
            .arg(&[&done, "0", "-1"])
            .query(&mut self.connection)
            .unwrap()
    }

    /// Puts something in place of the record of an ended task, as it changes it.
    pub(crate) fn rewrite_record(&mut self, id: TaskId, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let bucket = self.newest_bucket();
        let record: Vec<u8> = cmd("HGET")
            .arg(&bucket)
            .arg(id.as_bytes())
            .query(&mut self.connection)
            .unwrap();
        self.put_record(id, &change(record));
    }

    /// Says that a task has ended like this.
    pub(crate) fn put_record(&mut self, id: TaskId, record: &[u8]) {
        let bucket = self.newest_bucket();
        cmd("HSET")
            .arg(bucket)
            .arg(id.as_bytes())
            .arg(record)
            .exec(&mut self.connection)
            .unwrap();
    }

    /// All that Redis holds of the queue, as text.
    pub(crate) fn everything(&mut self) -> String {
        let pattern = format!("{}*", self.prefix);
        let keys: Vec<String> = cmd("KEYS")
            .arg(pattern)
            .query(&mut self.connection)
            .unwrap();
        let mut all = Vec::new();
        for key in keys {
            let kind: String = cmd("TYPE").arg(&key).query(&mut self.connection).unwrap();
            let (read, range) = match kind.as_str() {
                "hash" => ("HGETALL", [].as_slice()),
                "set" => ("SMEMBERS", [].as_slice()),
                "list" => ("LRANGE", ["0", "-1"].as_slice()),
                "zset" => ("ZRANGE", ["0", "-1"].as_slice()),
                other => panic!("{key} is a {other}"),
            };
            let mut ask = cmd(read);
            let values: Vec<Vec<u8>> = ask
                .arg(&key)
                .arg(range)
                .query(&mut self.connection)
                .unwrap();
            all.extend(values);
        }
        String::from_utf8_lossy(&all.join(&b'\n')).into_owned()
    }

    fn newest_bucket(&mut self) -> String {
        let meta = self.key("meta");
        let buckets: String = cmd("HGET")
            .arg(meta)
            .arg("buckets")
            .query(&mut self.connection)
            .unwrap();
        self.key(&format!("results:{}", buckets.split(',').next().unwrap()))
    }

    /// A task's envelope.
    pub(crate) fn envelope(&mut self, id: TaskId) -> Vec<u8> {
        let tasks = self.key("tasks");
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
        let attempts = self.key("attempts");
        cmd("HSET")
            .arg(attempts)
            .arg(id.as_bytes())
            .arg(row)
            .exec(&mut self.connection)
            .unwrap();
    }

    fn attempts(&mut self, id: TaskId) -> Option<Vec<u8>> {
        let attempts = self.key("attempts");
        cmd("HGET")
            .arg(attempts)
            .arg(id.as_bytes())
            .query(&mut self.connection)
            .unwrap()
    }

    /// How many crashes each task has used that has used any attempts.
    pub(crate) fn crashes(&mut self) -> Vec<u16> {
        let attempts = self.key("attempts");
        let rows: Vec<Vec<u8>> = cmd("HVALS")
            .arg(attempts)
            .query(&mut self.connection)
            .unwrap();
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

    /// Puts a string where a key of ours should be, and the key aside.
    pub(crate) fn spoil(&mut self, part: &str) {
        let (key, aside) = (self.key(part), self.key("aside"));
        // It may not exist, which is an error of RENAME.
        let _ = cmd("RENAME")
            .arg(&key)
            .arg(aside)
            .exec(&mut self.connection);
        cmd("SET")
            .arg(key)
            .arg("spoilt")
            .exec(&mut self.connection)
            .unwrap();
    }

    /// Puts the key back.
    pub(crate) fn mend(&mut self, part: &str) {
        let (key, aside) = (self.key(part), self.key("aside"));
        cmd("DEL").arg(&key).exec(&mut self.connection).unwrap();
        let _ = cmd("RENAME").arg(aside).arg(key).exec(&mut self.connection);
    }
}
