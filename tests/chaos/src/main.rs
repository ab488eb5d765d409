//! Faults against pmq, and a verdict. `scripts/chaos` runs it.
//!
//!     scripts/chaos --plan ci                    every family of faults and every mutant, once and briefly
//!     scripts/chaos run workers --seed 7         one run
//!     scripts/chaos judge DIRECTORY              the verdict on histories that a run left

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use pmq_chaos::checker::{Invariant, Judgement, Terms, Violation};
use pmq_chaos::history::History;
use pmq_chaos::role::Brief;
use pmq_chaos::run::family::{FAMILIES, Family};
use pmq_chaos::run::machine::{self, Equipped};
use pmq_chaos::run::mutant::Mutant;
use pmq_chaos::run::plan::{Options, Plan, SKIPPED};
use pmq_chaos::run::report::{Caught, Summary};
use pmq_chaos::run::{Run, fresh};

/// How many events of a broken promise are shown.
const SHOWN: usize = 60;
/// How many violations of a kind are compared, to show the one with the shortest history.
const COMPARED: usize = 20;

/// Fault tests of pmq with a checker of histories.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Carry out a plan
    Plan(PlanArguments),
    /// Run one family of faults
    Run(RunArguments),
    /// Judge the histories in a directory
    Judge {
        /// The directory
        directory: PathBuf,
    },
    /// List the families
    List,
    #[command(hide = true)]
    Play { brief: String },
}

#[derive(Args)]
struct PlanArguments {
    /// Which
    plan: Plan,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs at once
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Only runs whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Put the table of the results into this document
    #[arg(long)]
    report: Option<PathBuf>,
    /// Where histories go
    #[arg(long, default_value = "target/chaos")]
    directory: PathBuf,
}

#[derive(Args)]
struct RunArguments {
    /// Which family
    family: String,
    /// What all choices are made of
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many times as long as in plan ci
    #[arg(long, default_value_t = 1)]
    times: u64,
    /// For how many seconds faults happen, instead
    #[arg(long)]
    seconds: Option<u64>,
    /// Run against a broken library, and expect that it is caught
    #[arg(long)]
    mutant: Option<String>,
    /// Where histories go
    #[arg(long, default_value = "target/chaos/run")]
    directory: PathBuf,
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        What::Plan(plan) => carry_out(plan),
        What::Run(run) => play(&run),
        What::Judge { directory } => judge(&directory),
        What::List => {
            for family in FAMILIES {
                println!("{:16}{}", family.name, family.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Play { brief } => {
            serde_json::from_str::<Brief>(&brief)?.play()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn carry_out(arguments: PlanArguments) -> Result<ExitCode> {
    let options = Options {
        seed: arguments.seed,
        jobs: arguments.jobs,
        only: arguments.only,
        report: arguments.report,
        directory: arguments.directory,
    };
    arguments.plan.carry_out(&options)?;
    Ok(ExitCode::SUCCESS)
}

fn play(arguments: &RunArguments) -> Result<ExitCode> {
    let mut family = Family::named(&arguments.family)
        .with_context(|| format!("there is no family '{}'", arguments.family))?;
    family.seconds = arguments.seconds.unwrap_or(family.seconds);
    match machine::equip(family.needs)? {
        Equipped::Here => {}
        Equipped::Elsewhere(code) => return Ok(code),
        Equipped::Not(why) => {
            eprintln!("SKIPPED: {why}");
            return Ok(ExitCode::from(SKIPPED));
        }
    }
    let mutant = arguments.mutant.as_deref().map(Mutant::named).transpose()?;
    fresh(&arguments.directory)?;
    let directory = arguments.directory.canonicalize()?;
    let run = Run {
        family,
        seed: arguments.seed,
        times: arguments.times.max(1),
        mutant,
        directory,
    };
    let outcome = run.play()?;
    if let Some(mutant) = mutant {
        return expect(&mutant, &outcome.judgement);
    }
    show(&outcome.history, &outcome.judgement.violations);
    for mishap in outcome.mishaps.iter().take(5) {
        eprintln!("unexplained: {mishap}");
    }
    let summary = Summary::of(&family, &outcome.judgement, &outcome.history);
    eprintln!(
        "{} seed {}: {}",
        family.name,
        arguments.seed,
        summary.line()
    );
    println!("{}", serde_json::to_string(&summary)?);
    let good = outcome.judgement.violations.is_empty();
    if !good {
        let (family, seed, times) = (family.name, run.seed, run.times);
        eprintln!("replay: scripts/chaos run {family} --seed {seed} --times {times}");
        eprintln!("the histories: {}", run.directory.display());
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A mutant must break what it is expected to.
fn expect(mutant: &Mutant, judgement: &Judgement) -> Result<ExitCode> {
    let mut broken: Vec<Invariant> = judgement.violations.iter().map(|v| v.invariant).collect();
    broken.sort_unstable();
    broken.dedup();
    let words = |found: &Invariant| found.to_string();
    eprintln!(
        "{} broke {:?}",
        mutant.name,
        broken.iter().map(words).collect::<Vec<_>>()
    );
    let mut caught = judgement.violations.iter();
    let Some(violation) = caught.find(|v| v.invariant == mutant.breaks) else {
        bail!("mutant {} was not caught by {}", mutant.name, mutant.breaks);
    };
    let also = broken.iter().filter(|found| **found != mutant.breaks);
    let caught = Caught {
        mutant: mutant.name.to_owned(),
        family: mutant.family.to_owned(),
        broke: mutant.breaks.to_string(),
        also: also.map(words).collect(),
        example: format!("{} {}", violation.subject, violation.what),
    };
    println!("{}", serde_json::to_string(&caught)?);
    Ok(ExitCode::SUCCESS)
}

/// Shows each kind of violation once, with the shortest history that shows it.
fn show(history: &History, violations: &[Violation]) {
    for invariant in Invariant::ALL {
        let of_kind = violations.iter().filter(|v| v.invariant == invariant);
        let tales = of_kind.clone().take(COMPARED).map(|violation| {
            let tale = history.tale(&violation.subject);
            (violation, tale)
        });
        let Some((violation, tale)) = tales.min_by_key(|(_, tale)| tale.len()) else {
            continue;
        };
        eprintln!("BROKEN {violation} (and {} more)", of_kind.count() - 1);
        for line in tale.iter().take(SHOWN) {
            eprintln!("    {line}");
        }
        if tale.len() > SHOWN {
            eprintln!("    ... and {} more events", tale.len() - SHOWN);
        }
    }
}

fn judge(directory: &std::path::Path) -> Result<ExitCode> {
    let history = History::read(directory)?;
    let judgement = Judgement::of(&history, &Terms::default());
    show(&history, &judgement.violations);
    let good = judgement.violations.is_empty();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
