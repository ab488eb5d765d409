//! Tasks that are submitted one by one go together while a call is under way, and none answers for another.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use pmq_broker::task_queue::{Settings, Submitted};
use pmq_broker::{Error, Result, Task, TaskId, TaskQueue};
use tokio::task::JoinSet;

use crate::typed::queue;

fn task(n: usize) -> Task {
    Task::handler("t", n.to_string())
}

/// Submits all at once, each by a call of its own; the answers in order.
async fn submit_each(queue: &TaskQueue, tasks: Vec<Task>) -> Vec<Result<Submitted>> {
    let mut answers = JoinSet::new();
    for (i, task) in tasks.into_iter().enumerate() {
        let queue = queue.clone();
        answers.spawn(async move { (i, queue.submit(&task).await) });
    }
    let mut answers = answers.join_all().await;
    answers.sort_by_key(|(i, _)| *i);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[tokio::test]
async fn a_conflict_is_the_error_of_its_own_task_alone() {
    let queue = queue("desk-conflict").await;
    let id = TaskId::new();
    queue.submit(&task(0).with_id(id)).await.unwrap();
    let mut tasks: Vec<Task> = (0..600).map(task).collect();
    tasks[300] = task(1).with_id(id);
    for (i, answer) in submit_each(&queue, tasks).await.into_iter().enumerate() {
        match answer {
            Ok(submitted) => assert_eq!((submitted, i == 300), (Submitted::New, false)),
            Err(Error::Conflict { id: at }) => assert_eq!((at, i), (id, 300)),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(queue.status().await.unwrap().ready, 600);
}

#[tokio::test]
async fn what_finds_no_room_is_refused_and_the_rest_is_in() {
    let queue = queue("desk-full").await;
    let settings = Settings {
        maxsize: Some(10),
        ..Settings::default()
    };
    queue.configure(&settings).await.unwrap();
    let answers = submit_each(&queue, (0..40).map(task).collect()).await;
    let taken = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(taken, 10);
    let refused = |answer: &Result<Submitted>| matches!(answer, Err(Error::Full { .. }));
    assert_eq!(answers.iter().filter(|answer| refused(answer)).count(), 30);
    assert_eq!(queue.status().await.unwrap().ready, 10);
}

/// Whether it is, polled once.
async fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn who_waits_is_served_though_the_call_before_was_given_up() {
    let queue = queue("desk-dropped").await;
    queue.register().await.unwrap();
    let (first, second) = (task(1), task(2));
    let mut dropped = Box::pin(queue.submit(&first));
    assert!(is_pending(&mut dropped).await);
    let mut waits = Box::pin(queue.submit(&second));
    assert!(is_pending(&mut waits).await);
    drop(dropped);
    let answer = tokio::time::timeout(Duration::from_secs(20), waits).await;
    assert_eq!(answer.unwrap().unwrap(), Submitted::New);
}
