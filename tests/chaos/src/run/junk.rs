//! Records that no client of pmq writes, as a stranger or a broken program might push them.

use pmq_broker::TaskId;
use pmq_broker::keys::ShardKeys;

use super::site::{Site, USUAL_LIST};
use crate::role::{COMPLETIONS, name};

/// Pushes one of each into a queue; answers the ids.
pub(super) fn push(site: &mut Site, queue: &str, rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let keys = ShardKeys::new(&name("pmq"), &name(queue));
    let fixed = keys.fixed();
    let (tasks, scheduled, ready) = (&fixed[1], &fixed[3], &fixed[USUAL_LIST]);
    let mut ids = Vec::new();
    for envelope in envelopes(rng) {
        let id = TaskId::new().as_bytes().to_vec();
        push_pair(site, tasks, ready, (&id, &envelope));
        ids.push(id);
    }
    // Ids without a task, and one that is no id.
    let (nobody, late) = (
        TaskId::new().as_bytes().to_vec(),
        TaskId::new().as_bytes().to_vec(),
    );
    tell(
        site,
        redis::cmd("RPUSH").arg(ready).arg(&nobody).arg("short"),
    );
    tell(site, redis::cmd("ZADD").arg(scheduled).arg("1").arg(&late));
    tell(
        site,
        redis::cmd("RPUSH")
            .arg(keys.done(&name(COMPLETIONS)))
            .arg("no completion"),
    );
    ids.extend([nobody, late, b"short".to_vec()]);
    ids
}

/// Random bytes, a version from the future, one that ends too early, and one that is nested deeply.
fn envelopes(rng: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let noise = (0..200).map(|_| rng.u8(..)).collect();
    let mut future = vec![0; 64];
    future[0] = 99;
    let nested = [vec![1; 27], "[".repeat(10_000).into_bytes()].concat();
    vec![noise, future, vec![1, 0, 0], Vec::new(), nested]
}

fn push_pair(site: &mut Site, tasks: &str, ready: &str, (id, envelope): (&[u8], &[u8])) {
    tell(site, redis::cmd("HSET").arg(tasks).arg(id).arg(envelope));
    tell(site, redis::cmd("RPUSH").arg(ready).arg(id));
}

fn tell(site: &mut Site, command: &redis::Cmd) {
    let _: Option<redis::Value> = site.ask(command);
}
