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
use pmq_chaos::run::report::Summary;
use pmq_chaos::run::{Run, fresh};

/// How many events of a broken promise are shown.
const SHOWN: usize = 60;

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
            eprintln!("{why}");
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
        return expect(mutant.breaks, &outcome.judgement, mutant.name);
    }
    show(&outcome.history, &outcome.judgement.violations);
    for mishap in outcome.mishaps.iter().take(5) {
        eprintln!("unexplained: {mishap}");
    }
    let summary = Summary::of(&family, &outcome.judgement);
    eprintln!(
        "{} seed {}: {}",
        family.name,
        arguments.seed,
        summary.line()
    );
    println!("{}", serde_json::to_string(&summary)?);
    let good = outcome.judgement.violations.is_empty();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A mutant must break what it is expected to.
fn expect(breaks: Invariant, judgement: &Judgement, name: &str) -> Result<ExitCode> {
    let mut broken: Vec<Invariant> = judgement.violations.iter().map(|v| v.invariant).collect();
    broken.sort_unstable();
    broken.dedup();
    let broken_words: Vec<String> = broken.iter().map(ToString::to_string).collect();
    eprintln!("{name} broke {}", broken_words.join(", "));
    if let Some(violation) = judgement.violations.iter().find(|v| v.invariant == breaks) {
        eprintln!("{violation}");
        return Ok(ExitCode::SUCCESS);
    }
    bail!("mutant {name} was not caught by {breaks}")
}

/// Shows each kind of violation once, with the shortest history that shows it.
fn show(history: &History, violations: &[Violation]) {
    for invariant in Invariant::ALL {
        let mut of_kind = violations
            .iter()
            .filter(|violation| violation.invariant == invariant);
        let Some(first) = of_kind.next() else {
            continue;
        };
        eprintln!("BROKEN {first} (and {} more)", of_kind.count());
        let events = history.about(&first.subject);
        for line in events.iter().take(SHOWN) {
            eprintln!("    {line}");
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
