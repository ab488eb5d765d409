//! The typed calls, on a real server: they and the functions mean the same bytes.

use std::time::Duration;

use pmq_broker::task_queue::{
    Ask, Cancelled, Claim, Claimer, Ending, Finish, Finished, Heartbeat, How, Refused, Settings,
    Signal, State, Submitted,
};
use pmq_broker::{
    Broker, Completion, Config, Due, Error, Incarnation, Name, Outcome, Sealing, Task, TaskId,
    TaskQueue,
};
use pmq_tests::RedisServer;

use crate::seed::{LEASE, name};
use crate::shard::namespace;

pub(crate) const ASK: Ask = Ask {
    n: 10,
    suspect: true,
    wait: true,
};
const TEN_SECONDS: Duration = Duration::from_secs(10);

async fn broker() -> Broker {
    broker_at(RedisServer::shared().url()).await
}

pub(crate) async fn broker_at(url: impl Into<String>) -> Broker {
    let config = Config {
        namespace: namespace(),
        ..Config::url(url)
    };
    Broker::connect(&config).await.unwrap()
}

pub(crate) async fn queue(text: &str) -> TaskQueue {
    broker().await.task_queue(&name(text))
}

pub(crate) fn worker(queue: &TaskQueue) -> (Incarnation, Claimer) {
    let who = Incarnation::new();
    let done = Name::new("done").unwrap();
    (
        who,
        queue
            .first()
            .claimer(who, Duration::from_millis(LEASE), Some(&done)),
    )
}

pub(crate) fn ended(claim: &Claim, how: How) -> Finish {
    let completion = Completion {
        exit: Some(0),
        body: "49".into(),
        ..claim.completion(how)
    };
    Finish::new(claim, how, &completion, &Sealing::default())
}

#[tokio::test]
async fn a_task_goes_through_both_queues() {
    let queue = queue("typed-through").await;
    let task = Task::handler("square", "7");
    assert_eq!(queue.submit(&task).await.unwrap(), Submitted::New);
    assert_eq!(queue.submit(&task).await.unwrap(), Submitted::Exists);
    let (_, mut claimer) = worker(&queue);
    let claim = &claimer.get_nowait(ASK).await.unwrap().tasks[0];
    assert_eq!(
        (claim.id, claim.attempt(), claimer.number()),
        (task.id, 1, 1)
    );
    let decoded = pmq_broker::envelope::decode(claim.id, &claim.envelope).unwrap();
    assert_eq!(decoded, task);
    assert!(claimer.get_nowait(ASK).await.unwrap().tasks.is_empty());
    assert_eq!(claimer.number(), 1, "an empty claim uses up no number");

    let end = ended(claim, How::Ok);
    assert_eq!(
        queue
            .first()
            .finish(std::slice::from_ref(&end))
            .await
            .unwrap(),
        [Finished::Ended]
    );
    assert_eq!(
        queue.first().finish(&[end]).await.unwrap(),
        [Finished::AlreadyDone]
    );
    assert_eq!(queue.submit(&task).await.unwrap(), Submitted::Ended);

    let mut done = queue.completions(&name("done"));
    assert_eq!(done.len().await.unwrap(), 1);
    let completion = done.get(TEN_SECONDS).await.unwrap().unwrap();
    assert_eq!(
        (completion.id, completion.result()),
        (task.id, Some(&b"49"[..]))
    );
    assert!(done.get_nowait().await.unwrap().is_none());
    done.close().await.unwrap();
}

#[tokio::test]
async fn a_full_or_conflicting_submit_is_an_error_that_says_so() {
    let queue = queue("typed-full").await;
    let settings = Settings {
        maxsize: Some(1),
        ..Settings::default()
    };
    queue.configure(&settings).await.unwrap();
    let id = TaskId::new();
    queue
        .submit(&Task::handler("t", "1").with_id(id))
        .await
        .unwrap();
    let conflict = queue
        .submit(&Task::handler("t", "2").with_id(id))
        .await
        .unwrap_err();
    assert!(
        matches!(conflict, Error::Conflict { id: found } if found == id),
        "{conflict}"
    );
    let full = queue.submit(&Task::handler("t", "3")).await.unwrap_err();
    assert!(matches!(full, Error::Full { limit: 1, .. }), "{full}");
    let (_, mut claimer) = worker(&queue);
    claimer.get_nowait(ASK).await.unwrap();
    queue.wait_for_room(TEN_SECONDS).await.unwrap();
    queue.submit(&Task::handler("t", "3")).await.unwrap();
}

