//! A namespace of a test's own on the shared server: the command, and the broker's API to play the worker.

use std::time::Duration;

use bytes::Bytes;
use pmq_broker::task_queue::{Ask, Claim, Claimer, DEFAULT_LEASE, Finish, How, Shard};
use pmq_broker::{Broker, Completion, Config, Incarnation, Name, Report, TaskId, TaskQueue};
use pmq_tests::{Program, Redis, eventually_async, shared};

/// How long anything may take on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Site {
    /// The command, which uses this namespace.
    pub(crate) pmq: Program,
    config: Config,
}

/// How a run ends.
pub(crate) struct End {
    pub(crate) how: How,
    pub(crate) exit: Option<i32>,
    pub(crate) stdout: &'static [u8],
    pub(crate) stderr: &'static [u8],
    /// A handler's result; then it is no command.
    pub(crate) result: Option<&'static [u8]>,
}

impl Default for End {
    fn default() -> Self {
        Self {
            how: How::Ok,
            exit: Some(0),
            stdout: b"",
            stderr: b"",
            result: None,
        }
    }
}

/// The command without any broker.
pub(crate) fn bare() -> Program {
    Program::new(env!("CARGO_BIN_EXE_pmq-under-test"))
}

impl Site {
    pub(crate) fn new() -> Self {
        let id = TaskId::new().to_string();
        let namespace = format!("t-{}", &id[id.len() - 12..]);
        let url = shared().url();
        Self {
            pmq: bare().redis(&url).env("PMQ_NAMESPACE", &namespace),
            config: Config {
                namespace: Name::new(namespace).unwrap(),
                ..Config::url(url)
            },
        }
    }

    pub(crate) fn namespace(&self) -> &str {
        self.config.namespace.as_str()
    }

    pub(crate) async fn broker(&self) -> Broker {
        Broker::connect(&self.config).await.unwrap()
    }

    pub(crate) async fn queue(&self, name: &str) -> TaskQueue {
        self.broker().await.task_queue(&Name::new(name).unwrap())
    }

    /// Says that a worker is up which serves `queue` and runs commands and tasks named `square`.
    pub(crate) async fn present(&self, queue: &str) {
        let about = format!(
            r#"{{"name":"w-1","host":"h","pid":1,"queues":["{queue}"],"slots":4,"running":2,"commands":true,"tasks":["square"],"started":1,"version":"0.1.0"}}"#
        );
        let broker = self.broker().await;
        broker
            .present(&Incarnation::new(), DEFAULT_LEASE, &about)
            .await
            .unwrap();
    }

    /// Claims a task as soon as any shard has one.
    pub(crate) async fn claim(&self, queue: &str) -> (TaskQueue, Claim) {
        let queue = self.queue(queue).await;
        let claimer = |shard: &Shard| shard.claimer(Incarnation::new(), DEFAULT_LEASE, None);
        let mut claimers: Vec<Claimer> = queue.open().await.unwrap().iter().map(claimer).collect();
        let ask = Ask {
            n: 1,
            suspect: true,
            wait: false,
        };
        let claim = eventually_async("a task is ready", LIMIT, async || {
            for claimer in &mut claimers {
                if let Some(claim) = claimer.get_nowait(ask).await.unwrap().tasks.pop() {
                    return Some(claim);
                }
            }
            None
        });
        let claim = claim.await;
        (queue, claim)
    }

    /// Plays a worker that runs one task and ends it.
    pub(crate) async fn run_one(&self, queue: &str, end: End) -> TaskId {
        let (queue, claim) = self.claim(queue).await;
        let mut body = end.stdout.to_vec();
        body.extend_from_slice(end.stderr);
        let mut report = Report {
            stdout: Some(end.stdout.len()),
            stderr: Some(end.stderr.len()),
            ..Report::default()
        };
        if let Some(result) = end.result {
            (body, report) = (result.to_vec(), Report::default());
        }
        let completion = Completion {
            exit: end.exit.filter(|_| end.result.is_none()),
            finished_us: claim.claimed_ms * 1000 + 1,
            worker: "w-1".to_owned(),
            report,
            body: Bytes::from(body),
            ..claim.completion(end.how)
        };
        let finish = Finish::new(&claim, end.how, &completion, queue.sealing());
        let shards = queue.opened();
        let shard = &shards[claim.id.shard(shards.len())];
        shard.finish(&[finish]).await.unwrap();
        completion.id
    }
}
