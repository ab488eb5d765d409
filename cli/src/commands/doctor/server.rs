//! What the server says about itself: its version, its memory, what it may lose.

use std::collections::BTreeMap;

use pmq_broker::connection::{Primary, ServerReport};

use super::{Check, primaries};
use crate::output::Mood;

const AOF: &str =
    "turn the append-only file on: `CONFIG SET appendonly yes`, and the same in redis.conf";

/// What there is to say about a primary.
pub(super) fn checks(primary: &Primary, local: bool) -> Vec<Check> {
    let server = &primary.report;
    let mut checks = vec![
        version(server),
        memory(server, local),
        durability(server, &primary.settings),
    ];
    checks.extend(role(server));
    checks.extend(primaries::replicas(primary));
    checks
}

fn version(server: &ServerReport) -> Check {
    let Some(version) = server.version() else {
        return Check::new(
            "version",
            Mood::Doubtful,
            "unknown, as this user may not run INFO",
        )
        .hint("grant +info, so that pmq can refuse servers that would lose tasks");
    };
    let major = version.split('.').next().and_then(|n| n.parse().ok());
    let found = server.field("valkey_version").map_or_else(
        || format!("Redis {version}"),
        |valkey| format!("Valkey {valkey}"),
    );
    if major.is_some_and(|major: u32| major < 7) {
        return Check::new("version", Mood::Bad, found)
            .hint("pmq needs Redis 7.0 or newer, or Valkey");
    }
    Check::good("version", found)
}

/// A replica, which takes no tasks; nothing to say about a primary.
fn role(server: &ServerReport) -> Option<Check> {
    let is_replica = server.field("role") == Some("slave");
    is_replica.then(|| {
        Check::new("role", Mood::Bad, "a replica, which takes no tasks")
            .hint("use the address of its primary")
    })
}