#[tokio::test]
async fn a_failed_task_is_retried_found_and_buried() {
    let queue = queue("typed-failed").await;
    let mut task = Task::handler("t", "").with_completions(name("own"));
    task.retry.attempts = 2;
    task.retry.floor = Duration::ZERO;
    queue.submit(&task).await.unwrap();
    let (_, mut claimer) = worker(&queue);
    let first = claimer.get_nowait(ASK).await.unwrap().tasks.remove(0);
    assert_eq!(
        queue
            .first()
            .finish(&[ended(&first, How::Failed)])
            .await
            .unwrap(),
        [Finished::Retried]
    );
    let second = claimer.get_nowait(ASK).await.unwrap().tasks.remove(0);
    assert_eq!(second.attempt(), 2);
    assert_eq!(queue.find(task.id).await.unwrap().state, State::Running);
    assert_eq!(
        queue
            .first()
            .finish(&[ended(&second, How::Failed)])
            .await
            .unwrap(),
        [Finished::Buried]
    );

    let found = queue.find(task.id).await.unwrap();
    assert_eq!(
        (found.state, found.used, found.work),
        (State::Dead, (2, 0), Some(task.work.clone()))
    );
    let mut letters = queue.dead_letters().await.unwrap();
    let letter = letters.next().await.unwrap().unwrap();
    assert_eq!(letter.id, task.id);
    assert!(letters.next().await.unwrap().is_none());
    assert_eq!(letter.completion.as_ref().unwrap().outcome, Outcome::Failed);
    assert_eq!(queue.requeue(Some(&[task.id])).await.unwrap(), 1);
    assert_eq!(queue.find(task.id).await.unwrap().state, State::Ready);
    assert_eq!(queue.purge_dead(None).await.unwrap(), 0);
}

#[tokio::test]
async fn a_running_task_is_stopped_by_its_workers_heartbeat() {
    let queue = queue("typed-cancel").await;
    let (running, waiting) = (Task::handler("t", "1"), Task::handler("t", "2"));
    queue.submit(&running).await.unwrap();
    let (who, mut claimer) = worker(&queue);
    let claim = claimer.get_nowait(ASK).await.unwrap().tasks.remove(0);
    queue.submit(&waiting).await.unwrap();
    let ids = [running.id, waiting.id, TaskId::new()];
    let answers = queue.cancel(&ids, Signal::Kill).await.unwrap();
    assert_eq!(
        answers,
        [
            Cancelled::Stopping,
            Cancelled::Cancelled,
            Cancelled::Unknown
        ]
    );
    let mut beat = Heartbeat {
        who,
        lease: Duration::from_millis(LEASE),
        idle: None,
        carried_out: bytes::Bytes::new(),
    };
    let answer = queue.first().heartbeat(&beat).await.unwrap();
    assert_eq!(
        (answer.orders[0].id, answer.orders[0].signal),
        (running.id, Signal::Kill)
    );
    beat.carried_out = answer.raw;
    assert_eq!(
        queue.first().heartbeat(&beat).await.unwrap().orders,
        answer.orders
    );
    queue
        .first()
        .finish(&[ended(&claim, How::Cancelled)])
        .await
        .unwrap();
    let endings = queue.wait(&ids, Duration::ZERO).await.unwrap();
    assert!(matches!(&endings[0], Ending::Ended(c) if c.outcome == Outcome::Cancelled));
    assert!(matches!(&endings[1], Ending::Ended(c) if c.outcome == Outcome::Cancelled));
    assert_eq!(endings[2], Ending::Unknown);
    beat.who = Incarnation::new();
    assert!(matches!(
        queue.first().heartbeat(&beat).await.unwrap_err(),
        Error::LeaseLost { .. }
    ));
}

