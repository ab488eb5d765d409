//! Takes a lock, writes to a store that asks for the fence, and gives the lock back.

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::time::Duration;

use anyhow::Result;
use pmq_broker::Permit;
use rustix::fs::{FlockOperation, flock};

use super::{Stage, name};
use crate::history::{Known, What, now};

const PATIENCE: Duration = Duration::from_secs(2);
const ACTS: u32 = 10;

/// Takes the lock again and again until it is asked to end.
pub(super) async fn play(stage: &Stage, lock: &str) -> Result<()> {
    let handle = stage.broker.lock(&name(lock)).with_lease(stage.lease());
    let mut rng = stage.rng();
    while !stage.stop.is_cancelled() {
        let began = now();
        match handle.acquire_timeout(PATIENCE).await {
            Ok(Some(permit)) => {
                let (lock_name, fence) = (lock.to_owned(), permit.fence());
                stage.recorder.record(What::Acquired {
                    lock: lock_name,
                    fence,
                    began,
                });
                hold(stage, (lock, permit), &mut rng).await?;
            }
            Ok(None) => {}
            Err(_) => stage.pause(Duration::from_millis(100)).await,
        }
        stage.pause(Duration::from_millis(rng.u64(..20))).await;
    }
    Ok(())
}

/// Does guarded work for as long as the lock is held, at most for a moment.
async fn hold(
    stage: &Stage,
    (lock, permit): (&str, Permit),
    rng: &mut fastrand::Rng,
) -> Result<()> {
    let (lock, fence) = (lock.to_owned(), permit.fence());
    for _ in 0..ACTS {
        // The moment comes first: a process that is stopped after it finds the lease lost, or was in time.
        let at = now();
        if permit.is_lost() {
            stage.recorder.record(What::Lost {
                lock: lock.clone(),
                fence,
            });
            break;
        }
        stage.recorder.record(What::Held {
            lock: lock.clone(),
            fence,
            at,
        });
        let accepted = write_guarded(stage, &lock, fence)?;
        stage.recorder.record(What::Guarded {
            lock: lock.clone(),
            fence,
            accepted,
        });
        tokio::time::sleep(Duration::from_millis(rng.u64(..10))).await;
    }
    let outcome = if permit.release().await.is_ok() {
        Known::Ok
    } else {
        Known::Info
    };
    stage.recorder.record(What::Released {
        lock,
        fence,
        outcome,
    });
    Ok(())
}

/// A store outside of Redis that remembers the highest fence: answers whether it took the write.
fn write_guarded(stage: &Stage, lock: &str, fence: u64) -> Result<bool> {
    let path = stage.brief.directory.join(format!("{lock}.store"));
    let mut store = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)?;
    flock(&store, FlockOperation::LockExclusive)?;
    let mut text = String::new();
    store.read_to_string(&mut text)?;
    let accepted = text.parse().unwrap_or(0) <= fence;
    if accepted {
        store.rewind()?;
        store.write_all(fence.to_string().as_bytes())?;
    }
    Ok(accepted)
}
