//! A queue of a test's own, real workers on it, and what they did: by their completions and by the tasks' own record.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pmq_broker::config::Tls;
use pmq_broker::task_queue::{Consumer, DeadLetter, Shard};
use pmq_broker::{Broker, Completion, Config, Name, Task, TaskId, TaskQueue};
use pmq_tests::program::Running;
use pmq_tests::{Program, Redis, Scratch, eventually, shared};

/// Bounds every wait for something that should come soon, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Bounds what takes its time.
pub(crate) const LONG: Duration = Duration::from_secs(60);

static FLEETS: AtomicU32 = AtomicU32::new(0);

/// A name that is known to be one.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// `pmq`, by this way to its server.
pub(crate) fn pmq_at(url: &str) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pmq-under-test"))
        .redis(url)
        .timeout(LONG)
}

/// The same with these files.
pub(crate) fn with_tls(pmq: Program, tls: Tls) -> Program {
    let files = [
        ("PMQ_TLS_CA", tls.ca),
        ("PMQ_TLS_CERT", tls.cert),
        ("PMQ_TLS_KEY", tls.key),
    ];
    let named = files
        .into_iter()
        .filter_map(|(name, file)| Some((name, file?)));
    named.fold(pmq, |pmq, (name, file)| pmq.env(name, file))
}

/// A queue with a completion queue `done`, and a directory with the tasks' record.
pub(crate) struct Fleet {
    pub(crate) queue: TaskQueue,
    url: String,
    tls: Tls,
    files: Scratch,
}

impl Fleet {
    /// A queue of its own on the server that tests share.
    pub(crate) async fn new() -> Self {
        Self::at(shared().url()).await
    }

    /// A queue of its own on a server of its own.
    pub(crate) async fn at(url: impl Into<String>) -> Self {
        Self::of(Config::url(url)).await
    }

    /// A queue of its own on the server of this configuration.
    pub(crate) async fn of(config: Config) -> Self {
        let number = FLEETS.fetch_add(1, Ordering::Relaxed);
        Self::serving(config, &name(&format!("q{number}"))).await
    }

    /// This queue on the server of this configuration.
    pub(crate) async fn serving(config: Config, queue: &Name) -> Self {
        let broker = Broker::connect(&config).await.unwrap();
        let url = config.url.unwrap();
        Self {
            tls: config.tls,
            queue: broker.task_queue(queue),
            url,
            files: Scratch::new(),
        }
    }

    /// Where its server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// `pmq`, on this fleet's server.
    pub(crate) fn pmq(&self) -> Program {
        self.with_its_tls(pmq_at(&self.url))
    }

    /// A program with the files that this fleet's server wants.
    pub(crate) fn with_its_tls(&self, program: Program) -> Program {
        with_tls(program, self.tls.clone())
    }

    /// Starts `pmq worker` on this queue with these flags, which are separated by spaces.
    pub(crate) fn worker(&self, flags: &str) -> Running {
        self.worker_of(&self.pmq(), flags)
    }

    /// Likewise, with another program: another server address, another environment.
    pub(crate) fn worker_of(&self, pmq: &Program, flags: &str) -> Running {
        let queue = self.queue.name().as_str();
        let always = ["worker", "-q", queue, "--completions", "done"];
        let worker = pmq.spawn(always.into_iter().chain(flags.split_whitespace()));
        let _ = worker.wait_for_line("serves");
        worker
    }

    /// A path in the fleet's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    /// A command that runs `script` in a shell, as [`sh`] says, with the fleet's directory.
    pub(crate) fn sh(&self, script: &str) -> Task {
        sh(script, self.files.path())
    }

    /// The lines that tasks have written to the record, each in one write.
    pub(crate) fn record(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("record")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the record has `n` lines.
    pub(crate) fn wait_for_record(&self, n: usize) -> Vec<String> {
        eventually(&format!("the record has {n} lines"), SOON, || {
            Some(self.record()).filter(|lines| lines.len() >= n)
        })
    }

    pub(crate) async fn submit(&self, task: &Task) -> TaskId {
        self.queue.submit(task).await.unwrap();
        task.id
    }

    /// The shard of a task, of a queue that this process has used.
    pub(crate) fn shard_of(&self, id: TaskId) -> &Shard {
        let shards = self.queue.opened();
        &shards[id.shard(shards.len())]
    }

    /// Gets `n` completions, each of another task, and sees that there is no further one.
    pub(crate) async fn completions(&self, n: usize) -> HashMap<TaskId, Completion> {
        let mut consumer = self.consumer();
        let got = collect(&mut consumer, n).await;
        consumer.close().await.unwrap();
        got
    }

    /// The one completion of a queue with one task.
    pub(crate) async fn completion(&self) -> Completion {
        let mut got = self.completions(1).await;
        let id = *got.keys().next().unwrap();
        got.remove(&id).unwrap()
    }

    /// All dead letters, oldest first.
    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        let mut letters = self.queue.dead_letters().await.unwrap();
        let mut all = Vec::new();
        while let Some(letter) = letters.next().await.unwrap() {
            all.push(letter);
        }
        all
    }

    pub(crate) fn consumer(&self) -> Consumer {
        self.queue.completions(&name("done"))
    }
}

/// A command that runs `script` in a shell, in which `$DIR` is `directory` and `record` writes a line to the record
/// there: the task, the attempt, and what it is given.
pub(crate) fn sh(script: &str, directory: &Path) -> Task {
    let record = r#"record() { echo "$PMQ_TASK_ID $PMQ_ATTEMPT $*" >> "$DIR/record"; }"#;
    let mut task = Task::command(["sh", "-c", &format!("{record}\n{script}")]);
    task.details.env = vec![("DIR".into(), directory.to_str().unwrap().to_owned())];
    task
}

/// Gets `n` completions from a consumer, each of another task, and sees that there is no further one.
pub(crate) async fn collect(consumer: &mut Consumer, n: usize) -> HashMap<TaskId, Completion> {
    let mut got = HashMap::new();
    let end = Instant::now() + LONG;
    while got.len() < n {
        assert!(
            Instant::now() < end,
            "only {} of {n} completions came",
            got.len()
        );
        // While the broker is away, an error is as good as nothing.
        let batch = consumer.get_many(500, Duration::from_secs(1)).await;
        for completion in batch.unwrap_or_default() {
            let twice = got.insert(completion.id, completion);
            assert!(twice.is_none(), "completed twice: {twice:?}");
        }
    }
    let more = consumer.get_many_nowait(500).await.unwrap();
    assert!(more.is_empty(), "more than {n} completions: {more:?}");
    got
}

/// How long after it was submitted a run began.
pub(crate) fn delay_of(completion: &Completion) -> Duration {
    let queued_ms = completion.queued_ms().unwrap();
    Duration::from_millis((completion.started_us / 1000).saturating_sub(queued_ms))
}

/// Lets time pass, where nothing but the clock tells that something did not happen.
pub(crate) fn pass(time: Duration) {
    let start = Instant::now();
    eventually("time passes", time + SOON, || {
        (start.elapsed() >= time).then_some(())
    });
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .starts_with(" Z")
    })
}
