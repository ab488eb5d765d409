//! Queues that earlier runs left on the local broker because they were killed.
use std::time::Duration;

use pmq_broker::{Broker, Name};

use crate::{fleet, when};

/// A queue younger than this may belong to a run that has not joined it yet.
const YOUNG: Duration = Duration::from_secs(60);
const PREFIX: &str = "map-";
/// Bits of the number in a name that are random; those before them are the time in ms.
const RANDOM: u32 = 20;

/// A name for the queue of a run, which tells when the run began.
pub(crate) fn name() -> pmq_broker::Result<Name> {
    let random = fastrand::u64(..1 << RANDOM);
    Name::new(format!(
        "{PREFIX}{:016x}",
        when::now_ms() << RANDOM | random
    ))
}

/// Deletes the queues of runs of which neither the run nor a worker lives any more.
pub(crate) async fn delete(broker: &Broker) -> pmq_broker::Result<()> {
    let long_ago = when::now_ms().saturating_sub(YOUNG.as_millis() as u64);
    let mut names = broker.queues().await?;
    names.retain(|name| began_ms(name).is_some_and(|ms| ms < long_ago));
    if names.is_empty() {
        return Ok(());
    }
    let workers = fleet::workers(broker).await?;
    for name in names {
        let queue = broker.task_queue(&name);
        // A run that was only stopped for a while has workers that are up.
        let is_served = workers.iter().any(|worker| worker.serves(&name));
        if !is_served && queue.is_deserted().await? {
            tracing::info!("deletes queue {name}, whose run was killed");
            queue.delete().await?;
        }
    }
    Ok(())
}

fn began_ms(name: &Name) -> Option<u64> {
    let digits = name.as_str().strip_prefix(PREFIX)?;
    let number = (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())??;
    Some(number >> RANDOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_when_its_run_began() {
        let before = when::now_ms();
        let began = began_ms(&name().unwrap()).unwrap();
        assert!((before..=when::now_ms()).contains(&began));
        for other in ["map-1", "default", "map-xyz4567890123456"] {
            assert_eq!(began_ms(&Name::new(other).unwrap()), None, "{other}");
        }
    }
}
