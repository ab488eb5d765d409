//! Where the jobs of a run go: to workers of its own on the local broker, or to a fleet.
use std::env;
use std::thread::available_parallelism;

use anyhow::Context as _;
use clap::Args;
use pmq_broker::task_queue::Settings;
use pmq_broker::{Broker, Name, TaskQueue, Work};

use super::leftover;
use super::local::{Crew, LocalWorkers};
use super::width::Width;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{fleet, output};

/// So many jobs are under way at least on a fleet: there may be more workers soon.
const LEAST: usize = 64;
/// So many times the jobs that can run are under way on a fleet.
const AHEAD: usize = 2;
/// As much for this run's own workers, whose queue is shared with nobody: enough for short jobs until the next submit.
const LOCAL_LEAST: usize = 256;
const LOCAL_AHEAD: usize = 16;
/// How long the ends of jobs are remembered in a queue of one's own: longer than a submit is tried again.
const RETENTION: std::time::Duration = std::time::Duration::from_secs(60);

/// Flags about where the jobs run.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Place")]
pub struct PlaceFlags {
    /// So many jobs at once: 8, 200%, +2 [default: as many as CPUs; on a fleet twice its slots, at least 64]
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<Width>,

    /// Share the jobs among so many local worker processes [default: 1]
    #[arg(long, value_name = "N")]
    pub workers: Option<u16>,

    /// The task queue of the fleet [default: default]
    #[arg(short, long, value_name = "Q")]
    pub queue: Option<Name>,

    /// Run in DIR [default: locally the current directory, on a fleet a private one]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,

    /// Give up with exit code 69 if no worker of the fleet would run the jobs
    #[arg(long, alias = "no-wait")]
    pub nowait: bool,
}

/// Where the jobs of a run go.
pub struct Place {
    /// The queue.
    pub queue: TaskQueue,
    /// The run's own completion queue.
    pub completions: Name,
    /// The directory of the jobs; a private one where empty.
    pub cwd: String,
    /// How many jobs can run at once, as far as that is known.
    pub slots: usize,
    /// How many may be under way, so that none of the slots waits for this process.
    pub window: usize,
    /// The run's own workers, where the queue is its own as well.
    pub workers: Option<LocalWorkers>,
}

impl PlaceFlags {
    /// Finds or makes the place.
    pub async fn open(&self, context: &Context) -> anyhow::Result<Place> {
        let name = leftover::name()?;
        if context.config.url.is_some() || self.queue.is_some() {
            if self.workers.is_some() {
                let failure =
                    Failure::usage("--workers is for local workers, and the fleet has its own");
                return Err(failure
                    .with_hint("-j bounds how many jobs are under way")
                    .into());
            }
            self.on_fleet(&context.connect().await?, name).await
        } else {
            self.on_this_machine(context, name).await
        }
    }

    async fn on_this_machine(&self, context: &Context, name: Name) -> anyhow::Result<Place> {
        let cwd = match &self.cwd {
            Some(cwd) => cwd.clone(),
            None => here()?,
        };
        let cpus = available_parallelism().map_or(1, usize::from);
        let slots = self.jobs.map_or(cpus, |jobs| jobs.of(cpus));
        let broker = context.connect().await?;
        if let Err(error) = leftover::delete(&broker).await {
            tracing::info!("could not look for queues that killed runs left: {error}");
        }
        let queue = broker.task_queue(&name);
        let settings = Settings {
            retention: Some(RETENTION),
            ..Settings::default()
        };
        queue.configure(&settings).await?;
        let crew = Crew {
            namespace: context.config.namespace.to_string(),
            queue: name.to_string(),
            processes: self.workers.unwrap_or(1).into(),
            slots,
        };
        Ok(Place {
            queue,
            completions: name,
            cwd,
            slots,
            window: (slots * LOCAL_AHEAD).max(LOCAL_LEAST),
            workers: Some(crew.start()?),
        })
    }

    async fn on_fleet(&self, broker: &Broker, completions: Name) -> anyhow::Result<Place> {
        let name = match &self.queue {
            Some(name) => name.clone(),
            None => Name::new("default")?,
        };
        let slots = slots(broker, &name).await?;
        if slots == 0 {
            let text = format!("no live worker of queue {name} runs commands");
            let hint = format!("start one: pmq worker -q {name} --allow-commands");
            if self.nowait {
                return Err(Failure::new(Exit::UNAVAILABLE, text).with_hint(hint).into());
            }
            output::note(&format!("{text}; waiting for one ({hint})"));
        }
        let default = (slots * AHEAD).max(LEAST);
        let window = self.jobs.map_or(default, |jobs| jobs.of(slots));
        Ok(Place {
            queue: broker.task_queue(&name),
            completions,
            cwd: self.cwd.clone().unwrap_or_default(),
            slots: window,
            window,
            workers: None,
        })
    }
}

/// How many commands the live workers of `queue` can run at once.
pub(crate) async fn slots(broker: &Broker, queue: &Name) -> anyhow::Result<usize> {
    let any = Work::Command(Vec::new());
    let workers = fleet::workers(broker).await?;
    let serving = workers
        .iter()
        .filter(|worker| worker.serves(queue) && worker.runs(&any));
    Ok(serving.map(|worker| worker.about.slots as usize).sum())
}

pub(crate) fn here() -> anyhow::Result<String> {
    let path = env::current_dir().context("could not tell the working directory")?;
    path.into_os_string().into_string().map_err(|path| {
        let text = format!(
            "the path of the working directory {} is not UTF-8",
            path.display()
        );
        let failure = Failure::usage(text);
        failure
            .with_hint("run elsewhere and name the files with their paths, or give --cwd DIR")
            .into()
    })
}

impl Place {
    /// Ends the workers and deletes the queue, if they were the run's own.
    pub async fn close(self) -> pmq_broker::Result<()> {
        let Some(workers) = self.workers else {
            return Ok(());
        };
        workers.stop().await;
        self.queue.delete().await
    }
}
