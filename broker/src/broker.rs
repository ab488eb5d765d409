//! A broker: one Redis, and what a process does with it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use redis::Value;

use crate::authkey::{Authkey, KeyId};
use crate::config::Config;
use crate::connection::address::Place;
use crate::connection::blocking::in_a_thread;
use crate::connection::lane::Lane;
use crate::connection::local::LocalBroker;
use crate::connection::{Primary, ServerReport, diagnosis, exposure, login, strict};
use crate::error::{Error, Result};
use crate::functions::Call;
use crate::ids::{Incarnation, Name};
use crate::keys::FleetKeys;
use crate::object::Client;
use crate::process::Children;
use crate::reply;
use crate::sealing::Sealing;
use crate::task_queue::{KnownQueues, TaskQueue};

/// How long a call waits for a broker that is away before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PATIENCE: Duration = Duration::from_secs(2);
const CONTROL_RESPONSE: Duration = Duration::from_secs(3);
const HEARTBEAT_RESPONSE: Duration = Duration::from_secs(2);
const BULK_RESPONSE: Duration = Duration::from_secs(10);

/// A connection to a broker. Clones share it.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

/// What a broker has in common with those apart from it.
#[derive(Clone)]
struct Common {
    namespace: Name,
    known: KnownQueues,
    report: ServerReport,
    trust: Trust,
}

struct Inner {
    common: Common,
    fleet: FleetKeys,
    control: Arc<Lane>,
    heartbeat: Lane,
    bulk: Lane,
    registered: Mutex<HashSet<Name>>,
    children: Arc<Children>,
    client: OnceLock<Client>,
}

/// What tasks and completions are signed with, if they are.
#[derive(Clone, Default)]
struct Trust {
    authkey: Option<Arc<Authkey>>,
    encrypts: bool,
}

impl Trust {
    /// On the local broker nothing is signed: nobody but its user can write to it.
    fn of(config: &Config, is_local: bool) -> Result<Self> {
        if is_local {
            return Ok(Self::default());
        }
        let authkey = config.authkey.read()?.map(Arc::new);
        if config.encrypt && authkey.is_none() {
            return Err(Error::BadOption("to encrypt needs an authkey".into()));
        }
        Ok(Self {
            authkey,
            encrypts: config.encrypt,
        })
    }
}

impl Broker {
    /// Connects, and checks that the server is one that keeps tasks safe. Fails within 3 s.
    ///
    /// Without a URL it uses the local broker, and starts it where it does not run.
    pub async fn connect(config: &Config) -> Result<Self> {
        let (control, common) = Self::reach(config).await?;
        common.report.require_suitable(control.at())?;
        strict::check(&control, config.durability).await?;
        let control = control.assured(config.durability);
        Ok(Self::over(control, common))
    }

    /// Connects to whatever Redis is there, also one that may lose tasks: to look at it, not to use it.
    pub async fn connect_to_any(config: &Config) -> Result<Self> {
        let (control, common) = Self::reach(config).await?;
        Ok(Self::over(control, common))
    }

    async fn reach(config: &Config) -> Result<(Lane, Common)> {
        let (url, local) = if let Some(url) = &config.url {
            (url.clone(), None)
        } else {
            let local = open_local(config).await?;
            (local.url(), Some(local))
        };
        let trust = Trust::of(config, local.is_some())?;
        let place = Place::new(config, &url)?;
        exposure::check(&place).await?;
        let (first, asked) = (place.first(), place.access().login().clone());
        let control = place.lane(local, CONTROL_RESPONSE)?;
        let report = match ServerReport::read(&control, FIRST_PATIENCE).await {
            Ok(report) => report,
            Err(error) => {
                return Err(match first {
                    Some(first) => diagnosis::explain(error, first).await,
                    None => error,
                });
            }
        };
        control.admit().await?;
        login::check(&control, &asked).await?;
        let common = Common {
            namespace: config.namespace.clone(),
            known: KnownQueues::default(),
            report,
            trust,
        };
        Ok((control, common))
    }

    fn over(control: Lane, common: Common) -> Self {
        Self {
            inner: Arc::new(Inner {
                fleet: FleetKeys::new(&common.namespace),
                heartbeat: control.sibling(HEARTBEAT_RESPONSE),
                bulk: control.sibling(BULK_RESPONSE),
                control: Arc::new(control),
                registered: Mutex::default(),
                children: Arc::default(),
                client: OnceLock::new(),
                common,
            }),
        }
    }

