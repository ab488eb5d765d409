//! One moment of a queue: everything that a shard says of its tasks, read in one atomic call.

use std::collections::{BTreeMap, BTreeSet};

use pmq_broker::keys::ShardKeys;

use super::site::Site;
use crate::checker::Shard;
use crate::history::What;
use crate::role::{COMPLETIONS, name};

/// The keys stand in the order of the library's functions.
const READ: &str = r"
    local ready = {}
    for i = 20, 29 do
      for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do ready[#ready + 1] = id end
    end
    for _, id in ipairs(redis.call('LRANGE', KEYS[14], 0, -1)) do ready[#ready + 1] = id end
    return {
      redis.call('HKEYS', KEYS[2]), ready, redis.call('SMEMBERS', KEYS[15]), redis.call('ZRANGE', KEYS[4], 0, -1),
      redis.call('HGETALL', KEYS[3]), redis.call('ZRANGE', KEYS[8], 0, -1), redis.call('ZRANGE', KEYS[5], 0, -1),
      redis.call('LLEN', KEYS[#KEYS]),
    }
";

type Ids = Vec<Vec<u8>>;
type Answer = (Ids, Ids, Ids, Ids, Ids, Ids, Ids, u64);

/// Reads a shard; `None` where the server does not answer. What the harness itself pushed into Redis is left out.
pub fn read(site: &mut Site, queue: &str, junk: &BTreeSet<Vec<u8>>) -> Option<Shard> {
    let keys = ShardKeys::new(&name("pmq"), &name(queue));
    let mut command = redis::cmd("EVAL");
    command.arg(READ).arg(keys.fixed().len() + 1);
    command.arg(keys.fixed()).arg(keys.done(&name(COMPLETIONS)));
    let (tasks, ready, holes, scheduled, running, dead, workers, completions): Answer =
        site.ask(&command)?;
    let ours = |ids: Ids| -> BTreeSet<Vec<u8>> {
        ids.into_iter().filter(|id| !junk.contains(id)).collect()
    };
    let pairs: BTreeMap<_, _> = running
        .chunks_exact(2)
        .filter(|pair| !junk.contains(&pair[0]))
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect();
    Some(Shard {
        ready: ready.into_iter().filter(|id| !junk.contains(id)).collect(),
        tasks: ours(tasks),
        holes: ours(holes),
        scheduled: ours(scheduled),
        running: pairs,
        dead: ours(dead),
        workers: ours(workers),
        completions,
    })
}

/// The same as an event.
#[must_use]
pub fn event(queue: &str, shard: &Shard) -> What {
    What::Snapshot {
        queue: queue.to_owned(),
        tasks: shard.tasks.len() as u64,
        ready: shard.live_ready(),
        scheduled: shard.scheduled.len() as u64,
        running: shard.running.len() as u64,
        dead: shard.dead.len() as u64,
        completions: shard.completions,
        wrong: shard.problems(),
    }
}
