//! Objects as arguments of a process: what its parent holds, it meets there.

use std::time::Duration;

use pmq_broker::typed::Task;
use pmq_broker::{Barrier, Condition, Error, Process, ProcessError, Semaphore};

use crate::fleet::{Fleet, SOON};

type Objects = (Semaphore, Semaphore, Semaphore, Condition, Barrier);

/// Uses all of its arguments together with its parent; answers what it found.
pub(crate) const MEET: Task<Objects, Vec<String>> = Task::new("meet");
const ALONE: Task<Barrier, ()> = Task::new("alone");
const BARRIER_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn meet(objects: Objects) -> Result<Vec<String>, Error> {
    let (semaphore, bounded, lock, condition, barrier) = objects;
    let _second = semaphore.acquire_timeout(SOON).await?;
    let third = semaphore.acquire_nowait().await?;
    let too_many = bounded.release().await;
    let mutual = lock.acquire_nowait().await?;
    let permit = condition.acquire().await?;
    // The parent has the lock next, and notifies.
    let arrived = barrier.wait().await?;
    let (permit, notified) = condition.wait_timeout(permit, SOON).await?;
    permit.release().await?;
    Ok(vec![
        format!("third {}", third.is_some()),
        format!("bounded {}", matches!(too_many, Err(Error::NotHeld { .. }))),
        format!("lock {}", mutual.is_some()),
        format!("notified {notified}"),
        format!("arrived {}", arrived < barrier.parties()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn semaphores_conditions_and_barriers_travel_to_a_process() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(1);
    let broker = fleet.queue.broker();
    let (semaphore, bounded) = (
        broker.anonymous_semaphore(2),
        broker.anonymous_bounded_semaphore(1),
    );
    let lock = broker.anonymous_lock();
    let condition = broker.anonymous_lock().condition(fleet.queue.name());
    let barrier = broker.anonymous_barrier(2).with_timeout(BARRIER_TIMEOUT);
    let _first = semaphore.acquire().await.unwrap();
    let _mutual = lock.acquire().await.unwrap();
    assert_eq!(bounded.value().await.unwrap(), 1);
    let objects = (
        semaphore,
        bounded,
        lock.clone().into(),
        condition.clone(),
        barrier.clone(),
    );
    let child = Process::new(MEET, &objects).unwrap();
    let mut child = child.queue(fleet.queue.name().clone());
    child.start(broker).await.unwrap();
    barrier.wait().await.unwrap();
    let permit = condition.acquire().await.unwrap();
    condition.notify_all(&permit).await.unwrap();
    permit.release().await.unwrap();
    let expected = [
        "third false",
        "bounded true",
        "lock false",
        "notified true",
        "arrived true",
    ];
    assert_eq!(child.result(MEET).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_are_travels_as_data() {
    let fleet = Fleet::new().await;
    let broker = fleet.queue.broker();
    let name = fleet.queue.name();
    let barrier = broker.barrier(name, 3).with_timeout(BARRIER_TIMEOUT);
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap().to_string();
    assert_eq!(
        json(serde_json::to_value(broker.bounded_semaphore(name, 3))),
        format!(r#"{{"bounded":true,"kind":"semaphore","name":"{name}","permits":3}}"#)
    );
    let text = json(serde_json::to_value(&barrier));
    assert_eq!(
        text,
        format!(r#"{{"kind":"barrier","name":"{name}","parties":3,"timeout_ms":30000}}"#)
    );
    let other = broker.clone();
    let (read, refused) = other
        .scope(async {
            (
                serde_json::from_str::<Barrier>(&text),
                serde_json::from_str::<Semaphore>(&text).err(),
            )
        })
        .await;
    assert_eq!(read.unwrap().parties(), 3);
    assert_eq!(refused.unwrap().to_string(), "a barrier is no semaphore");
    assert!(serde_json::from_str::<Barrier>(&text).is_err(), "no broker");

    let acting = barrier.with_action(|| async { Ok::<_, std::fmt::Error>(()) });
    let error = Process::new(ALONE, &acting).unwrap_err();
    let ProcessError::Arguments(reason) = error else {
        panic!("{error}");
    };
    assert!(reason.to_string().contains("with_action"), "{reason}");
}