#[tokio::test]
async fn more_than_a_mebibyte_is_cancelled_in_several_calls() {
    let queue = queue("typed-cancel-large").await;
    let mut tasks: Vec<Task> = (0..5)
        .map(|_| Task::handler("t", vec![b'x'; 700_000]))
        .collect();
    tasks.extend((0..150).map(|_| Task::handler("t", "")));
    queue.submit_many(&tasks).await.unwrap();
    let mut ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
    ids.insert(3, TaskId::new());
    let answers = queue.cancel(&ids, Signal::Kill).await.unwrap();
    let mut expected = vec![Cancelled::Cancelled; 156];
    expected[3] = Cancelled::Unknown;
    assert_eq!(answers, expected);
    assert_eq!(queue.status().await.unwrap().ready, 0);
}

#[tokio::test]
async fn runs_are_handed_back_and_refused() {
    let queue = queue("typed-back").await;
    queue
        .submit_many(&[Task::handler("t", "1"), Task::handler("t", "2")])
        .await
        .unwrap();
    let (_, mut claimer) = worker(&queue);
    let tasks = claimer.get_nowait(ASK).await.unwrap().tasks;
    queue
        .first()
        .release(&[(tasks[0].id, tasks[0].run.clone())])
        .await
        .unwrap();
    let completion = ended(&tasks[1], How::Dead).completion;
    let refuse = async || {
        queue
            .first()
            .refuse(tasks[1].id, &tasks[1].run, &completion)
            .await
            .unwrap()
    };
    assert_eq!(
        (refuse().await, refuse().await),
        (Refused::Offered, Refused::Lost)
    );
    let status = queue.status().await.unwrap();
    assert_eq!((status.ready, status.scheduled, status.running), (1, 1, 0));
}

#[tokio::test]
async fn an_operator_pauses_counts_and_purges() {
    let queue = queue("typed-operator").await;
    let later = Task {
        due: Due::After(TEN_SECONDS),
        ..Task::handler("t", "2")
    };
    queue
        .submit_many(&[Task::handler("t", "1"), later])
        .await
        .unwrap();
    queue.pause().await.unwrap();
    let (_, mut claimer) = worker(&queue);
    assert!(claimer.get_nowait(ASK).await.unwrap().tasks.is_empty());
    assert!(queue.status().await.unwrap().paused);
    queue.resume().await.unwrap();
    let mut purged = 0;
    while let (count, true) = queue.purge_some().await.unwrap() {
        purged += count;
    }
    let status = queue.status().await.unwrap();
    assert_eq!((purged, status.ready, status.scheduled), (2, 0, 0));
    assert!(
        !queue
            .first()
            .reclaim(Duration::from_millis(LEASE))
            .await
            .unwrap()
            .more
    );
}

#[tokio::test]
async fn an_owners_private_list_goes_when_it_leaves() {
    let queue = queue("typed-owner").await;
    let owner = queue.join_as_owner(&name("private")).await.unwrap();
    let task = Task {
        owner: Some(owner.incarnation()),
        ..Task::handler("t", "").with_completions(name("private"))
    };
    queue
        .submit_many(&[
            task.clone(),
            Task {
                id: TaskId::new(),
                ..task
            },
        ])
        .await
        .unwrap();
    let (_, mut claimer) = worker(&queue);
    let claim = claimer
        .get_nowait(Ask { n: 1, ..ASK })
        .await
        .unwrap()
        .tasks
        .remove(0);
    assert!(!claim.is_orphan());
    queue
        .first()
        .finish(&[ended(&claim, How::Ok)])
        .await
        .unwrap();
    assert_eq!(queue.status().await.unwrap().completions["private"], 1);
    owner.close().await.unwrap();
    assert!(queue.status().await.unwrap().completions.is_empty());
    assert!(claimer.get_nowait(ASK).await.unwrap().tasks[0].is_orphan());
}
