//! What a worker can't run, or can't even read: offered to others, or kept as a dead letter with its bytes.

use std::time::Duration;

use pmq_broker::task_queue::State;
use pmq_broker::{Completion, Outcome, Task, TaskId, envelope};
use pmq_tests::{eventually, eventually_async};

use crate::fleet::{Fleet, SOON, delay_of};
use crate::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_one_worker_refuses_runs_at_once_on_another() {
    let fleet = Fleet::new().await;
    let _allowing = fleet.worker("-c 1 --name allowing --allow-commands");
    let run_all = async || {
        for _ in 0..40 {
            fleet.submit(&fleet.sh("true")).await;
        }
        let completions = fleet.completions(40).await;
        for completion in completions.values() {
            assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
            assert_eq!(completion.worker, "allowing");
        }
        completions.values().map(delay_of).max().unwrap()
    };
    // What one slot needs for all of them here and now.
    let alone = run_all().await;
    let _refusing = fleet.worker("-c 8 --name refusing");
    let longest = run_all().await;
    assert!(
        longest < alone * 3 + Duration::from_secs(2),
        "{longest:?}, and {alone:?} where nobody refuses"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_one_worker_does_not_know_runs_at_once_on_another() {
    let fleet = Fleet::new().await;
    let _ignorant = fleet.worker("-c 8 --allow-commands");
    let _knowing = fleet.handlers(1);
    for _ in 0..40 {
        fleet.submit(&Task::handler("record", "")).await;
    }
    for completion in fleet.completions(40).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
        assert!(
            delay_of(completion) < Duration::from_secs(2),
            "{completion:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_allows_is_a_dead_letter_that_says_how_to_allow_it() {
    let completion = refused_for_five_minutes(|fleet| fleet.sh("true")).await;
    let error = completion.report.error.unwrap();
    assert!(
        error.contains("--allow-commands") && error.contains("[tasks."),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_a_dead_letter_that_names_it() {
    let completion = refused_for_five_minutes(|_| Task::handler("no-such-task", "")).await;
    let error = completion.report.error.unwrap();
    assert!(error.contains("'no-such-task'"), "{error}");
}

/// Has a worker refuse a task, and five minutes and many refusals pass in the queue's own book.
async fn refused_for_five_minutes(task: impl FnOnce(&Fleet) -> Task) -> Completion {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1");
    let id = fleet.submit(&task(&fleet)).await;
    let mut store = Store::of(&fleet).await;
    eventually("it is refused", SOON, || store.refused_ms(id));
    let found = fleet.queue.find(id).await.unwrap();
    assert!(found.state != State::Dead, "it is offered for five minutes");
    store.exhaust_patience(id);
    let completion = fleet.completion().await;
    assert_eq!((completion.id, completion.outcome), (id, Outcome::Dead));
    assert_eq!(fleet.queue.find(id).await.unwrap().state, State::Dead);
    completion
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_a_newer_version_is_left_for_newer_workers() {
    let fleet = Fleet::new().await;
    let mut newer = envelope::encode(&fleet.sh("true")).unwrap().to_vec();
    newer[0] += 1;
    let mut store = Store::of(&fleet).await;
    let id = store.push(&newer);
    let _worker = fleet.worker("-c 1 --allow-commands");
    eventually("it is refused", SOON, || store.refused_ms(id));
    store.exhaust_patience(id);
    let completion = fleet.completion().await;
    assert_eq!((completion.id, completion.outcome), (id, Outcome::Dead));
    let error = completion.report.error.unwrap();
    assert!(error.contains("a newer worker may run it"), "{error}");
    assert_eq!(store.envelope(id), newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_envelope_is_a_dead_letter_with_its_bytes_and_others_go_on() {
    let fleet = Fleet::new().await;
    let good = fleet.sh("echo fine");
    let whole = envelope::encode(&good).unwrap().to_vec();
    let header = 27..27 + usize::from(whole[23]);
    let mut no_json = whole.clone();
    no_json[header.start] = b'?';
    let mut priority = whole.clone();
    priority[3] = 200;
    let garbage = [
        Vec::new(),
        vec![0],
        b"{\"argv\":[\"true\"]}".to_vec(),
        vec![0xff; 300],
        whole[..26].to_vec(),
        whole[..header.end - 3].to_vec(),
        no_json,
        priority,
    ];
    let mut store = Store::of(&fleet).await;
    let ids: Vec<TaskId> = garbage.iter().map(|bytes| store.push(bytes)).collect();
    fleet.submit(&good).await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let completions = fleet.completions(garbage.len() + 1).await;
    assert_eq!(completions[&good.id].outcome, Outcome::Ok);
    for (id, bytes) in ids.iter().zip(&garbage) {
        assert_eq!(completions[id].outcome, Outcome::Dead, "{bytes:?}");
        assert!(completions[id].report.error.is_some());
        assert_eq!(&store.envelope(*id), bytes);
    }
    assert_eq!(
        fleet.queue.status().await.unwrap().dead,
        garbage.len() as u64
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_ends_the_worker_with_a_sentence_and_loses_nothing() {
    let fleet = Fleet::new().await;
    let mut store = Store::of(&fleet).await;
    for part in [
        "meta",
        "tasks",
        "running",
        "scheduled",
        "workers",
        "claims",
        "attempts",
        "ready:5",
        "wake",
    ] {
        let id = fleet.submit(&fleet.sh("true")).await;
        store.spoil(part);
        let worker = fleet.pmq().run([
            "worker",
            "-q",
            fleet.queue.name().as_str(),
            "--completions",
            "done",
            "--burst",
            "--allow-commands",
        ]);
        let said = worker.error_text();
        assert_eq!(worker.code(), 1, "{part}: {said}");
        // The first that a worker asks is how many shards there are.
        let call = if part == "meta" { "open" } else { "claim" };
        let errors: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("error:"))
            .collect();
        assert!(
            errors.len() == 1
                && errors[0].contains(&format!("unexpected way to {call}"))
                && said.contains("hint:"),
            "{part}: {said}"
        );
        store.mend(part);
        let worker = fleet.worker("--burst --allow-commands");
        let _ = worker.wait().expect_code(0);
        let completion = fleet.completion().await;
        assert_eq!(
            (completion.id, completion.outcome),
            (id, Outcome::Ok),
            "{part}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_key_is_spoilt_while_it_waits_says_so_too() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let mut store = Store::of(&fleet).await;
    eventually_async("it has claimed once", SOON, async || {
        let meta = fleet.queue.status().await.ok()?.meta;
        meta.contains_key("seen").then_some(())
    })
    .await;
    store.spoil("scheduled");
    let ended = worker.wait().expect_code(1);
    assert!(
        ended.error_text().contains("unexpected way to claim"),
        "{}",
        ended.error_text()
    );
}
