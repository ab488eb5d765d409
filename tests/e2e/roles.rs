//! Processes that tests start and kill: this very test program, told by its environment what to be.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Barrier, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::Ending;
use pmq_broker::{Broker, Config, Name, Outcome, Task, TaskQueue};
use pmq_tests::program::Running;
use pmq_tests::{Program, eventually};
use pmq_worker::{Context, TaskError, Worker};

use crate::arguments::{MEET, meet};
use crate::family::{LEAVE, LINEAGE, leave, lineage};
use crate::fleet::{Fleet, LONG, SOON, name, sh};
use crate::process::SQUARE;

const QUEUE: &str = "PMQ_TEST_QUEUE";
const DIRECTORY: &str = "PMQ_TEST_DIRECTORY";
pub(crate) const SLOTS: &str = "PMQ_TEST_SLOTS";
const SCRIPT: &str = "PMQ_TEST_SCRIPT";
/// How many runs of the task `gather` wait for each other.
pub(crate) const GATHERING: usize = 12;

impl Fleet {
    /// Starts a worker with the handlers below, under a lease of 1 s.
    pub(crate) fn handlers(&self, slots: usize) -> Running {
        let program = self.stand_in().env(SLOTS, slots.to_string());
        program.spawn(as_test("roles::worker"))
    }

    /// Starts a consumer that takes up to 500 completions and never confirms them.
    pub(crate) fn forgetful_consumer(&self) -> Running {
        self.stand_in().spawn(as_test("roles::consumer"))
    }

    /// Starts an owner of two tasks with this script; they end with it.
    pub(crate) fn owner(&self, script: &str) -> Running {
        let stand_in = self.stand_in().env(SCRIPT, script);
        stand_in.spawn(as_test("roles::owner"))
    }

    /// This test program, on this fleet's server; see [`as_test`].
    pub(crate) fn stand_in(&self) -> Program {
        self.with_its_tls(Program::new(env::current_exe().unwrap()))
            .env("PMQ_REDIS_URL", self.url())
            .env(QUEUE, self.queue.name().as_str())
            .env(DIRECTORY, self.path(""))
    }
}

/// The arguments with which a test program runs one test that is ignored otherwise.
pub(crate) fn as_test(name: &str) -> [&str; 4] {
    ["--exact", "--ignored", "--nocapture", name]
}

pub(crate) async fn broker() -> Broker {
    Broker::connect(&Config::from_env().unwrap()).await.unwrap()
}

pub(crate) fn queue() -> Option<Name> {
    Some(name(&env::var(QUEUE).ok()?))
}

pub(crate) fn directory() -> PathBuf {
    env::var_os(DIRECTORY).unwrap().into()
}

/// Where runs wait for each other, each on a thread that it blocks.
static GATHERED: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(GATHERING));

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the worker process of other tests"]
async fn worker() {
    let Some(queue) = queue() else { return };
    let broker = broker().await;
    let tasks = broker.task_queue(&queue);
    let mut worker = Worker::new(broker);
    worker.options.queues = vec![queue];
    worker.options.completions = Some(name("done"));
    worker.options.lease = Duration::from_secs(1);
    worker.options.slots = env::var(SLOTS).unwrap().parse().unwrap();
    worker
        .handle_bytes("record", record)
        .handle_bytes("panic", |_, _| async { panic!("as it was told") })
        .handle_bytes("wait", |context, body| async move {
            note(&context, "");
            wait_for_file(body).await;
            Ok(Bytes::new())
        })
        .handle_bytes("block", |context, body| async move {
            note(&context, "");
            block_for_file(&body);
            Ok(Bytes::new())
        })
        .handle_bytes("where", |_, _| async {
            let thread = std::thread::current();
            Ok(Bytes::from(thread.name().unwrap_or_default().to_owned()))
        })
        .handle_bytes("gather", |_, _| async {
            tokio::task::block_in_place(|| GATHERED.wait());
            Ok(Bytes::new())
        })
        .handle_bytes("descend", move |_, body| descend(tasks.clone(), body))
        .handle_bytes("print", |context, body| async move {
            for i in 1..=3 {
                let word = String::from_utf8_lossy(&body);
                context.print(format!("{word} {i}")).await;
            }
            Ok(Bytes::new())
        })
        .handle_bytes("poison", poison)
        .handle(
            SQUARE,
            |x| async move { x.checked_mul(x).ok_or("too large") },
        )
        .handle(LINEAGE, |()| lineage())
        .handle(LEAVE, |()| leave())
        .handle(MEET, meet);
    worker.run(std::future::pending()).await.unwrap();
}

/// Writes its line to the record, and that is all.
async fn record(context: Context, _body: Bytes) -> Result<Bytes, TaskError> {
    note(&context, "");
    Ok(Bytes::new())
}

/// Waits for a child, which waits for its own, as many as it is told.
async fn descend(queue: TaskQueue, depth: Bytes) -> Result<Bytes, TaskError> {
    let depth: u32 = std::str::from_utf8(&depth).unwrap().parse().unwrap();
    if depth > 0 {
        let child = Task::handler("descend", (depth - 1).to_string());
        queue.submit(&child).await.unwrap();
        let endings = queue.wait(&[child.id], LONG).await.unwrap();
        assert!(matches!(&endings[..], [Ending::Ended(end)] if end.outcome == Outcome::Ok));
    }
    Ok(Bytes::new())
}

/// Takes its worker down, at its first two attempts once the file that it is given has as many lines as neighbours
/// run beside it.
async fn poison(context: Context, body: Bytes) -> Result<Bytes, TaskError> {
    let neighbours: usize = std::str::from_utf8(&body).unwrap().parse().unwrap();
    note(&context, "poison");
    let attempt = context.attempt;
    let started = move || {
        let record = fs::read_to_string(directory().join("record")).unwrap_or_default();
        let mark = format!(" {attempt} ");
        let beside = record
            .lines()
            .filter(|line| line.contains(&mark) && !line.contains("poison"))
            .count();
        (attempt > 2 || beside >= neighbours).then_some(())
    };
    tokio::task::spawn_blocking(move || eventually("all neighbours run", SOON, started))
        .await
        .unwrap();
    process::abort()
}

async fn wait_for_file(name: Bytes) {
    tokio::task::spawn_blocking(move || block_for_file(&name))
        .await
        .unwrap();
}

fn block_for_file(name: &[u8]) {
    let path = directory().join(Path::new(std::str::from_utf8(name).unwrap()));
    eventually("the file is there", SOON * 2, || {
        path.exists().then_some(())
    });
}

fn note(context: &Context, text: &str) {
    let mut record = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory().join("record"))
        .unwrap();
    let line = format!("{} {} {text}\n", context.id, context.attempt);
    record.write_all(line.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the consumer process of other tests"]
async fn consumer() {
    let Some(queue) = queue() else { return };
    let queue = broker().await.task_queue(&queue);
    let mut consumer = queue
        .completions(&name("done"))
        .with_lease(Duration::from_secs(1));
    let got = consumer.get_many_nowait(500).await.unwrap();
    println!("took {}", got.len());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the owner process of other tests"]
async fn owner() {
    let Some(queue) = queue() else { return };
    let queue = broker().await.task_queue(&queue);
    let owner = queue.join_as_owner(&name("private")).await.unwrap();
    let mut tasks = [0; 2].map(|_| sh(&env::var(SCRIPT).unwrap(), &directory()));
    for task in &mut tasks {
        task.owner = Some(owner.incarnation());
        task.completions = Some(name("private"));
    }
    queue.submit_many(&tasks).await.unwrap();
    std::future::pending::<()>().await;
}
