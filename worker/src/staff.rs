//! The staff: the roles at work, from start to stop.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pmq_broker::task_queue::Signal;
use pmq_broker::{Broker, Incarnation};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::brisk::Starter;
use crate::child::Guard;
use crate::chunk::Pools;
use crate::claimer::ClaimLoop;
use crate::executor::{Executor, Shared};
use crate::finisher::{BACKLOG, Finisher, Post};
use crate::handlers::Handlers;
use crate::health::Pulse;
use crate::heartbeat::{Heart, Presence, listen};
use crate::held::{Line, Why};
use crate::lending::Socket;
use crate::process::Host;
use crate::standing_back::StandingBack;
use crate::worker::{Tally, Worker, WorkerError};
use crate::{Options, reclaimer};

/// How long stopped runs have to end before they are killed.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// Threads of its own for the roles, so that a handler that blocks its thread delays no heartbeat. One does the work; the
/// other takes over where a run that was thought to be [brisk](crate::brisk) blocks the first.
pub(crate) struct Office(Option<Runtime>);

impl Office {
    pub(crate) fn open() -> Result<Self, WorkerError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("pmq-worker")
            .enable_all()
            .build();
        Ok(Self(Some(runtime.map_err(WorkerError::Thread)?)))
    }

    pub(crate) fn start(&self, worker: &Worker, guard: Guard, tally: &Arc<Tally>) -> Staff {
        let handlers = Handle::current();
        let _entered = self.0.as_ref().map(Runtime::enter);
        Staff::start(worker, guard, tally, handlers)
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the roles tell each other.
#[derive(Clone)]
pub(crate) struct Bells {
    /// Something is no longer held.
    pub(crate) freed: Arc<Notify>,
    /// Some worker's lease has ended.
    pub(crate) reclaim: Arc<Notify>,
    /// The claim loop turns.
    pub(crate) pulse: Pulse,
    /// Claim no more.
    pub(crate) shutdown: CancellationToken,
}

impl Bells {
    fn new() -> Self {
        Self {
            freed: Arc::default(),
            reclaim: Arc::default(),
            pulse: Pulse::new(),
            shutdown: CancellationToken::new(),
        }
    }
}

/// The roles at work.
pub(crate) struct Staff {
    lines: Vec<Arc<Line>>,
    bells: Bells,
    presence: Arc<Presence>,
    claiming: JoinHandle<Result<(), pmq_broker::Error>>,
    stuck: JoinHandle<()>,
    _socket: Option<Socket>,
    /// They are ended when all work is done.
    roles: Vec<AbortHandle>,
}

impl Staff {
    fn start(worker: &Worker, guard: Guard, tally: &Arc<Tally>, runtime: Handle) -> Self {
        let Worker {
            broker,
            options,
            handlers,
            ..
        } = worker;
        let (options, handlers) = (options.clone(), handlers.clone());
        let (broker, bells) = (broker.apart(), Bells::new());
        let lines = lines(&broker, &options, &bells);
        let finishers = start_finishers(&lines, tally);

        let presence = Arc::new(Presence {
            broker: broker.clone(),
            who: Incarnation::new(),
        });
        let showing = presence.clone().show(about(&options, &handlers, &lines));
        let reclaiming = reclaimer::run(lines.clone(), options.lease, bells.reclaim.clone());
        let mut roles = start_hearts(&lines, &options, &bells.reclaim);
        roles.extend([
            tokio::spawn(showing).abort_handle(),
            tokio::spawn(reclaiming).abort_handle(),
        ]);

        let stuck = tokio::spawn(bells.pulse.clone().watch(options.health.clone()));
        let socket = (options.commands.allowed || handlers.has_template())
            .then(open_socket)
            .flatten();
        let commands = options.commands.clone();
        // What only starts commands and talks to runners does that beside the roles: each switch of threads costs it more.
        let blocks = handlers.has_function();
        let runtime = if blocks { runtime } else { Handle::current() };
        let executor = Executor::new(Shared {
            host: host(&options),
            handlers,
            commands,
            guard,
            broker: broker.apart(),
            desk: socket.as_ref().map(Socket::desk),
            starter: Starter::new(runtime.clone()),
            runtime,
            roles: Handle::current(),
            finishers,
            standing_back: (!options.burst).then(StandingBack::default),
            pools: Pools::default(),
        });
        let claiming =
            tokio::spawn(ClaimLoop::new(&lines, &options, executor, bells.clone()).run());
        Self {
            lines,
            bells,
            presence,
            claiming,
            stuck,
            _socket: socket,
            roles,
        }
    }

    /// Until the claimer ends by itself, or is asked to.
    pub(crate) async fn work(&mut self, stop: impl Future<Output = ()>) -> Result<(), WorkerError> {
        tokio::select! {
            ended = &mut self.claiming => match ended {
                Ok(ended) => ended.map_err(WorkerError::from),
                Err(_) => Err(WorkerError::Stuck),
            },
            () = stop => {
                self.bells.shutdown.cancel();
                let _ = (&mut self.claiming).await;
                Ok(())
            }
            _ = &mut self.stuck => {
                self.claiming.abort();
                Err(WorkerError::Stuck)
            }
        }
    }

    /// Lets runs end within the grace, hands back the rest, and waits until everything is committed.
    pub(crate) async fn wind_up(&mut self, grace: Duration, hurry: impl Future<Output = ()>) {
        tokio::select! {
            () = self.idle() => {}
            () = sleep(grace) => {}
            () = hurry => {}
        }
        for signal in [Signal::Terminate, Signal::Kill] {
            for line in &self.lines {
                line.stop_all(Why::Shutdown, signal);
            }
            let _ = timeout(KILL_AFTER, self.idle()).await;
        }
        self.pass_tokens().await;
        for role in &self.roles {
            role.abort();
        }
        self.presence.end().await;
        self.stuck.abort();
    }

    /// The last wait may have taken a token, of any shard.
    async fn pass_tokens(&self) {
        let mut passing = JoinSet::new();
        for line in &self.lines {
            let shard = line.shard.clone();
            passing.spawn(async move { shard.pass_wake().await });
        }
        let _ = timeout(Duration::from_millis(500), passing.join_all()).await;
    }

    /// Until nothing is held.
    async fn idle(&self) {
        loop {
            let freed = self.bells.freed.notified();
            if self.lines.iter().all(|line| line.count() == 0) {
                return;
            }
            freed.await;
        }
    }
}

/// A worker without it works on; its commands wait in their slots.
fn open_socket() -> Option<Socket> {
    let opened = Socket::open();
    opened
        .inspect_err(|error| tracing::warn!(target: "pmq", %error, "commands can't lend their slots while they wait for other tasks: no socket could be made"))
        .ok()
}

/// A line for each shard of each queue, which were opened before.
fn lines(broker: &Broker, options: &Options, bells: &Bells) -> Vec<Arc<Line>> {
    let mut lines = Vec::new();
    let mut incarnation = options.incarnation;
    for name in &options.queues {
        for shard in broker.task_queue(name).opened() {
            let line = Line::new(lines.len(), shard.clone(), bells.freed.clone());
            lines.push(Arc::new(match incarnation {
                Some(incarnation) => line.served_as(incarnation),
                None => line,
            }));
        }
        incarnation = None;
    }
    lines
}

/// They end when the last run has.
fn start_finishers(lines: &[Arc<Line>], tally: &Arc<Tally>) -> Vec<mpsc::Sender<Post>> {
    let start = |line: &Arc<Line>| {
        let (sender, posts) = mpsc::channel(BACKLOG);
        let finisher = Finisher {
            line: line.clone(),
            posts,
            again: sender.downgrade(),
            tally: tally.clone(),
        };
        tokio::spawn(finisher.run());
        sender
    };
    lines.iter().map(start).collect()
}

fn start_hearts(lines: &[Arc<Line>], options: &Options, reclaim: &Arc<Notify>) -> Vec<AbortHandle> {
    let orders: Vec<Arc<Notify>> = lines.iter().map(|_| Arc::default()).collect();
    let mut roles: Vec<AbortHandle> = lines
        .iter()
        .zip(&orders)
        .map(|(line, orders)| Heart {
            line: line.clone(),
            lease: options.lease,
            reclaim: reclaim.clone(),
            orders: orders.clone(),
        })
        .map(|heart| tokio::spawn(heart.run()).abort_handle())
        .collect();
    roles.push(tokio::spawn(listen(lines.to_vec(), orders)).abort_handle());
    roles
}

fn host(options: &Options) -> Host {
    Host {
        name: host_name().into(),
        worker: options.name.as_str().into(),
    }
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// What the worker says about itself.
fn about(
    options: &Options,
    handlers: &Handlers,
    lines: &[Arc<Line>],
) -> impl Fn() -> String + Send + 'static {
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let fixed = serde_json::json!({
        "name": options.name,
        "host": host_name(),
        "pid": std::process::id(),
        "queues": options.queues,
        "slots": options.slots,
        "commands": options.commands.allowed,
        "tasks": handlers.names(),
        "started": started,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let lines = lines.to_vec();
    move || {
        let mut about = fixed.clone();
        about["running"] = lines.iter().map(|line| line.count()).sum::<usize>().into();
        about.to_string()
    }
}