/// How full it is, and what it does when it is full. The `local` broker needs no limit: its machine is the user's.
fn memory(server: &ServerReport, local: bool) -> Check {
    let used = server.field("used_memory_human").unwrap_or("unknown");
    let max = server
        .field("maxmemory")
        .and_then(|max| max.parse::<u64>().ok());
    let policy = server.field("maxmemory_policy").unwrap_or("noeviction");
    match max {
        None => Check::new("memory", Mood::Doubtful, "limit and eviction policy are unknown"),
        Some(0) if local => Check::good("memory", format!("{used} used, no limit")),
        Some(0) => Check::new("memory", Mood::Doubtful, format!("{used} used, no limit"))
            .hint("set maxmemory below what the machine has, with maxmemory-policy noeviction: a full Redis refuses new tasks, a killed one loses some"),
        Some(_) if policy != "noeviction" => {
            Check::new("memory", Mood::Bad, format!("{used} used; it may evict tasks (maxmemory-policy {policy})"))
                .hint("run `redis-cli CONFIG SET maxmemory-policy noeviction`, and set the same in redis.conf")
        }
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

/// What may be lost when the server's process is killed, and when the power fails.
fn durability(server: &ServerReport, settings: &BTreeMap<String, String>) -> Check {
    let failed = [
        "aof_last_write_status",
        "aof_last_bgrewrite_status",
        "rdb_last_bgsave_status",
    ]
    .into_iter()
    .find(|field| server.field(field).is_some_and(|status| status != "ok"));
    if let Some(field) = failed {
        let found = format!("the last write to disk failed ({field})");
        return Check::new("persistence", Mood::Bad, found)
            .hint("look at the server's log and its disk");
    }
    let setting = |name: &str| settings.get(name).map(String::as_str);
    match server.field("aof_enabled") {
        Some("1") => append_only(setting("appendfsync")),
        Some(_) => snapshots(setting("save")),
        None => Check::new("persistence", Mood::Doubtful, "unknown"),
    }
}

fn append_only(fsync: Option<&str>) -> Check {
    let found = match fsync {
        Some("always") => {
            "AOF, appendfsync always: loses nothing, neither when its process is killed nor when the power fails"
        }
        Some("everysec") => {
            "AOF, appendfsync everysec: loses nothing when its process is killed, about the last second when the power fails"
        }
        Some("no") => {
            return Check::new("persistence", Mood::Doubtful, "AOF, appendfsync no: loses nothing when its process is killed, all that the system had not written yet when the power fails")
                .hint("write at least once a second: `CONFIG SET appendfsync everysec`, and the same in redis.conf");
        }
        _ => {
            "AOF, appendfsync unknown: loses nothing when its process is killed, with the usual everysec about the last second when the power fails"
        }
    };
    Check::good("persistence", found)
}

fn snapshots(save: Option<&str>) -> Check {
    let found = match save {
        Some("") => {
            "nothing is written to disk: all is lost when its process is killed or the power fails"
        }
        Some(_) => {
            "RDB snapshots only: all since the last snapshot is lost when its process is killed or the power fails"
        }
        None => {
            "no AOF: all since the last snapshot, if any, is lost when its process is killed or the power fails"
        }
    };
    Check::new("persistence", Mood::Doubtful, found).hint(AOF)
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

    fn durability_of(aof: &str, settings: &[(&str, &str)]) -> (Mood, String) {
        let settings = settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let check = durability(&server(&[("aof_enabled", aof)]), &settings.collect());
        (check.mood, check.found)
    }

    #[test]
    fn what_may_be_lost_is_said_for_each_way_to_write() {
        let cases = [
            (
                "1",
                Some(("appendfsync", "always")),
                Mood::Good,
                "loses nothing, neither",
            ),
            (
                "1",
                Some(("appendfsync", "everysec")),
                Mood::Good,
                "about the last second",
            ),
            (
                "1",
                Some(("appendfsync", "no")),
                Mood::Doubtful,
                "not written yet",
            ),
            ("1", None, Mood::Good, "unknown"),
            (
                "0",
                Some(("save", "3600 1")),
                Mood::Doubtful,
                "RDB snapshots only",
            ),
            (
                "0",
                Some(("save", "")),
                Mood::Doubtful,
                "nothing is written",
            ),
            ("0", None, Mood::Doubtful, "if any"),
        ];
        for (aof, setting, mood, words) in cases {
            let (is, found) = durability_of(aof, setting.as_slice());
            assert!(is == mood && found.contains(words), "{found}");
        }
        let broken = server(&[("aof_enabled", "1"), ("aof_last_write_status", "err")]);
        assert_eq!(durability(&broken, &BTreeMap::new()).mood, Mood::Bad);
    }

    #[test]
    fn memory_is_bad_when_almost_full_or_when_it_evicts() {
        let full = server(&[
            ("maxmemory", "100"),
            ("used_memory", "95"),
            ("used_memory_human", "95B"),
        ]);
        assert_eq!(memory(&full, false).mood, Mood::Bad);
        let free = [("maxmemory", "100"), ("used_memory", "5")];
        assert_eq!(memory(&server(&free), false).mood, Mood::Good);
        let evicting = [&free[..], &[("maxmemory_policy", "allkeys-lru")]].concat();
        assert_eq!(memory(&server(&evicting), false).mood, Mood::Bad);
        let unlimited = server(&[("maxmemory", "0")]);
        assert_eq!(memory(&unlimited, false).mood, Mood::Doubtful);
        assert_eq!(memory(&unlimited, true).mood, Mood::Good);
    }

    #[test]
    fn what_can_take_no_tasks_is_bad() {
        assert!(role(&server(&[("role", "master")])).is_none());
        assert!(role(&server(&[("role", "slave")])).is_some());
        assert_eq!(
            version(&server(&[("redis_version", "6.2.1")])).mood,
            Mood::Bad
        );
        assert_eq!(
            version(&server(&[("redis_version", "7.0.1")])).mood,
            Mood::Good
        );
    }
}
