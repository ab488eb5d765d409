//! `pmq doctor`: whether the broker is one that keeps tasks safe, and how far away it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pmq_broker::Broker;
use pmq_broker::connection::ServerReport;
use serde::Serialize;

use crate::args::QueueFlag;
use crate::context::Context;
use crate::exit::Exit;
use crate::fleet;
use crate::output::{Mood, Output};

const AFTER_HELP: &str = "\
Exit codes: 0; 1 where something is bad; 69 where the broker can't be used at all.

Example:
  pmq doctor --redis redis://redis.example";

const PINGS: usize = 20;
/// A clock this far off shows wrong times to people and makes `--at` early or late.
const CLOCK_LIMIT_MS: u64 = 2000;

/// Check the broker: version, settings, rights, clock, latency.
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

    fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

impl Doctor {
    /// Runs it.
    pub async fn run(self, context: &Context) -> anyhow::Result<Exit> {
        let broker = context.connect().await?;
        let server = broker.server();
        let mut checks = vec![
            Check::good("address", broker.address()),
            version(server),
            memory(server),
            persistence(server),
        ];
        checks.push(functions(&broker, &self.queue).await);
        checks.push(rights(&broker, &self.queue).await?);
        checks.push(clock(&broker).await?);
        checks.push(latency(&broker).await?);
        checks.push(workers(&broker).await?);
        for check in &checks {
            show(check, context.output)?;
        }
        let bad = checks.iter().any(|check| check.mood == Mood::Bad);
        Ok(if bad { Exit::FAILED } else { Exit::OK })
    }
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

fn version(server: &ServerReport) -> Check {
    let valkey = server
        .field("valkey_version")
        .map(|version| format!("Valkey {version}"));
    match valkey.or_else(|| Some(format!("Redis {}", server.version()?))) {
        Some(version) => Check::good("version", version),
        None => Check::new(
            "version",
            Mood::Doubtful,
            "unknown, as this user may not run INFO",
        )
        .hint("grant +info, so that pmq can refuse servers that would lose tasks"),
    }
}

/// A server that evicts was refused at the connection.
fn memory(server: &ServerReport) -> Check {
    let used = server.field("used_memory_human").unwrap_or("unknown");
    match server.field("maxmemory").and_then(|max| max.parse::<u64>().ok()) {
        None => Check::new("memory", Mood::Doubtful, "limit and eviction policy are unknown"),
        Some(0) => Check::new("memory", Mood::Doubtful, format!("{used} used, no limit"))
            .hint("set maxmemory below what the machine has, with maxmemory-policy noeviction: a full Redis refuses new tasks, a killed one loses some"),
        Some(max) => {
            let percent = number(server, "used_memory") * 100 / max;
            let mood = if percent >= 90 { Mood::Bad } else { Mood::Good };
            Check::new("memory", mood, format!("{used} used, {percent}% of maxmemory; noeviction"))
        }
    }
}

fn number(server: &ServerReport, field: &str) -> u64 {
    server
        .field(field)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn persistence(server: &ServerReport) -> Check {
    const AOF: &str =
        "turn the append-only file on: `CONFIG SET appendonly yes`, and the same in redis.conf";
    let failed = [
        "aof_last_write_status",
        "aof_last_bgrewrite_status",
        "rdb_last_bgsave_status",
    ]
    .into_iter()
    .find(|field| server.field(field).is_some_and(|status| status != "ok"));
    if let Some(field) = failed {
        return Check::new(
            "persistence",
            Mood::Bad,
            format!("the last write to disk failed ({field})"),
        )
        .hint("look at the server's log and its disk");
    }
    match server.field("aof_enabled") {
        Some("1") => Check::good("persistence", "append-only file"),
        Some(_) => Check::new(
            "persistence",
            Mood::Doubtful,
            "no append-only file: a crash loses what no snapshot holds",
        )
        .hint(AOF),
        None => Check::new("persistence", Mood::Doubtful, "unknown"),
    }
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
    let before = now_ms();
    let there = broker.server_time_ms().await?;
    let here = u64::midpoint(before, now_ms());
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

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
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
        format!("{} up, {slots} slots", workers.len()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(fields: &[(&str, &str)]) -> ServerReport {
        let mut report = ServerReport::default();
        for (name, value) in fields {
            report.info.insert((*name).to_owned(), (*value).to_owned());
        }
        report
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=20).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(10));
        assert_eq!(percentile(&times, 99), Duration::from_millis(20));
        assert_eq!(percentile(&times[..1], 50), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn a_server_that_may_lose_tasks_is_not_good() {
        assert_eq!(
            persistence(&server(&[("aof_enabled", "1")])).mood,
            Mood::Good
        );
        assert_eq!(
            persistence(&server(&[("aof_enabled", "0")])).mood,
            Mood::Doubtful
        );
        let broken = server(&[("aof_enabled", "1"), ("aof_last_write_status", "err")]);
        assert_eq!(persistence(&broken).mood, Mood::Bad);
    }

    #[test]
    fn memory_is_bad_when_almost_full() {
        let full = server(&[
            ("maxmemory", "100"),
            ("used_memory", "95"),
            ("used_memory_human", "95B"),
        ]);
        assert_eq!(memory(&full).mood, Mood::Bad);
        let free = server(&[("maxmemory", "100"), ("used_memory", "5")]);
        assert_eq!(memory(&free).mood, Mood::Good);
        assert_eq!(memory(&server(&[("maxmemory", "0")])).mood, Mood::Doubtful);
    }
}
