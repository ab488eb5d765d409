//! What the server counts: memory, its processor time, commands.

use anyhow::{Context, Result};
use redis::Connection;

/// The server's counters at one moment. What others do on the same server is in them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Processor time of the server, in s.
    pub(crate) cpu: f64,
    /// All commands, also those that functions call.
    pub(crate) commands: f64,
    /// Functions called.
    pub(crate) calls: f64,
    /// Time within functions, in µs.
    pub(crate) call_us: f64,
    /// Blocking pops, which no function calls.
    pub(crate) waits: f64,
}

impl Counters {
    pub(crate) fn read(connection: &mut Connection) -> Result<Self> {
        let text: String = redis::cmd("INFO")
            .arg(&["cpu", "commandstats"])
            .query(connection)?;
        let cpu = |name| Ok::<_, anyhow::Error>(field(&text, name)?.parse::<f64>()?);
        let mut counters = Self {
            cpu: cpu("used_cpu_user")? + cpu("used_cpu_sys")?,
            ..Self::default()
        };
        for line in text.lines().filter_map(|l| l.strip_prefix("cmdstat_")) {
            let (name, values) = line.split_once(':').unwrap_or((line, ""));
            let value = |key: &str| {
                let pair = values.split(',').find_map(|v| v.strip_prefix(key));
                pair.and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0)
            };
            counters.commands += value("calls=");
            match name {
                "fcall" => {
                    counters.calls = value("calls=");
                    counters.call_us = value("usec=");
                }
                "blpop" => counters.waits = value("calls="),
                _ => {}
            }
        }
        Ok(counters)
    }

    /// What was counted since an earlier reading.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu - earlier.cpu,
            commands: self.commands - earlier.commands,
            calls: self.calls - earlier.calls,
            call_us: self.call_us - earlier.call_us,
            waits: self.waits - earlier.waits,
        }
    }
}

/// Bytes of the server's data, once what was unlinked is freed.
pub(crate) fn memory(connection: &mut Connection) -> Result<f64> {
    let text: String = redis::cmd("INFO").arg("memory").query(connection)?;
    Ok(field(&text, "used_memory")?.parse()?)
}

/// Whether the server is still freeing what was unlinked, which costs processor time.
pub(crate) fn is_freeing(connection: &mut Connection) -> Result<bool> {
    let text: String = redis::cmd("INFO").arg("memory").query(connection)?;
    Ok(field(&text, "lazyfree_pending_objects")? != "0")
}

fn field<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let prefix = format!("{name}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(line
        .with_context(|| format!("INFO tells no {name}"))?
        .trim())
}

/// Processor time of this process so far, in s. Linux tells; elsewhere it is 0.
pub(crate) fn own_cpu() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, the program's name, may hold blanks.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|t| t.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

/// Resident memory of this process, in bytes. Linux tells; elsewhere it is 0.
pub(crate) fn own_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}
