//! What the fleet that is up can do.

use serde::Deserialize;

use crate::broker::Broker;
use crate::error::Result;
use crate::ids::Name;

/// The part of a worker's presence that is read here.
#[derive(Deserialize)]
struct About {
    queues: Vec<String>,
    slots: usize,
}

/// How many tasks the workers that are up can run at once: those of one queue, or all.
pub async fn slots(broker: &Broker, queue: Option<&Name>) -> Result<usize> {
    let workers = broker.fleet().await?;
    let abouts = workers
        .iter()
        .filter_map(|text| serde_json::from_str::<About>(text).ok());
    let serves = |about: &About| match queue {
        Some(queue) => about.queues.iter().any(|name| name == queue.as_str()),
        None => true,
    };
    Ok(abouts.filter(serves).map(|about| about.slots).sum())
}
