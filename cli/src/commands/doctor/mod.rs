//! `pmq doctor`: whether the broker is one that keeps tasks safe, and how far away it is.

mod access;
mod primaries;
mod server;

use std::time::Duration;

use clap::Args;
use pmq_broker::{Broker, Config, Error};
use serde::Serialize;

use crate::args::QueueFlag;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{self, Failure};
use crate::output::{Mood, Output};
use crate::plural::counted;
use crate::{fleet, when};

const AFTER_HELP: &str = "\
On a Redis Cluster each primary is looked at. The promises are those of each --durability.

Persistence says what the server may lose when its process is killed and when the power fails.

Exit codes: 0; 1 where something is bad; 69 where the broker can't be used at all.

Example:
  pmq doctor --redis redis://redis.example";

const PINGS: usize = 20;
/// A clock this far off shows wrong times to people and makes `--at` early or late.
const CLOCK_LIMIT_MS: u64 = 2000;

/// Check the broker: who can reach it, authkey, version, settings, rights, clock, latency, promises.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// The task queue whose keys the rights are checked on
    #[command(flatten)]
    queue: QueueFlag,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Check {
    #[serde(rename = "check")]
    subject: &'static str,
    level: &'static str,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    #[serde(skip)]
    mood: Mood,
}

impl Check {
    fn new(subject: &'static str, mood: Mood, found: impl Into<String>) -> Self {
        let level = match mood {
            Mood::Good => "good",
            Mood::Doubtful => "doubtful",
            Mood::Bad => "bad",
        };
        Self {
            subject,
            level,
            found: found.into(),
            hint: None,
            mood,
        }
    }

    fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self::new(subject, Mood::Good, found)
    }

    /// Whether a server of which this was found can be asked to run functions.
    fn lets_calls_through(&self) -> bool {
        self.mood != Mood::Bad || !matches!(self.subject, "version" | "role")
    }

    fn at(mut self, address: &str) -> Self {
        self.found = format!("{address}: {}", self.found);
        self
    }

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

impl Doctor {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = Broker::connect_to_any(&context.config)
            .await
            .map_err(|error| unreachable(context.explain(error)))?;
        context.warn_of_password();
        let checks = self.checks(&broker, &context.config).await?;
        for check in &checks {
            show(check, context.output)?;
        }
        if broker.server().require_suitable(broker.address()).is_err() {
            return Ok(Exit::UNAVAILABLE);
        }
        let bad = checks.iter().any(|check| check.mood == Mood::Bad);
        Ok(if bad { Exit::FAILED } else { Exit::OK })
    }

    async fn checks(&self, broker: &Broker, config: &Config) -> anyhow::Result<Vec<Check>> {
        let primaries = broker.primaries().await?;
        let mut checks = vec![Check::good("address", broker.address())];
        checks.extend(access::checks(broker, config).await?);
        for primary in &primaries {
            let local = broker.is_local();
            let found = server::checks(primary, local);
            // Where there are several, each line says which.
            let several = primaries.len() > 1;
            let told = found.into_iter().map(|check| {
                if several {
                    check.at(&primary.address)
                } else {
                    check
                }
            });
            checks.extend(told);
        }
        checks.extend(primaries::slots(&primaries));
        // A server without functions, or one that takes no writes, has no answers to the rest.
        if checks.iter().all(Check::lets_calls_through) {
            checks.push(functions(broker, &self.queue).await);
            checks.push(rights(broker, &self.queue).await?);
            checks.push(workers(broker).await?);
        }
        checks.push(clock(broker).await?);
        checks.push(latency(broker).await?);
        checks.extend(primaries::promises(config.durability));
        Ok(checks)
    }
}

/// The usual hint sends whoever can't reach the broker here.
fn unreachable(error: anyhow::Error) -> anyhow::Error {
    if !matches!(error.downcast_ref(), Some(Error::Unreachable { .. })) {
        return error;
    }
    Failure::new(Exit::UNAVAILABLE, failure::sentence(&error))
        .with_hint("does `redis-cli -u URL ping` reach it from here? If not, look at its host, its port, what it binds to, and the firewall")
        .into()
}

fn show(check: &Check, output: Output) -> anyhow::Result<()> {
    if output.is_json() {
        return output.json(check);
    }
    let level = output.colored(&format!("{:<8}", check.level), check.mood);
    output.line(&format!("{level}  {:<11}  {}", check.subject, check.found))?;
    if let Some(hint) = check.hint {
        output.line(&format!("{:23}hint: {hint}", ""))?;
    }
    Ok(())
}

/// Calls a function that changes nothing. The first call loads the library.
async fn functions(broker: &Broker, flag: &QueueFlag) -> Check {
    let library = pmq_broker::functions::LIBRARY;
    match broker.task_queue(&flag.queue).status().await {
        Ok(_) => Check::good("functions", format!("library {library} answers")),
        Err(error) => Check::new("functions", Mood::Bad, error.to_string())
            .hint("let an administrator run `pmq functions load`"),
    }
}

async fn rights(broker: &Broker, flag: &QueueFlag) -> anyhow::Result<Check> {
    let Some(rights) = broker.rights(&flag.queue).await? else {
        return Ok(Check::good(
            "rights",
            "not checked, as this user may not ask (ACL DRYRUN)",
        ));
    };
    if rights.denied.is_empty() {
        return Ok(Check::good(
            "rights",
            format!("user {} may run all that pmq runs", rights.user),
        ));
    }
    let mut commands: Vec<&str> = rights
        .denied
        .iter()
        .map(|(command, _)| command.as_str())
        .collect();
    commands.dedup();
    let found = format!(
        "user {} is denied {} on queue {}",
        rights.user,
        commands.join(" "),
        flag.queue
    );
    Ok(Check::new("rights", Mood::Bad, found)
        .hint("grant these commands on the keys and channels of the queue; `ACL LOG` on the server tells what was denied"))
}

async fn clock(broker: &Broker) -> anyhow::Result<Check> {
    let before = when::now_ms();
    let there = broker.server_time_ms().await?;
    let here = u64::midpoint(before, when::now_ms());
    let off = there.abs_diff(here);
    let word = if there >= here { "ahead of" } else { "behind" };
    let found = format!("the server's clock is {off} ms {word} this one");
    Ok(if off <= CLOCK_LIMIT_MS {
        Check::good("clock", found)
    } else {
        Check::new("clock", Mood::Doubtful, found)
            .hint("let NTP set both clocks; pmq's leases use the server's alone, but times that people read do not fit")
    })
}

async fn latency(broker: &Broker) -> anyhow::Result<Check> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        times.push(broker.ping().await?);
    }
    times.sort();
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    let found = format!(
        "p50 {:.3} ms, p99 {:.3} ms of {PINGS} pings",
        ms(p50),
        ms(p99)
    );
    let mood = if p50 < Duration::from_millis(50) {
        Mood::Good
    } else {
        Mood::Doubtful
    };
    Ok(Check::new("latency", mood, found))
}

/// The nearest-rank percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn workers(broker: &Broker) -> anyhow::Result<Check> {
    let workers = fleet::workers(broker).await?;
    if workers.is_empty() {
        return Ok(Check::new("workers", Mood::Doubtful, "no worker is up")
            .hint("start one with `pmq worker`"));
    }
    let slots: u64 = workers.iter().map(|worker| worker.about.slots).sum();
    Ok(Check::good(
        "workers",
        format!("{} up, {}", workers.len(), counted(slots, "slot")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(10));
        assert_eq!(percentile(&times, 99), Duration::from_millis(20));
        assert_eq!(percentile(&times[..1], 50), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
