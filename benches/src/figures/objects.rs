//! Plain queues and locks.

use anyhow::Result;

use super::Options;
use crate::figure::{Figure, Section};
use crate::role::Role;
use crate::site::Site;
use crate::stats::median;

const ROUNDS: usize = 4800;

pub(super) async fn all(site: &Site, options: &Options) -> Result<Section> {
    let mut section = Section::new(
        "Queues and locks",
        "Items of 100 B, put and got by one process in batches, beside RPUSH and LPOP on a connection of the same kind. A \
         free lock, acquired and released, beside one round trip; a lock handed over among 16 waiters, beside RPUSH to a \
         BLPOP; p50.",
    );
    let items = options.tasks;
    for batch in [64, 256] {
        let items = items.div_ceil(batch) * batch;
        let rate = |seconds| items as f64 / seconds;
        let (mut pmq, mut floor) = (Vec::new(), Vec::new());
        for _ in 0..options.runs {
            let queue = site.perform_one(&Role::Queue(items, batch)).await?;
            pmq.push(rate(queue.seconds));
            let queue = site.perform_one(&Role::FloorQueue(items, batch)).await?;
            floor.push(rate(queue.seconds));
        }
        let figure = Figure::new(format!("queue_{batch}"), "items/s", median(pmq));
        section.push(figure.floor(median(floor)));
    }
    let rounds = ROUNDS.min(items);
    for (name, role) in [
        ("lock_us", Role::Lock(rounds)),
        ("lock_hand_over_us", Role::LockHandOver(rounds)),
    ] {
        let mut answer = site.perform_one(&role).await?;
        let figure = Figure::new(name, "µs, p50", median(answer.samples("pmq")));
        section.push(figure.floor(median(answer.samples("floor"))));
    }
    Ok(section)
}
