//! The processes of a run: started, killed, stopped, and started again under another name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use pmq_broker::functions::LIBRARY;
use pmq_tests::program::Running;
use pmq_tests::{Program, Proxy};

use super::clock;
use crate::role::{Brief, Role};

/// One place in the crew, which is filled by one process after the other.
pub struct Member {
    /// What its processes do.
    pub role: Role,
    /// Its own way to the server, where it has one.
    pub proxy: Option<Proxy>,
    /// Whether its processes are of another release.
    is_other_release: bool,
    generation: u32,
    process: Option<Running>,
}

/// All processes of a run, by the names of their places.
pub struct Crew {
    /// The places.
    pub members: BTreeMap<String, Member>,
    /// What makes the clocks of some processes wrong, where they shall be.
    pub wrong_clocks: Option<PathBuf>,
    program: Program,
    directory: PathBuf,
    url: String,
    seed: u64,
    lease_ms: u64,
}

impl Crew {
    /// A crew without members.
    pub fn new(url: String, directory: PathBuf, seed: u64, lease_ms: u64) -> Result<Self> {
        let myself = std::env::current_exe().context("this program is in no file")?;
        Ok(Self {
            members: BTreeMap::new(),
            wrong_clocks: None,
            program: Program::new(myself),
            directory,
            url,
            seed,
            lease_ms,
        })
    }

    /// Starts the first process of a new place.
    pub fn hire(&mut self, place: &str, role: Role, proxy: Option<Proxy>) -> Result<()> {
        let member = Member {
            role,
            proxy,
            is_other_release: false,
            generation: 0,
            process: None,
        };
        self.members.insert(place.to_owned(), member);
        self.start(place)
    }

    /// Starts another process in a place that has none that runs.
    pub fn start(&mut self, place: &str) -> Result<()> {
        let member = self
            .members
            .get_mut(place)
            .context("there is no such place")?;
        member.generation += 1;
        let brief = Brief {
            actor: format!("{place}.{}", member.generation),
            url: member
                .proxy
                .as_ref()
                .map_or(&self.url[..], Proxy::url)
                .to_owned(),
            directory: self.directory.clone(),
            seed: self.seed ^ fnv(place) ^ u64::from(member.generation),
            lease_ms: self.lease_ms,
            role: member.role.clone(),
        };
        let brief = serde_json::to_string(&brief)?;
        let program = match &self.wrong_clocks {
            Some(library) if place.ends_with('1') => clock::skewed(&self.program, library),
            _ => self.program.clone(),
        };
        member.process = Some(program.spawn(["play", &brief]));
        Ok(())
    }

    /// The own network of this place, where it has one.
    #[must_use]
    pub fn proxy(&self, place: &str) -> Option<&Proxy> {
        self.members.get(place)?.proxy.as_ref()
    }

    /// Lets the next processes in this place be of the other release: to the server all their functions have other names.
    pub fn change_release(&mut self, place: &str) {
        if let Some(member) = self.members.get_mut(place)
            && let Some(proxy) = &member.proxy
        {
            member.is_other_release = !member.is_other_release;
            let other = format!("{}x", &LIBRARY[..LIBRARY.len() - 1]);
            proxy.translate(member.is_other_release.then_some((LIBRARY, &other)));
        }
    }

    /// The name under which the process in this place writes its history.
    #[must_use]
    pub fn actor(&self, place: &str) -> String {
        let generation = self
            .members
            .get(place)
            .map_or(0, |member| member.generation);
        format!("{place}.{generation}")
    }

    /// The places whose names begin so.
    #[must_use]
    pub fn places(&self, kind: &str) -> Vec<String> {
        let places = self.members.keys().filter(|place| place.starts_with(kind));
        places.cloned().collect()
    }

    /// The process in this place, where one was started.
    pub fn process(&mut self, place: &str) -> Option<&mut Running> {
        self.members.get_mut(place)?.process.as_mut()
    }

    /// The places whose process has ended, and with what it printed last.
    pub fn fallen(&mut self) -> Vec<(String, String)> {
        let mut fallen = Vec::new();
        for (place, member) in &mut self.members {
            if let Some(process) = &mut member.process
                && !process.is_running()
            {
                let last = process.error_lines().pop().unwrap_or_default();
                fallen.push((place.clone(), last));
            }
        }
        fallen
    }

    /// Asks the processes of these places to end, and waits until they have; answers those that failed.
    pub fn dismiss(&mut self, kind: &str) -> Vec<String> {
        let places = self.places(kind);
        let mut leaving = Vec::new();
        for place in places {
            let actor = self.actor(&place);
            if let Some(process) = self.members.get_mut(&place).and_then(|m| m.process.take()) {
                process.terminate();
                leaving.push((actor, process));
            }
        }
        let ends = leaving
            .into_iter()
            .map(|(actor, process)| (actor, process.wait()));
        ends.filter(|(_, end)| end.code() != 0)
            .map(|(actor, end)| format!("{actor}: {}", end.error_text().trim()))
            .collect()
    }
}

/// Tells the places of one seed apart.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
