//! What processes and the server hold, counted at the start and at the end of a long run.

use std::fs;

use super::conductor::Conductor;
use crate::history::What;

const MIB: u64 = 1 << 20;

impl Conductor {
    /// Counts memory, files, connections and keys.
    pub fn take_census(&mut self, when: &str) {
        for place in self.crew.places("") {
            let Some(pid) = self.crew.process(&place).map(|process| process.pid()) else {
                continue;
            };
            self.census((&place, when), "MiB", resident(pid) / MIB);
            let files = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
            self.census((&place, when), "open files", files as u64);
        }
        let info: String = self
            .site
            .ask(redis::cmd("INFO").arg("all"))
            .unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .unwrap_or(0)
        };
        self.census(("redis", when), "MiB", field("used_memory:") / MIB);
        self.census(("redis", when), "connections", field("connected_clients:"));
        let keys: Option<u64> = self.site.ask(&redis::cmd("DBSIZE"));
        self.census(("redis", when), "keys", keys.unwrap_or_default());
    }

    /// Writes one count down.
    pub fn census(&self, (of, when): (&str, &str), what: &str, count: u64) {
        let (of, when, what) = (of.to_owned(), when.to_owned(), what.to_owned());
        self.recorder.record(What::Census {
            of,
            when,
            what,
            count,
        });
    }
}

/// The memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
