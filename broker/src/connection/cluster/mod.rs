//! Redis Cluster: which primary has which slots.

mod slots;
mod survey;

use std::time::Duration;

use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisResult};
use tokio::time::timeout;

use super::address::{Access, Endpoint};
use super::topology::{Directions, Map};
pub(crate) use slots::slot;
use survey::{Survey, survey};

/// How long one node has to say where the primaries are: another one is asked then.
const ASK: Duration = Duration::from_millis(500);
/// How many nodes are asked before the newest of their answers is taken, though each takes the Cluster for unwell.
const ASK_MANY: usize = 6;

/// Knows nodes of a Cluster that can be asked where the primaries are.
pub(crate) struct ClusterGuide {
    seeds: Vec<Endpoint>,
    access: Access,
}

impl ClusterGuide {
    pub(crate) fn new(seeds: Vec<Endpoint>, access: Access) -> Self {
        Self { seeds, access }
    }

    /// How its nodes are reached.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Asks known nodes in random order, and the seeds last, until one takes the Cluster for healthy and is not behind
    /// what is known; else the newest answer counts.
    pub(crate) async fn look(&self, known: &Map) -> RedisResult<Directions> {
        let mut nodes = known.nodes.clone();
        fastrand::shuffle(&mut nodes);
        nodes.extend(self.seeds.iter().cloned());
        let (mut best, mut failed): (Option<Survey>, Option<RedisError>) = (None, None);
        let mut answers = 0;
        for node in nodes {
            let found = match timeout(ASK, self.ask(&node)).await {
                Ok(Ok(found)) => found,
                Ok(Err(error)) => {
                    tracing::debug!(target: "pmq", %node, %error, "could not ask a node");
                    failed = Some(error);
                    continue;
                }
                Err(_) => continue,
            };
            answers += 1;
            let good = found.healthy && found.epoch >= known.epoch;
            let rank = |survey: &Survey| (survey.epoch, survey.healthy);
            if best.as_ref().is_none_or(|best| rank(&found) > rank(best)) {
                best = Some(found);
            }
            if good || answers >= ASK_MANY {
                break;
            }
        }
        let nobody =
            || RedisError::from((ErrorKind::Io, "no node of the cluster answered in time"));
        let found = best.ok_or_else(|| failed.unwrap_or_else(nobody))?;
        Ok(Directions {
            nodes: found.nodes(),
            epoch: found.epoch,
            ranges: found.ranges,
        })
    }

    async fn ask(&self, node: &Endpoint) -> RedisResult<Survey> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = self.access.connect(node, &config).await?;
        survey(&mut connection, node).await
    }
}