    /// The same broker over connections of its own, which live in the runtime that first uses them.
    #[must_use]
    pub fn apart(&self) -> Self {
        let inner = &self.inner;
        let control = inner.control.sibling(CONTROL_RESPONSE);
        Self::over(control, inner.common.clone())
    }

    /// A task queue. It exists as soon as something is put into it.
    #[must_use]
    pub fn task_queue(&self, name: &Name) -> TaskQueue {
        TaskQueue::new(self.clone(), name.clone())
    }

    /// What the server said about itself when this process connected.
    #[must_use]
    pub fn server(&self) -> &ServerReport {
        &self.inner.common.report
    }

    /// The server's address, without secrets.
    #[must_use]
    pub fn address(&self) -> &str {
        self.inner.control.at()
    }

    /// Whether this is the local broker, whose socket only this user can open.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.inner.control.is_local()
    }

    /// Whether this is a Redis Cluster, whose primaries share the slots.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.inner.control.is_cluster()
    }

    /// Each primary: the server, or those that share the slots of a Redis Cluster.
    pub async fn primaries(&self) -> Result<Vec<Primary>> {
        let mut primaries = ServerReport::of_each(self.control()).await?;
        let settings = strict::settings_of_each(self.control(), &["appendfsync", "save"]);
        for (at, settings) in settings.await? {
            let at_it = primaries.iter_mut().find(|primary| primary.address == *at);
            if let Some(primary) = at_it {
                primary.settings = settings;
            }
        }
        Ok(primaries)
    }

    /// The time of one round trip.
    pub async fn ping(&self) -> Result<Duration> {
        let start = Instant::now();
        self.control()
            .send(&redis::cmd("PING"), "reach the server", CONTROL_RESPONSE)
            .await?;
        Ok(start.elapsed())
    }

    /// The server's clock, in ms since the epoch.
    pub async fn server_time_ms(&self) -> Result<u64> {
        let doing = "ask for the time";
        let mut parts = reply::items(
            self.control()
                .send(&redis::cmd("TIME"), doing, CONTROL_RESPONSE)
                .await?,
            doing,
        )?
        .into_iter();
        let mut part = || {
            parts
                .next()
                .ok_or_else(|| reply::odd(doing))
                .and_then(|p| reply::number(p, doing))
        };
        Ok(part()? * 1000 + part()? / 1000)
    }

    /// The server's own settings of these names, as `CONFIG GET` tells them to who may ask.
    pub async fn server_settings(&self, names: &[&str]) -> Result<BTreeMap<String, String>> {
        let doing = "ask for the server's settings";
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(names);
        let answer = self
            .control()
            .send(&command, doing, CONTROL_RESPONSE)
            .await?;
        strict::settings(answer)
    }

    /// Loads the function library, which pmq otherwise does when it first needs it.
    pub async fn load_functions(&self) -> Result<()> {
        let load = self.control().load().await;
        load.map_err(|e| crate::connection::explain(e, self.address(), "load the functions"))
    }

    /// The names of the task queues that were ever used in this namespace.
    pub async fn queues(&self) -> Result<Vec<Name>> {
        let doing = "list the queues";
        let mut command = redis::cmd("SMEMBERS");
        command.arg(&self.inner.fleet.queues);
        let names = reply::items(self.control().send(&command, doing, PATIENCE).await?, doing)?;
        let mut names: Vec<Name> = names
            .into_iter()
            .filter_map(|n| Name::new(reply::text(n, doing).ok()?).ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Puts a queue on the list of queues, once a process. A user who may only use the queue itself goes without.
    pub(crate) async fn register(&self, queue: &Name) -> Result<()> {
        let known = |set: &Mutex<HashSet<Name>>| set.lock().is_ok_and(|set| set.contains(queue));
        if known(&self.inner.registered) {
            return Ok(());
        }
        let mut command = redis::cmd("SADD");
        command.arg(&self.inner.fleet.queues).arg(queue.as_str());
        match self
            .control()
            .send(&command, "register the queue", PATIENCE)
            .await
        {
            Ok(_) => {}
            Err(Error::Denied { .. }) => {
                tracing::debug!(target: "pmq", %queue, "may not put the queue on the list");
            }
            Err(error) => return Err(error),
        }
        if let Ok(mut set) = self.inner.registered.lock() {
            set.insert(queue.clone());
        }
        Ok(())
    }

    /// Takes a queue that is empty off the list of queues.
    pub async fn forget_queue(&self, queue: &Name) -> Result<()> {
        let mut command = redis::cmd("SREM");
        command.arg(&self.inner.fleet.queues).arg(queue.as_str());
        self.control()
            .send(&command, "forget the queue", PATIENCE)
            .await?;
        if let Ok(mut set) = self.inner.registered.lock() {
            set.remove(queue);
        }
        self.inner.common.known.forget(queue);
        Ok(())
    }

    /// Says that a worker is up, for `lease`; a lease of zero says that it stopped. `about` is JSON.
    pub async fn present(&self, worker: &Incarnation, lease: Duration, about: &str) -> Result<()> {
        let call = Call::new("present", &self.inner.fleet.presence)
            .arg(worker.as_bytes().as_slice())
            .arg(lease.as_millis() as u64)
            .arg(about);
        self.heartbeat()
            .call(&call, HEARTBEAT_RESPONSE)
            .await
            .map(drop)
    }

    /// What the workers that are up say about themselves, as JSON.
    pub async fn fleet(&self) -> Result<Vec<String>> {
        let call = Call::new("fleet", &self.inner.fleet.presence);
        let workers = reply::items(
            self.control().call(&call, PATIENCE).await?,
            "list the workers",
        )?;
        Ok(workers
            .into_iter()
            .filter(|w| *w != Value::Nil)
            .filter_map(|w| reply::text(w, "list the workers").ok())
            .collect())
    }

    /// What this process is to the objects of the broker; it starts with the first use.
    pub(crate) fn client(&self) -> Result<&Client> {
        let inner = &self.inner;
        if let Some(client) = inner.client.get() {
            return Ok(client);
        }
        let link = inner.control.sibling(HEARTBEAT_RESPONSE);
        let started = Client::start(&inner.common.namespace, link)?;
        Ok(inner.client.get_or_init(|| started))
    }

    /// The shards of the queues that this process has met.
    pub(crate) fn known_queues(&self) -> &KnownQueues {
        &self.inner.common.known
    }

    /// How what is on this queue is signed and verified.
    pub(crate) fn sealing(&self, queue: &Name) -> Sealing {
        let Trust { authkey, encrypts } = &self.inner.common.trust;
        authkey.as_ref().map_or_else(Sealing::default, |authkey| {
            Sealing::new(
                authkey.clone(),
                *encrypts,
                &self.inner.common.namespace,
                queue,
            )
        })
    }

    /// Whether tasks and completions are signed and verified.
    #[must_use]
    pub fn has_authkey(&self) -> bool {
        self.inner.common.trust.authkey.is_some()
    }

    /// The ids of the keys with which tasks and completions are verified, the one that signs first; none without an authkey.
    #[must_use]
    pub fn authkey_ids(&self) -> Vec<KeyId> {
        let authkey = self.inner.common.trust.authkey.as_deref();
        authkey.map(Authkey::ids).unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &Name {
        &self.inner.common.namespace
    }

    /// The processes that this one has started.
    pub(crate) fn children(&self) -> &Arc<Children> {
        &self.inner.children
    }

    pub(crate) fn control(&self) -> &Arc<Lane> {
        &self.inner.control
    }

    pub(crate) fn heartbeat(&self) -> &Lane {
        &self.inner.heartbeat
    }

    pub(crate) fn bulk(&self) -> &Lane {
        &self.inner.bulk
    }

    /// A connection of its own for a call that blocks up to `block` on the server.
    pub(crate) fn waiting(&self, block: Duration) -> Lane {
        self.inner.control.waiting(block)
    }
}

async fn open_local(config: &Config) -> Result<LocalBroker> {
    let directory = match &config.local_directory {
        Some(directory) => directory.clone(),
        None => LocalBroker::directory(None)?,
    };
    let opened = in_a_thread(move || LocalBroker::open(&directory)).await;
    opened.map_err(Error::NoThread)?.map_err(Error::from)
}
