//! How to bring a shard into a state: calls with the usual arguments, and time that has passed.

use pmq_broker::{Completion, Name, Outcome, Report, Task, envelope};
use redis::Value;

use crate::call::{Call, bytes, items, text};
use crate::shard::{Shard, id, padded};

/// The lease of everybody in these tests, in ms.
pub(crate) const LEASE: u64 = 20_000;

/// A task that a worker holds.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) id: [u8; 16],
    pub(crate) envelope: Vec<u8>,
    /// The running value, by which it can be ended.
    pub(crate) run: Vec<u8>,
}

impl Held {
    pub(crate) fn token(&self) -> u64 {
        u64::from_le_bytes(self.run[16..24].try_into().unwrap())
    }

    pub(crate) fn word(&self) -> String {
        let text = String::from_utf8_lossy(&self.id).into_owned();
        text.trim_end_matches('.').to_owned()
    }

    /// The flags that the running value has, 0 for a plain one.
    pub(crate) fn flags(&self) -> u16 {
        let base = 25 + usize::from(self.run[24]);
        let at = base + 2..base + 4;
        let flags = self.run.get(at).and_then(|f| f.try_into().ok());
        flags.map_or(0, u16::from_le_bytes)
    }
}

/// What a claim answered.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) tasks: Vec<Held>,
    /// How long the worker may wait: ms, or nothing.
    pub(crate) wait: String,
    pub(crate) lease_ended: bool,
}

impl Claimed {
    pub(crate) fn words(&self) -> String {
        let words: Vec<String> = self.tasks.iter().map(Held::word).collect();
        words.join(" ")
    }
}

