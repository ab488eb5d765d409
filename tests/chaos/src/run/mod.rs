//! Runs: a scene is set, faults happen, they end, everything is drained, and the histories are judged.

mod census;
pub mod clock;
pub mod conductor;
pub mod crew;
pub mod drain;
pub mod family;
pub mod fault;
mod junk;
pub mod machine;
pub mod mutant;
pub mod plan;
pub mod power;
pub mod report;
pub mod site;
pub mod snapshot;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pmq_broker::task_queue::Settings;
use pmq_broker::{Broker, Config};
use pmq_tests::Proxy;

use crate::checker::Judgement;
use crate::history::{History, Recorder, What};
use crate::role::{Role, name};
use conductor::Conductor;
use crew::Crew;
use family::Family;
use fault::{Shape, schedule};
use mutant::Mutant;
use site::Site;

const QUIET: Duration = Duration::from_millis(1500);

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its faults and its scene.
    pub family: Family,
    /// What all choices are made of.
    pub seed: u64,
    /// How many times as long as in the shortest plan faults happen.
    pub times: u64,
    /// A broken library instead of the true one.
    pub mutant: Option<Mutant>,
    /// Where histories go.
    pub directory: PathBuf,
}

/// What came of a run.
pub struct Outcome {
    /// The verdict.
    pub judgement: Judgement,
    /// What the processes did that no fault explains.
    pub mishaps: Vec<String>,
    /// The history.
    pub history: History,
}

impl Run {
    /// Plays it.
    pub fn play(&self) -> Result<Outcome> {
        let mut conductor = self.set_up()?;
        let places = conductor.crew.members.keys().cloned().collect();
        let lease = self.family.terms.lease;
        let shape = Shape {
            seed: self.seed,
            lease,
            places,
        };
        let every = Duration::from_millis(self.family.every_ms);
        let window = Duration::from_secs(self.family.seconds * self.times);
        let faults = schedule(self.family.menu, window, every, &shape);
        conductor.phase("quiet");
        let begin = Instant::now();
        while begin.elapsed() < QUIET {
            conductor.turn()?;
        }
        conductor.phase("faults");
        if self.family.soaks {
            Self::soak(&mut conductor, window)?;
        } else {
            conductor.conduct(&faults, window)?;
        }
        conductor.phase("heal");
        drain::drain(&mut conductor, lease)?;
        let history = History::read(&self.directory)?;
        let judgement = Judgement::of(&history, &self.family.terms);
        Ok(Outcome {
            judgement,
            mishaps: conductor.mishaps,
            history,
        })
    }

    /// Counts what everybody holds once the run is under way, and again at its end.
    fn soak(conductor: &mut Conductor, window: Duration) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let retention = Some(window / 10);
        for queue in &conductor.queues {
            let settings = Settings {
                retention,
                ..Settings::default()
            };
            runtime.block_on(async {
                let broker = Broker::connect(&Config::url(conductor.site.url())).await?;
                broker.task_queue(&name(queue)).configure(&settings).await
            })?;
        }
        drop(runtime);
        conductor.conduct(&[], window / 4)?;
        conductor.take_census("start");
        conductor.conduct(&[], window * 3 / 4)?;
        conductor.take_census("end");
        Ok(())
    }

    /// Starts the server and everybody who takes part.
    fn set_up(&self) -> Result<Conductor> {
        let mut site = Site::open(self.family.durability, &self.directory)?;
        match &self.mutant {
            Some(mutant) => load(&mut site, &mutant.source()?)?,
            None if self.family.wrong_clocks => load(&mut site, &clock::source())?,
            None => {}
        }
        let lease_ms = self.family.terms.lease.as_millis() as u64;
        let mut crew = Crew::new(site.url(), self.directory.clone(), self.seed, lease_ms)?;
        if self.family.wrong_clocks {
            crew.wrong_clocks = clock::library();
        }
        let mut queues = BTreeSet::new();
        for (place, role) in (self.family.cast)() {
            queues.extend(queues_of(&role));
            let proxy = self.family.proxied.then(|| Proxy::to(site.server()));
            crew.hire(&place, role, proxy)?;
        }
        Ok(Conductor {
            recorder: Recorder::open(&self.directory, "harness", "seen")?,
            site,
            crew,
            queues: queues.into_iter().collect(),
            loses_ms: self.family.loses_ms,
            junk: BTreeSet::new(),
            down: BTreeSet::new(),
            mishaps: Vec::new(),
            looked: Instant::now(),
        })
    }
}

impl Conductor {
    /// Writes down that the run comes to its next part.
    pub fn phase(&self, name: &str) {
        self.recorder.record(What::Phase {
            name: name.to_owned(),
        });
    }
}

/// The task queues that a role serves or fills.
fn queues_of(role: &Role) -> Vec<String> {
    match role {
        Role::Worker { queues, .. } | Role::Producer { queues, .. } => queues.clone(),
        Role::Hand { queue, .. } | Role::Consumer { queue } | Role::Crowd { queue, .. } => {
            vec![queue.clone()]
        }
        _ => Vec::new(),
    }
}

/// Loads a library under the name of the true one, which then never replaces it.
fn load(site: &mut Site, source: &str) -> Result<()> {
    let mut command = redis::cmd("FUNCTION");
    command.arg("LOAD").arg(source);
    let loaded: Option<String> = site.ask(&command);
    if loaded.is_none() {
        bail!("the server did not take the library of the mutant");
    }
    Ok(())
}

/// A directory for the histories of one run, without those of an earlier one.
pub fn fresh(directory: &Path) -> Result<()> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).context("could not remove the last histories")?;
    }
    std::fs::create_dir_all(directory).context("could not make a directory for the histories")?;
    Ok(())
}
