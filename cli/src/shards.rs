//! The shards of a queue, as they are shown.

use comfy_table::Cell;
use pmq_broker::Name;
use pmq_broker::task_queue::{QueueStatus, ShardStatus};
use serde::Serialize;

use crate::output::{Mood, Output, count, note};
use crate::plural::counted;

/// One shard in JSON; its numbers are null where it did not answer.
#[derive(Serialize)]
pub(crate) struct Record {
    shard: usize,
    ready: Option<u64>,
    scheduled: Option<u64>,
    running: Option<u64>,
    dead: Option<u64>,
    suspects: Option<u64>,
}

/// Each shard, by number.
pub(crate) fn records(status: &QueueStatus) -> Vec<Record> {
    let record = |(shard, status): (usize, &Option<ShardStatus>)| Record {
        shard,
        ready: status.as_ref().map(|status| status.ready),
        scheduled: status.as_ref().map(|status| status.scheduled),
        running: status.as_ref().map(|status| status.running),
        dead: status.as_ref().map(|status| status.dead),
        suspects: status.as_ref().map(|status| status.suspects),
    };
    status.shards.iter().enumerate().map(record).collect()
}

/// Tells of those that did not answer, which the sums leave out.
pub(crate) fn warn(queue: &Name, status: &QueueStatus) {
    let shards = status.shards.iter().enumerate();
    let silent: Vec<String> = shards
        .filter(|(_, status)| status.is_none())
        .map(|(shard, _)| shard.to_string())
        .collect();
    if !silent.is_empty() {
        note(&format!(
            "warning: {} of queue {queue} did not answer and is left out: {}",
            counted(silent.len() as u64, "shard"),
            silent.join(", ")
        ));
    }
}

/// A table of the shards of these queues, where any has several.
pub(crate) fn show(queues: &[(Name, QueueStatus)], output: Output) -> anyhow::Result<()> {
    let several = queues.iter().filter(|(_, status)| status.shards.len() > 1);
    let rows = several.flat_map(|(name, status)| {
        let shards = status.shards.iter().enumerate();
        shards.map(move |(shard, status)| row(name, shard, status.as_ref()))
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let header = ["queue", "shard", "ready", "scheduled", "running", "dead"];
    Ok(output.table(&header, rows)?)
}

fn row(queue: &Name, shard: usize, status: Option<&ShardStatus>) -> Vec<Cell> {
    let mut row = vec![Cell::new(queue), Cell::new(shard)];
    match status {
        Some(status) => row.extend([
            Cell::new(status.ready),
            Cell::new(status.scheduled),
            Cell::new(status.running),
            count(status.dead, Mood::Bad),
        ]),
        None => row.extend([(); 4].map(|()| Cell::new("?"))),
    }
    row
}
