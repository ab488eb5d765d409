//! Cancelling: what runs is stopped at once, what waits never runs, and neither holds up others.

use std::time::{Duration, Instant};

use pmq_broker::task_queue::{Cancelled, Signal};
use pmq_broker::{Outcome, Task, TaskId};

use crate::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_is_told_to_end_within_a_second() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "trap 'echo bye; exit 9' TERM; record; while :; do sleep 0.02; done";
    let id = fleet.submit(&fleet.sh(script)).await;
    fleet.wait_for_record(1);
    let asked = Instant::now();
    let answers = fleet.queue.cancel(&[id], Signal::Terminate).await.unwrap();
    assert_eq!(answers, [Cancelled::Stopping]);
    let completion = fleet.completion().await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        (completion.outcome, completion.exit),
        (Outcome::Cancelled, Some(9))
    );
    assert_eq!(completion.output().0, b"bye\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_ends_a_command_that_ignores_sigterm_within_a_second() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --kill-after 10m --allow-commands");
    let id = fleet
        .submit(&fleet.sh("trap '' TERM; record; while :; do sleep 0.02; done"))
        .await;
    fleet.wait_for_record(1);
    let asked = Instant::now();
    fleet.queue.cancel(&[id], Signal::Terminate).await.unwrap();
    fleet.queue.cancel(&[id], Signal::Kill).await.unwrap();
    let completion = fleet.completion().await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        (completion.outcome, completion.exit),
        (Outcome::Cancelled, Some(-9))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_handler_is_stopped() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(1);
    let id = fleet.submit(&Task::handler("wait", "never")).await;
    fleet.wait_for_record(1);
    fleet.queue.cancel(&[id], Signal::Terminate).await.unwrap();
    assert_eq!(fleet.completion().await.outcome, Outcome::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_behind_a_hundred_thousand_cancelled_ones_runs() {
    const CANCELLED: usize = 100_000;
    let fleet = Fleet::new().await;
    let tasks: Vec<Task> = (0..CANCELLED).map(|_| Task::command(["true"])).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    let live = fleet.submit(&fleet.sh("record")).await;
    let answers = fleet.queue.cancel(&ids, Signal::Terminate).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Cancelled::Cancelled));
    let started = Instant::now();
    let _worker = fleet.worker("-c 1 --allow-commands");
    let completion = fleet.completion().await;
    assert_eq!((completion.id, completion.outcome), (live, Outcome::Ok));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(fleet.record().len(), 1, "no cancelled one ran");
}
