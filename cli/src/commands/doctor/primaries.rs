//! What there is to say where servers have replicas, or share the slots of a Redis Cluster; and what that promises.

use pmq_broker::Durability;
use pmq_broker::connection::Primary;

use super::Check;
use crate::output::Mood;
use crate::plural::counted;

const SLOTS: u32 = 16_384;
/// A replica this far behind would lose a good deal.
const BEHIND: u64 = 1 << 20;

/// The replicas of a primary; nothing to say about a server that is alone on purpose.
pub(super) fn replicas(primary: &Primary) -> Option<Check> {
    let configured = primary
        .report
        .field("connected_slaves")
        .is_some_and(|n| n != "0");
    if !configured && primary.slots.is_none() {
        return None;
    }
    let slots = primary.slots.map_or(String::new(), |slots| {
        format!("{}, ", counted(u64::from(slots), "slot"))
    });
    let lags = primary.lags();
    let Some(least) = lags.iter().min() else {
        let found = format!("{slots}no replica is connected");
        return Some(
            Check::new("replicas", Mood::Doubtful, found)
                .hint("without one nobody takes over where it fails"),
        );
    };
    let replicas = counted(lags.len() as u64, "replica");
    let found = format!(
        "{slots}{replicas}, the next {} behind",
        counted(*least, "byte")
    );
    let mood = if *least > BEHIND {
        Mood::Doubtful
    } else {
        Mood::Good
    };
    Some(Check::new("replicas", mood, found))
}

/// Whether somebody has each slot; nothing to say where there are none.
pub(super) fn slots(primaries: &[Primary]) -> Option<Check> {
    let slots: u32 = primaries
        .iter()
        .map(|primary| primary.slots)
        .sum::<Option<u32>>()?;
    let found = format!(
        "{slots} of {SLOTS}, on {}",
        counted(primaries.len() as u64, "server")
    );
    Some(if slots == SLOTS {
        Check::good("slots", found)
    } else {
        Check::new("slots", Mood::Bad, found)
            .hint("`redis-cli --cluster check HOST:PORT` tells which are missing")
    })
}

/// What each mode promises, and which is in use.
pub(super) fn promises(in_use: Durability) -> impl Iterator<Item = Check> {
    let of_each = Durability::ALL.into_iter().flat_map(move |mode| {
        let note = if mode == in_use { " (in use)" } else { "" };
        let promises = mode.promises().into_iter();
        promises.map(move |(event, lost)| format!("{mode}{note}, lost if {event}: {lost}"))
    });
    of_each.map(|found| Check::good("promise", found))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use pmq_broker::connection::ServerReport;

    use super::*;

    fn primary(slots: Option<u32>, info: &[(&str, &str)]) -> Primary {
        let mut report = ServerReport::default();
        for (name, value) in info {
            report.info.insert((*name).to_owned(), (*value).to_owned());
        }
        Primary {
            address: "h:1".into(),
            slots,
            report,
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn a_lone_server_needs_no_replica_and_a_node_of_a_cluster_does() {
        assert!(replicas(&primary(None, &[("connected_slaves", "0")])).is_none());
        let check = replicas(&primary(Some(5461), &[("connected_slaves", "0")])).unwrap();
        assert!(check.mood == Mood::Doubtful && check.found.starts_with("5461 slots, no"));
        let info = [
            ("connected_slaves", "1"),
            ("master_repl_offset", "9"),
            ("slave0", "ip=h,port=2,state=online,offset=8,lag=0"),
        ];
        let check = replicas(&primary(None, &info)).unwrap();
        assert!(
            check.mood == Mood::Good && check.found.ends_with("1 byte behind"),
            "{}",
            check.found
        );
    }

    #[test]
    fn slots_that_nobody_has_are_bad() {
        let of = |slots: [u32; 2]| slots.map(|slots| primary(Some(slots), &[]));
        assert!(slots(&of([8192, 8192])).is_some_and(|check| check.mood == Mood::Good));
        assert!(slots(&of([8192, 8191])).is_some_and(|check| check.mood == Mood::Bad));
        assert!(slots(&[primary(None, &[])]).is_none());
    }
}