/// A plain task for the handler `t`, whose id reads as this word.
pub(crate) fn task(word: &str) -> Task {
    let mut task = Task::handler("t", "").with_id(id(word));
    task.details.queued_ms = 1;
    task
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A process for the handler `t`, whose id reads as this word.
pub(crate) fn process(word: &str) -> Task {
    let mut process = task(word);
    process.process = true;
    (process.retry.attempts, process.retry.crashes) = (1, 1);
    process
}

/// start, of a run that is this process of the operating system.
pub(crate) fn start(held: &Held, pid: u32) -> Call {
    let json = format!(r#"{{"pid":{pid},"host":"h","worker":"w","started_ms":5}}"#);
    Call::new("start").arg(held.id).arg(&held.run).arg(json)
}

/// submit, for ids that the caller gave.
pub(crate) fn submit(tasks: &[Task]) -> Call {
    submit_with_due(tasks, &[])
}

/// submit, with one due time a task.
pub(crate) fn submit_with_due(tasks: &[Task], due: &[&str]) -> Call {
    let call = Call::new("submit").n(tasks.len()).arg("1").arg("1");
    let add = |call: Call, task: &Task| {
        call.arg(task.id.as_bytes())
            .arg(envelope::encode(task).unwrap())
    };
    tasks.iter().fold(call, add).args(due)
}

/// claim, by a worker without a completion queue that may take a suspect and is going to wait.
pub(crate) fn claim(worker: &str, number: u32, n: usize) -> Call {
    claim_with(worker, number, n, ["", "1", "1"])
}

/// claim, with the worker's completion queue, whether it may take a suspect, whether it is going to wait.
pub(crate) fn claim_with(worker: &str, number: u32, n: usize, rest: [&str; 3]) -> Call {
    Call::new("claim")
        .arg(padded(worker))
        .n(number)
        .n(n)
        .n(LEASE)
        .args(rest)
}

/// What a claim's answer says.
pub(crate) fn claimed(answer: &Value) -> Claimed {
    let answer = items(answer);
    assert_eq!(text(&answer[0]), "ok");
    let common = bytes(&answer[4]);
    let rests = answer.get(6).map(items).unwrap_or_default();
    let held = |(i, task): (usize, &[Value])| Held {
        id: bytes(&task[0]).try_into().unwrap(),
        envelope: bytes(&task[1]),
        run: [common.clone(), rests.get(i).map(bytes).unwrap_or_default()].concat(),
    };
    Claimed {
        tasks: items(&answer[5]).chunks(2).enumerate().map(held).collect(),
        wait: text(&answer[2]),
        lease_ended: text(&answer[3]) == "1",
    }
}

/// finish, with these outcomes and the longest jitter.
pub(crate) fn finish(runs: &[(&Held, &str)]) -> Call {
    let add = |call: Call, group: &[(&Held, &str)]| {
        let (held, outcome) = group[0];
        let call = call.arg(&held.run).arg(outcome).n(group.len());
        group.iter().fold(call, |call, (held, outcome)| {
            call.arg(held.id).arg(completion(held, outcome))
        })
    };
    let alike = |a: &(&Held, &str), b: &(&Held, &str)| a.0.run == b.0.run && a.1 == b.1;
    runs.chunk_by(alike).fold(Call::new("finish").n(999), add)
}

/// The completion that a worker would write.
pub(crate) fn completion(held: &Held, outcome: &str) -> Vec<u8> {
    let outcome = match outcome {
        "o" => Outcome::Ok,
        "c" => Outcome::Cancelled,
        "d" => Outcome::Dead,
        _ => Outcome::Failed,
    };
    let completion = Completion {
        id: id(&held.word()),
        outcome,
        exit: None,
        digest: envelope::digest_of(&held.envelope),
        token: u64::from_le_bytes(held.run[16..24].try_into().unwrap()),
        attempt: 1,
        started_us: 0,
        finished_us: 0,
        worker: "host:1".to_owned(),
        report: Report::default(),
        body: "49".into(),
    };
    completion.encode().to_vec()
}

pub(crate) fn release(runs: &[&Held]) -> Call {
    let add = |call: Call, held: &&Held| call.arg(held.id).arg(&held.run);
    runs.iter().fold(Call::new("release"), add)
}

pub(crate) fn refuse(runs: &[&Held]) -> Call {
    let add =
        |call: Call, held: &&Held| call.arg(held.id).arg(&held.run).arg(completion(held, "d"));
    runs.iter().fold(Call::new("refuse").n(500), add)
}

/// cancel, with SIGTERM for what runs.
pub(crate) fn cancel(words: &[&str]) -> Call {
    Call::new("cancel")
        .n(15)
        .args(words.iter().map(|w| padded(w)))
}

pub(crate) fn heartbeat(who: &str, idle: &str) -> Call {
    let call = Call::new("heartbeat").arg(padded(who)).n(LEASE);
    call.arg(idle).arg("")
}

pub(crate) fn reclaim() -> Call {
    Call::new("reclaim").n(LEASE)
}

/// The token of whatever a client got last.
pub(crate) const ANY: u64 = 1 << 53;

/// take, by a client that has read all that it holds.
pub(crate) fn take(who: &str, number: u32, queue: &str, n: usize) -> Call {
    confirming_take(who, number, queue, n).n(ANY)
}

/// take of one from the queue `done`, by a client that has read what it got under this token.
pub(crate) fn take_after(who: &str, number: u32, token: u64) -> Call {
    confirming_take(who, number, "done", 1).n(token)
}

/// take, up to the token that it confirms.
fn confirming_take(who: &str, number: u32, queue: &str, n: usize) -> Call {
    let call = Call::new("take").arg(padded(who)).n(number).arg(queue);
    call.n(n).n(LEASE)
}

pub(crate) fn join(who: &str, queue: &str) -> Call {
    Call::new("join").arg(padded(who)).n(LEASE).arg(queue)
}

pub(crate) fn leave(who: &str, confirm: bool) -> Call {
    leave_after(who, if confirm { ANY } else { 0 })
}

/// leave, by a client that has read what it got under this token.
pub(crate) fn leave_after(who: &str, token: u64) -> Call {
    Call::new("leave").arg(padded(who)).n(token)
}

/// `log_append`, of pieces that begin at this offset.
pub(crate) fn log_append(held: &Held, offset: u64, pieces: &[(&str, &str)]) -> Call {
    let call = Call::new("log_append").arg(held.id).arg(&held.run);
    let add = |call: Call, (kind, text): &(&str, &str)| call.arg(kind).arg(text);
    pieces.iter().fold(call.n(offset), add)
}

/// `log_read`, by a reader for whom the process waits.
pub(crate) fn log_read(held: &Held, reader: &str, offset: u64) -> Call {
    let call = Call::new("log_read").arg(held.id);
    call.arg(padded(reader)).n(offset)
}

/// A call whose only arguments are ids.
pub(crate) fn by_id(verb: &'static str, words: &[&str]) -> Call {
    Call::new(verb).args(words.iter().map(|w| padded(w)))
}

impl Shard {
    /// Submits plain tasks.
    pub(crate) fn submitted(&self, words: &[&str]) {
        let tasks: Vec<Task> = words.iter().map(|w| task(w)).collect();
        self.call(&submit(&tasks));
    }

    /// Claims for a worker, under the next number.
    pub(crate) fn claimed(&self, worker: &str, n: usize) -> Vec<Held> {
        claimed(&self.call(&claim(worker, self.next_number(worker), n))).tasks
    }

    /// The number of a worker's next claim.
    pub(crate) fn next_number(&self, worker: &str) -> u32 {
        let claims = self.state().hash("claims");
        let log = claims.get(padded(worker).as_slice());
        log.map_or(1, |log| {
            u32::from_le_bytes(log[..4].try_into().unwrap()) + 1
        })
    }

    /// Submits and claims one plain task.
    pub(crate) fn running(&self, word: &str, worker: &str) -> Held {
        self.submitted(&[word]);
        self.claimed(worker, 1).remove(0)
    }

    /// Lets a lease end, a minute ago.
    pub(crate) fn expire(&self, who: &str) {
        self.set_score("workers", who, self.now_ms() - 60_000);
    }

    /// Lets a scheduled task be due, a minute ago.
    pub(crate) fn make_due(&self, word: &str) {
        let scheduled = self.state().sorted("scheduled");
        let score: f64 = scheduled[padded(word).as_slice()].parse().unwrap();
        let at = (self.now_ms() - 60_000) as f64 + score.fract();
        self.redis(
            "ZADD",
            &[
                self.key("scheduled").as_bytes(),
                at.to_string().as_bytes(),
                &padded(word),
            ],
        );
    }

    fn set_score(&self, part: &str, word: &str, score: u64) {
        let score = score.to_string();
        self.redis(
            "ZADD",
            &[self.key(part).as_bytes(), score.as_bytes(), &padded(word)],
        );
    }

    /// Writes a field of `meta`, as if it had been written before.
    pub(crate) fn set_meta(&self, name: &str, value: impl ToString + Copy) {
        self.redis(
            "HSET",
            &[self.key("meta"), name.to_owned(), value.to_string()],
        );
    }

    /// Lets the worker die: its lease ends and everything of it is reclaimed.
    pub(crate) fn crash(&self, worker: &str) {
        self.expire(worker);
        while text(&items(&self.call(&reclaim()))[2]) == "1" {}
    }
}
