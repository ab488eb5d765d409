//! Calls over the queue's backlog: what they cost must not depend on how much waits.

use anyhow::Result;
use pmq_broker::{Task, envelope};
use redis::Connection;

use super::rates::Who;
use super::{Options, SAME, SIZE};
use crate::figure::{Figure, Section};
use crate::floor::{Keys, Plain};
use crate::role::{Role, body};
use crate::site::Site;
use crate::stats::median;

const BACKLOGS: [usize; 4] = [0, 100_000, 1_000_000, 10_000_000];
/// Tasks of a call.
const BATCH: usize = 64;
/// Calls of each kind.
const ROUNDS: usize = 1000;
/// Tasks that one script writes, so that the server is never busy for long.
const STEP: usize = 5000;

/// Writes tasks as submit leaves them: envelopes in a hash, ids on a list.
const FILL: &str = "
for first = tonumber(ARGV[1]), tonumber(ARGV[2]), 500 do
  local fields, ids = {}, {}
  for n = first, math.min(first + 499, tonumber(ARGV[2])) do
    ids[#ids + 1] = struct.pack('>I4I4I4I4', 1, 0, 0, n)
    fields[#fields + 1], fields[#fields + 2] = ids[#ids], ARGV[3]
  end
  redis.call('HSET', KEYS[1], unpack(fields))
  redis.call('RPUSH', KEYS[2], unpack(ids))
end";

pub(super) async fn all(site: &Site, options: &Options) -> Result<Section> {
    let note = format!(
        "{ROUNDS} calls of {BATCH} tasks each on top of a backlog, which a script has written as submit would; {SAME}, on a \
         backlog of its own."
    );
    let mut section = Section::new("Over backlog", &note);
    for backlog in BACKLOGS.into_iter().filter(|n| *n <= options.backlog) {
        let (mut submit, mut claim) = (Vec::new(), Vec::new());
        for who in [Who::Pmq, Who::Plain(Plain::Same)] {
            who.prepare(site).await?;
            let keys = keys(site, who);
            fill(&mut site.connect()?, &keys, backlog)?;
            let role = match who {
                Who::Pmq => Role::Steps(ROUNDS, BATCH),
                Who::Plain(_) => Role::FloorSteps(ROUNDS, BATCH),
            };
            let mut answer = site.perform_one(&role).await?;
            submit.push(median(answer.samples("submit")));
            claim.push(median(answer.samples("claim")));
        }
        for (name, times) in [("submit", submit), ("claim", claim)] {
            let figure = Figure::new(
                format!("{name}_backlog_{backlog}_us"),
                "µs a call, p50",
                times[0],
            );
            section.push(figure.floor(times[1]));
        }
    }
    site.clear().await?;
    Ok(section)
}

/// The hash of tasks and the list of ready ids.
fn keys(site: &Site, who: Who) -> [String; 2] {
    match who {
        Who::Pmq => {
            let queue = site.queue();
            let fixed = queue.first().keys().fixed();
            let key = |part: &str| {
                let key = fixed.iter().find(|key| key.ends_with(part));
                key.cloned().unwrap_or_default()
            };
            [key(":tasks"), key(":ready:5")]
        }
        Who::Plain(_) => {
            let keys = Keys::new(&site.config);
            [keys.part("tasks"), keys.part("ready")]
        }
    }
}

/// Writes a backlog of pmq's own.
pub(super) fn fill_queue(site: &Site, tasks: usize) -> Result<()> {
    fill(&mut site.connect()?, &keys(site, Who::Pmq), tasks)
}

fn fill(connection: &mut Connection, keys: &[String; 2], tasks: usize) -> Result<()> {
    let envelope = envelope::encode(&Task::handler("noop", body(SIZE)))?;
    for start in (0..tasks).step_by(STEP) {
        redis::cmd("EVAL")
            .arg(FILL)
            .arg(2)
            .arg(keys)
            .arg(start)
            .arg(tasks.min(start + STEP) - 1)
            .arg(envelope.as_ref())
            .exec(connection)?;
    }
    Ok(())
}
