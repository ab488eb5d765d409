//! Runs: a scene is set, faults happen, they end, everything is drained, and the histories are judged.

mod cast;
mod census;
pub mod clock;
pub mod conductor;
pub mod crew;
pub mod drain;
pub mod family;
pub mod fault;
mod herd;
mod junk;
pub mod machine;
pub mod mutant;
mod on_broker;
mod on_member;
pub mod plan;
pub mod power;
pub mod report;
pub mod schedule;
pub mod site;
pub mod snapshot;
pub mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use pmq_broker::task_queue::Settings;
use pmq_broker::{Broker, Config};
use pmq_tests::Proxy;

use crate::checker::Judgement;
use crate::history::{History, Recorder, What};
use crate::role::{Role, name, watch};
use conductor::Conductor;
use crew::Crew;
use family::{Family, Scene};
use mutant::Mutant;
use schedule::{Shape, schedule};
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
        if let Some(most) = self.family.terms.completions_max {
            conductor.configure_queues(&Settings {
                completions_max: Some(most),
                ..Settings::default()
            })?;
        }
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
        if self.family.scene == Scene::Soak {
            Self::soak(&mut conductor, window)?;
        } else {
            conductor.conduct(&faults, window)?;
        }
        if self.family.scene == Scene::Crowd {
            conductor.count_calls()?;
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

    /// Counts what everybody holds once the run is under way, and three times more until its end.
    fn soak(conductor: &mut Conductor, window: Duration) -> Result<()> {
        conductor.configure_queues(&Settings {
            retention: Some(window / 10),
            ..Settings::default()
        })?;
        conductor.conduct(&[], window / 4)?;
        conductor.take_census("start");
        for when in ["half-way", "late", "end"] {
            conductor.conduct(&[], window / 4)?;
            conductor.take_census(when);
        }
        Ok(())
    }

    /// Starts the server and everybody who takes part.
    fn set_up(&self) -> Result<Conductor> {
        let wrong_clocks = self.family.scene == Scene::WrongClocks;
        let mut site = Site::open(self.family.durability, &self.directory)?;
        match &self.mutant {
            Some(mutant) => load(&site, &mutant.source()?)?,
            None if wrong_clocks => load(&site, &clock::source())?,
            None => {}
        }
        if self.family.scene == Scene::User {
            site.make_user();
        }
        let lease_ms = self.family.terms.lease.as_millis() as u64;
        let mut crew = Crew::new(site.url(), self.directory.clone(), self.seed, lease_ms)?;
        if wrong_clocks {
            crew.wrong_clocks = clock::library();
        }
        let mut queues = BTreeSet::new();
        for (place, role) in (self.family.cast)() {
            queues.extend(queues_of(&role));
            let proxy = self.family.proxied.then(|| Proxy::to(site.server()));
            crew.hire(&place, role, proxy)?;
        }
        let recorder = Recorder::open(&self.directory, "harness", "seen")?;
        watch(recorder.clone());
        Ok(Conductor {
            recorder,
            mutant: self.mutant,
            late: Duration::ZERO,
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
    /// Gives all task queues these settings.
    fn configure_queues(&self, settings: &Settings) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let broker = Broker::connect(&Config::url(self.site.url())).await?;
            for queue in &self.queues {
                broker.task_queue(&name(queue)).configure(settings).await?;
            }
            Ok(())
        })
    }

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
        Role::Hand { queue, .. }
        | Role::Waiter { queue }
        | Role::Consumer { queue }
        | Role::Crowd { queue, .. } => {
            vec![queue.clone()]
        }
        _ => Vec::new(),
    }
}

/// Loads a library under the name of the true one, which then never replaces it.
fn load(site: &Site, source: &str) -> Result<()> {
    if !site.load(source) {
        bail!("no server took the library of the mutant");
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
