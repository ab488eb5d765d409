//! I6: whatever is called, with whatever arguments, each task is in exactly one place after each call.

use std::collections::{BTreeMap, BTreeSet};

use pmq_broker::Name;
use pmq_broker::keys::ShardKeys;
use pmq_tests::fuzz::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use redis::Connection;

use crate::functions::{Change, Sent, change, loaded, record};

/// What a shard says of its tasks: all of them, the ready lists with that of suspects, the ids of these that are cancelled, the
/// delayed, the running with their workers, the dead, and the workers. The keys stand in the order of the library.
const READ: &str = r"
    local ready, running = {}, {}
    for i = 20, 29 do
      for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do ready[#ready + 1] = id end
    end
    for _, id in ipairs(redis.call('LRANGE', KEYS[14], 0, -1)) do ready[#ready + 1] = id end
    local row = redis.call('HGETALL', KEYS[3])
    for i = 1, #row, 2 do running[#running + 1] = {row[i], string.sub(row[i + 1], 1, 16)} end
    return {
      redis.call('HKEYS', KEYS[2]), ready, redis.call('SMEMBERS', KEYS[15]), redis.call('ZRANGE', KEYS[4], 0, -1),
      running, redis.call('ZRANGE', KEYS[8], 0, -1), redis.call('ZRANGE', KEYS[5], 0, -1),
    }
";

type Ids = Vec<Vec<u8>>;
type Answer = (Ids, Ids, Ids, Ids, Vec<(Vec<u8>, Vec<u8>)>, Ids, Ids);

/// The queue of a shard's calls; `None` for calls of objects and of the fleet.
fn queue_of(group: &[Sent]) -> Option<Name> {
    let key = String::from_utf8_lossy(&group[0].keys[0]).into_owned();
    let (queue, _) = key.strip_prefix("pmq:{")?.split_once("/0}:")?;
    Name::new(queue).ok()
}

/// What is wrong with a shard, in words.
fn problems(connection: &mut Connection, keys: &ShardKeys) -> Vec<String> {
    let answer: Answer = redis::cmd("EVAL")
        .arg(READ)
        .arg(keys.fixed().len())
        .arg(keys.fixed())
        .query(connection)
        .unwrap();
    let (tasks, ready, holes, scheduled, running, dead, workers) = answer;
    let holes: BTreeSet<_> = holes.into_iter().collect();
    let mut places: BTreeMap<&Vec<u8>, Vec<&str>> =
        tasks.iter().map(|id| (id, Vec::new())).collect();
    let live = ready.iter().filter(|id| !holes.contains(*id));
    let states = live
        .map(|id| (id, "ready"))
        .chain(scheduled.iter().map(|id| (id, "scheduled")))
        .chain(running.iter().map(|(id, _)| (id, "running")))
        .chain(dead.iter().map(|id| (id, "dead")));
    for (id, place) in states {
        places.entry(id).or_default().push(place);
    }
    let mut wrong: Vec<String> = places
        .iter()
        .filter(|(id, places)| places.len() != 1 || !tasks.contains(id))
        .map(|(id, places)| format!("{id:02x?} is {places:?}"))
        .collect();
    let orphans = running.iter().filter(|(_, who)| !workers.contains(who));
    wrong.extend(
        orphans.map(|(id, who)| format!("{id:02x?} runs under {who:02x?}, who has no lease")),
    );
    wrong
}

/// The calls of a shard in their order, each followed by changed copies of it where there are any.
fn play(calls: &[Sent], changed: &[(Index, Vec<Change>)]) -> Vec<Sent> {
    let mut all = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let copies = changed
            .iter()
            .filter(|(index, _)| index.index(calls.len()) == at);
        all.extend(copies.map(|(_, changes)| call.changed(changes)));
        all.push(call.clone());
    }
    all
}

#[test]
fn after_any_calls_each_task_is_in_one_place() {
    let groups = record();
    let shards: Vec<(ShardKeys, Vec<Sent>)> = groups
        .into_iter()
        .filter_map(|group| {
            let queue = queue_of(&group)?;
            Some((ShardKeys::new(&Name::new("pmq").unwrap(), &queue), group))
        })
        .collect();
    assert!(shards.len() >= 5, "the exercises use queues of their own");
    let server = loaded();
    let changed = vec((any::<Index>(), vec(change(), 1..4)), 1..12);
    fuzz((any::<Index>(), changed), |(shard, changed)| {
        let connection = &mut server.connection();
        let (keys, calls) = &shards[shard.index(shards.len())];
        redis::cmd("FLUSHDB").exec(connection).unwrap();
        for call in play(calls, &changed) {
            let answer = call.send(connection);
            let wrong = problems(connection, keys);
            prop_assert!(
                wrong.is_empty(),
                "after {}, which answered {:?}: {:?}",
                call.verb(),
                answer,
                wrong
            );
        }
        Ok(())
    });
}
