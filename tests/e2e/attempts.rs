//! What a dead worker costs a task: crashes are a budget of their own, and a poison pill ends alone.

use std::time::Duration;

use pmq_broker::{Outcome, Task};

use crate::fleet::Fleet;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_with_one_attempt_survives_two_killed_workers() {
    let fleet = Fleet::new().await;
    let task = fleet.sh("record; [ $PMQ_ATTEMPT -ge 3 ] || exec sleep 600");
    fleet.submit(&task).await;
    for crashes in 1..=2 {
        let mut worker = fleet.worker("-c 1 --lease 1s --allow-commands");
        fleet.wait_for_record(crashes);
        worker.kill();
    }
    let _worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let completion = fleet.completion().await;
    assert_eq!(
        (completion.outcome, completion.attempt, completion.exit),
        (Outcome::Ok, 3, Some(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_killed_worker_makes_a_command_a_dead_letter() {
    let fleet = Fleet::new().await;
    let id = fleet.submit(&fleet.sh("record; exec sleep 600")).await;
    for crashes in 1..=3 {
        let mut worker = fleet.worker("-c 1 --lease 1s --allow-commands");
        fleet.wait_for_record(crashes);
        worker.kill();
    }
    let _worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let completion = fleet.completion().await;
    assert_eq!(completion.outcome, Outcome::Dead);
    let error = completion.report.error.unwrap();
    assert!(error.contains("its worker died 3 times"), "{error}");
    let letters = fleet.dead_letters().await;
    assert_eq!(
        (letters.len(), letters[0].id, fleet.record().len()),
        (1, id, 3)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_kills_its_worker_is_a_dead_letter() {
    let fleet = Fleet::new().await;
    fleet
        .submit(&fleet.sh("record; kill -9 $PPID; exec sleep 600"))
        .await;
    for crashes in 1..=3 {
        let worker = fleet.worker("-c 4 --lease 1s --allow-commands");
        assert_eq!(worker.wait().code(), 137);
        assert_eq!(fleet.record().len(), crashes);
    }
    let _worker = fleet.worker("-c 4 --lease 1s --allow-commands");
    assert_eq!(fleet.completion().await.outcome, Outcome::Dead);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_handler_among_64_slots_ends_alone_in_the_dead_letters() {
    let fleet = Fleet::new().await;
    let poison = Task::handler("poison", "63");
    let mut tasks = vec![Task::handler("wait", "release"); 63];
    for task in &mut tasks {
        task.id = pmq_broker::TaskId::new();
    }
    tasks.push(poison.clone());
    fleet.queue.submit_many(&tasks).await.unwrap();
    for attempt in 1..=3 {
        let worker = fleet.handlers(64);
        assert_eq!(worker.wait().code(), 134, "the worker aborts");
        if attempt == 2 {
            std::fs::write(fleet.path("release"), "").unwrap();
        }
    }
    let _worker = fleet.handlers(64);
    let completions = fleet.completions(64).await;
    let (dead, ok): (Vec<_>, Vec<_>) = completions
        .values()
        .partition(|completion| completion.outcome == Outcome::Dead);
    assert_eq!((dead.len(), dead[0].id), (1, poison.id));
    assert!(
        ok.iter()
            .all(|completion| completion.outcome == Outcome::Ok)
    );
    let letters = fleet.dead_letters().await;
    assert_eq!((letters.len(), letters[0].id), (1, poison.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_fails_its_task_only() {
    let fleet = Fleet::new().await;
    let mut panic = Task::handler("panic", "");
    panic.retry.attempts = 1;
    let record = Task::handler("record", "");
    let _worker = fleet.handlers(1);
    fleet
        .queue
        .submit_many(&[panic.clone(), record.clone()])
        .await
        .unwrap();
    let completions = fleet.completions(2).await;
    let failed = &completions[&panic.id];
    let error = failed.report.error.clone().unwrap();
    assert!(error.contains("panicked: as it was told"), "{error}");
    assert_eq!(
        (failed.outcome, completions[&record.id].outcome),
        (Outcome::Failed, Outcome::Ok)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_is_tried_as_often_as_it_says_and_then_is_a_dead_letter() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let mut fails = fleet.sh("record; exit $PMQ_ATTEMPT");
    let mut recovers = fleet.sh("record; [ $PMQ_ATTEMPT = 2 ]");
    for task in [&mut fails, &mut recovers] {
        task.retry.attempts = 3;
        task.retry.floor = Duration::from_millis(50);
        task.retry.cap = Duration::from_millis(100);
        fleet.submit(task).await;
    }
    let completions = fleet.completions(2).await;
    let failed = &completions[&fails.id];
    assert_eq!(
        (failed.outcome, failed.attempt, failed.exit),
        (Outcome::Failed, 3, Some(3))
    );
    let recovered = &completions[&recovers.id];
    assert_eq!((recovered.outcome, recovered.attempt), (Outcome::Ok, 2));
    let letters = fleet.dead_letters().await;
    assert_eq!((letters.len(), letters[0].id), (1, fails.id));
    assert_eq!(fleet.record().len(), 5);
}
