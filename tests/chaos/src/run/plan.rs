//! Plans: which runs, how long and with which seeds, a few at a time.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::family::FAMILIES;
use super::mutant::MUTANTS;
use super::report::{Caught, Finding, Summary};
use super::tables;

/// The exit code of a run that this machine can't do.
pub const SKIPPED: u8 = 77;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plan {
    /// Each family and each mutant once, briefly.
    Ci,
    /// Each family for longer, with three seeds, and the mutants.
    Nightly,
    /// Each family with ten seeds, and the mutants.
    Release,
    /// Half an hour without faults.
    Soak,
}

/// One run of a plan, as arguments of this program.
#[derive(Clone, Debug)]
struct Job {
    name: String,
    arguments: Vec<String>,
}

/// How a plan is carried out.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// How many runs at once.
    pub jobs: usize,
    /// Only runs whose name contains this.
    pub only: Option<String>,
    /// The document that gets the table.
    pub report: Option<PathBuf>,
    /// Where histories go.
    pub directory: PathBuf,
}

impl Plan {
    /// How many seeds, and how many times as long as the shortest run.
    fn extent(self) -> (u64, u64) {
        match self {
            Self::Ci | Self::Soak => (1, 1),
            Self::Nightly => (3, 4),
            Self::Release => (10, 3),
        }
    }

    fn jobs(self, options: &Options) -> Vec<Job> {
        let (seeds, times) = self.extent();
        let mut jobs = Vec::new();
        for seed in options.seed..options.seed + seeds {
            for family in FAMILIES.iter().filter(|family| family.in_plan(self)) {
                jobs.push(job(options, (family.name, seed, times), None));
            }
        }
        for mutant in MUTANTS.iter().filter(|_| self != Self::Soak) {
            jobs.push(job(
                options,
                (mutant.family, options.seed, 1),
                Some(mutant.name),
            ));
        }
        let wanted = |job: &Job| {
            options
                .only
                .as_ref()
                .is_none_or(|only| job.name.contains(only))
        };
        jobs.retain(wanted);
        jobs
    }

    /// Puts what it came to into a document.
    fn report(self, path: &Path, title: &str, findings: &[Finding]) -> Result<()> {
        let (mut runs, mut caught): (Vec<Summary>, Vec<Caught>) = (Vec::new(), Vec::new());
        for finding in findings {
            match finding {
                Finding::Kept(summary) => runs.push(summary.clone()),
                Finding::Caught(mutant) => caught.push(mutant.clone()),
            }
        }
        if self == Self::Soak {
            let soak = runs.first().context("the long run failed")?;
            return tables::write(path, "soak", &tables::of_soak(soak));
        }
        let place = |caught: &Caught| MUTANTS.iter().position(|m| m.name == caught.mutant);
        caught.sort_by_key(place);
        let title = format!("Plan `{}`: {title}", format!("{self:?}").to_lowercase());
        tables::write(path, "report", &tables::of_runs(&title, &runs))?;
        tables::write(path, "mutants", &tables::of_mutants(&caught))
    }

    /// Carries it out; fails where a run did.
    pub fn carry_out(self, options: &Options) -> Result<()> {
        let begin = Instant::now();
        let queue = Mutex::new(VecDeque::from(self.jobs(options)));
        let results = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..options.jobs.max(1) {
                scope.spawn(|| work(&queue, &results));
            }
        });
        let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = results.iter().filter(|result| result.is_err()).count();
        let skipped = results.iter().filter(|r| matches!(r, Ok(None))).count();
        let findings: Vec<Finding> = results
            .into_iter()
            .filter_map(|r| r.ok().flatten())
            .collect();
        let took = begin.elapsed().as_secs();
        if let Some(path) = &options.report {
            let seed = options.seed;
            let runs = findings.len();
            let title = format!("{runs} runs in {took} s, seeds from {seed} on.");
            self.report(path, &title, &findings)?;
        }
        let all = findings.len() + failed;
        println!("chaos: {all} runs in {took} s, {failed} failed");
        if skipped > 0 {
            println!("chaos: SKIPPED {skipped} runs, which prove nothing here");
        }
        if failed > 0 {
            bail!("{failed} runs failed");
        }
        Ok(())
    }
}

type Results = Mutex<Vec<Result<Option<Finding>>>>;

/// Runs one job after the other.
fn work(queue: &Mutex<VecDeque<Job>>, results: &Results) {
    while let Some(job) = next(queue) {
        let result = job.run();
        tell(&job, &result);
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(result);
    }
}

fn next(queue: &Mutex<VecDeque<Job>>) -> Option<Job> {
    queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop_front()
}

fn job(options: &Options, (family, seed, times): (&str, u64, u64), mutant: Option<&str>) -> Job {
    let name = mutant.map_or_else(
        || format!("{family} {seed}"),
        |mutant| format!("mutant {mutant}"),
    );
    let directory = options.directory.join(name.replace(' ', "-"));
    let mut arguments = vec!["run".to_owned(), family.to_owned()];
    let numbers = [("--seed", seed.to_string()), ("--times", times.to_string())];
    for (flag, value) in numbers {
        arguments.extend([flag.to_owned(), value]);
    }
    arguments.extend(["--directory".to_owned(), directory.display().to_string()]);
    if let Some(mutant) = mutant {
        arguments.extend(["--mutant".to_owned(), mutant.to_owned()]);
    }
    Job { name, arguments }
}

impl Job {
    /// Runs it in a process of its own; nothing where the machine can't.
    fn run(&self) -> Result<Option<Finding>> {
        let output = Command::new(std::env::current_exe()?)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .output()
            .context("could not start a run")?;
        if output.status.code() == Some(SKIPPED.into()) {
            println!("chaos: {}: {}", self.name, text(&output).trim());
            return Ok(None);
        }
        if !output.status.success() {
            bail!("{}", text(&output));
        }
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let finding = serde_json::from_str(line.lines().last().unwrap_or_default());
        Ok(Some(finding.context("a run said nothing of itself")?))
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tell(job: &Job, result: &Result<Option<Finding>>) {
    let line = match result {
        Ok(Some(Finding::Kept(summary))) => format!("chaos: {}: {}\n", job.name, summary.line()),
        Ok(Some(Finding::Caught(caught))) => {
            format!("chaos: {}: caught by {}\n", job.name, caught.broke)
        }
        Ok(None) => return,
        Err(error) => format!("chaos: {}: FAILED\n{error}\n", job.name),
    };
    let _ = std::io::stdout().write_all(line.as_bytes());
}
