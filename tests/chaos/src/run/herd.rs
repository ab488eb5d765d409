//! What idle workers cost the server that has come back to them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::conductor::{Conductor, TICK};
use crate::role::Role;

/// How long calls are counted: twice the time for which an idle worker waits.
const COUNTED: Duration = Duration::from_secs(10);
const SETTLES: Duration = Duration::from_secs(10);
/// Calls of clients; all others are made by functions.
const CALLS: [&str; 12] = [
    "fcall", "fcall_ro", "blpop", "hello", "auth", "select", "client", "ping", "info", "function",
    "config", "acl",
];

impl Conductor {
    /// Lets the server go away and come back while nothing is to be done, and counts what each worker asks of it. A
    /// server that has restarted counts from nothing.
    pub fn count_calls(&mut self) -> Result<()> {
        self.mishaps.extend(self.crew.dismiss("producer"));
        let begin = Instant::now();
        while begin.elapsed() < SETTLES && !self.is_empty() {
            self.turn()?;
        }
        self.phase("idle");
        self.site.up = false;
        self.site.server_mut().kill();
        sleep(Duration::from_secs(1));
        self.site.server_mut().restart();
        self.site.up = true;
        let back = Instant::now();
        while back.elapsed() < COUNTED {
            sleep(TICK);
        }
        self.site.find_primary(); // over a new connection
        let calls = self.calls();
        let workers: usize = self
            .crew
            .members
            .values()
            .map(|member| idle(&member.role))
            .sum();
        let per_worker = calls.div_ceil(workers.max(1) as u64);
        self.census(
            ("redis", "idle"),
            "calls of each idle worker in 10 s",
            per_worker,
        );
        Ok(())
    }

    /// How many calls the server has got since it started.
    fn calls(&mut self) -> u64 {
        let stats: String = self
            .site
            .ask(redis::cmd("INFO").arg("commandstats"))
            .unwrap_or_default();
        let calls = stats.lines().filter_map(|line| {
            let (command, counts) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let command = command.split('|').next()?;
            let calls = counts.split(',').next()?.parse::<u64>().ok()?;
            CALLS.contains(&command).then_some(calls)
        });
        calls.sum()
    }
}

/// How many workers a role is.
fn idle(role: &Role) -> usize {
    match role {
        Role::Crowd { workers, .. } => *workers,
        _ => 0,
    }
}
