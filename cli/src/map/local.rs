//! Local workers: `pmq worker` processes that serve one run, are started anew when they die, and end with it.
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use pmq_worker::child::{Command, Guard, Stop, Stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Short, because a worker that dies here leaves its tasks to its neighbours on the same machine.
const LEASE: &str = "5s";
/// A worker that ends sooner than this did not get to work.
const EARLY: Duration = Duration::from_secs(2);
/// So many early ends in a row are no accident.
const EARLY_ENDS: u32 = 3;
/// How long a worker may take to end when nothing is left to run.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a worker's output is kept to tell why it ended.
const KEPT: usize = 4096;

/// Which workers to start.
#[derive(Debug, Clone)]
pub struct Crew {
    /// The namespace of its keys.
    pub namespace: String,
    /// The queue that they serve.
    pub queue: String,
    /// How many processes; at least 1.
    pub processes: usize,
    /// How many tasks they run at once in all; at least 1.
    pub slots: usize,
}

/// Running local workers. They are killed if this is dropped, or if this process dies.
#[derive(Debug)]
pub struct LocalWorkers {
    stop: Stop,
    workers: JoinSet<anyhow::Result<()>>,
    _guard: Guard,
}

impl Crew {
    /// Starts the workers.
    pub fn start(&self) -> anyhow::Result<LocalWorkers> {
        let program = std::env::current_exe().context("could not find the program pmq itself")?;
        let here = std::env::current_dir().context("could not tell the working directory")?;
        let guard = Guard::start(format!("{}-workers", self.queue))?;
        let stop = Stop::new();
        let mut workers = JoinSet::new();
        for slots in shares(self.slots, self.processes) {
            let mut command = Command::new(self.argv(program.clone().into(), slots));
            command.program.cwd = Some(here.clone());
            command.grace = GRACE;
            command.capture = KEPT;
            workers.spawn(keep_running(command, guard.clone(), stop.clone()));
        }
        Ok(LocalWorkers {
            stop,
            workers,
            _guard: guard,
        })
    }

    fn argv(&self, program: OsString, slots: usize) -> Vec<OsString> {
        let slots = slots.to_string();
        // Without a URL it finds the same local broker as this process, in the same environment.
        let words = [
            "--namespace",
            &self.namespace,
            "worker",
            "-q",
            &self.queue,
            "-c",
            &slots,
            "--lease",
            LEASE,
            "--allow-commands",
            "--quiet",
        ];
        std::iter::once(program)
            .chain(words.map(OsString::from))
            .collect()
    }
}

impl LocalWorkers {
    /// Waits until a worker can't be kept running, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.workers.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(panic)) => anyhow::Error::new(panic).context("a local worker was lost"),
            // They only end without an error when they are told to.
            Some(Ok(Ok(()))) | None => std::future::pending().await,
        }
    }

    /// Ends the workers, which hand back what they run; kills them after 5 s.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.workers.join_next().await.is_some() {}
    }
}

/// Shares `slots` among `processes`, at least one each, so that no process is without.
fn shares(slots: usize, processes: usize) -> Vec<usize> {
    let processes = processes.clamp(1, slots.max(1));
    let (each, over) = (slots / processes, slots % processes);
    (0..processes)
        .map(|index| (each + usize::from(index < over)).max(1))
        .collect()
}

/// Runs a worker, again and again, until it is told to stop.
async fn keep_running(command: Command, guard: Guard, stop: Stop) -> anyhow::Result<()> {
    let mut early = 0;
    loop {
        let began = Instant::now();
        let (live, output) = mpsc::channel(16);
        let mut command = command.clone();
        command.live = Some(live);
        let (ended, ()) = tokio::join!(command.run(&guard, stop.clone()), pass_on(output));
        let ended = ended.context("could not run a local worker")?;
        if stop.is_cancelled() {
            return Ok(());
        }
        early = if began.elapsed() < EARLY {
            early + 1
        } else {
            0
        };
        if early == EARLY_ENDS {
            bail!("local workers end as soon as they start ({})", ended.exit);
        }
        tracing::info!("a local worker died ({}), starting another", ended.exit);
    }
}

/// What a worker says on standard error is for the user; on standard output it has nothing to say.
async fn pass_on(mut output: mpsc::Receiver<(Stream, bytes::Bytes)>) {
    while let Some((stream, bytes)) = output.recv().await {
        if stream == Stream::Stderr {
            let _ = io::stderr().write_all(&bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_evenly_and_all_of_them() {
        assert_eq!(shares(4, 1), [4]);
        assert_eq!(shares(4, 4), [1; 4]);
        assert_eq!(shares(7, 3), [3, 2, 2]);
        assert_eq!(shares(2, 4), [1, 1]);
    }
}
