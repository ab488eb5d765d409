//! Queues of several shards: one queue to all who use it.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use pmq_broker::task_queue::{Cancelled, Ending, Settings, Signal, State, Submitted};
use pmq_broker::{Broker, Config, Due, Error, Outcome, Process, Task, TaskId};
use pmq_tests::{Redis, eventually_async, shared};
use serde_json::json;

use crate::fleet::{Fleet, SOON, collect, delay_of, name};
use crate::pool::SQUARE;
use crate::site::Site;

/// A fleet whose queue has so many shards.
async fn fleet_of(shards: u16) -> Fleet {
    let fleet = Fleet::new().await;
    fleet.queue.create(shards).await.unwrap();
    fleet
}

/// The task, on this shard of a queue that has more.
pub(crate) fn on(shard: u16, task: Task) -> Task {
    let id = TaskId::new().with_deal(shard);
    task.with_id(id)
}

/// One command for each shard.
fn one_each(fleet: &Fleet, shards: u16, script: &str) -> Vec<Task> {
    (0..shards).map(|s| on(s, fleet.sh(script))).collect()
}

fn ids(tasks: &[Task]) -> Vec<TaskId> {
    tasks.iter().map(|task| task.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_number_of_shards_each_task_runs_once_and_is_told_once() {
    for shards in [1, 4, 12] {
        let fleet = fleet_of(shards).await;
        let _workers = [fleet.handlers(3), fleet.handlers(3)];
        let tasks: Vec<Task> = (0..20 * 500)
            .map(|_| Task::handler("no such", ""))
            .collect();
        let ids: std::collections::HashSet<_> =
            tasks.iter().map(|t| t.id.shard(shards.into())).collect();
        assert_eq!(
            ids.len(),
            usize::from(shards),
            "a bulk goes round all shards"
        );
        let tasks: Vec<Task> = (0..1200)
            .map(|i| on(i, Task::handler("record", "")))
            .collect();
        let submitted = fleet.queue.submit_many(&tasks).await.unwrap();
        assert!(submitted.iter().all(|s| *s == Submitted::New));
        let completions = fleet.completions(tasks.len()).await;
        assert!(completions.values().all(|c| c.outcome == Outcome::Ok));
        assert_eq!(fleet.record().len(), tasks.len());
        let status = fleet.queue.status().await.unwrap();
        assert_eq!((status.ready, status.running), (0, 0));
        assert_eq!(status.shards.len(), usize::from(shards));
        // The same again is known, wherever it is, and in the order in which it is asked.
        let again = fleet.queue.submit_many(&tasks).await.unwrap();
        assert!(again.iter().all(|s| *s == Submitted::Ended));
        let endings = fleet.queue.watch(&ids_backwards(&tasks)).await.unwrap();
        let ended = endings.iter().map(|ending| match ending {
            Ending::Ended(completion) => completion.id,
            other => panic!("{other:?}"),
        });
        assert!(ended.eq(ids_backwards(&tasks)));
    }
}

fn ids_backwards(tasks: &[Task]) -> Vec<TaskId> {
    tasks.iter().rev().map(|task| task.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_one_key_begin_in_their_order() {
    let fleet = fleet_of(4).await;
    let keys = ["a", "b", "c", "d", "e"];
    let mut order: HashMap<&str, Vec<TaskId>> = HashMap::new();
    for _ in 0..20 {
        let tasks = keys.map(|key| Task::handler("record", "").with_key(key));
        for (key, task) in keys.iter().zip(&tasks) {
            order.entry(key).or_default().push(task.id);
        }
        fleet.queue.submit_many(&tasks).await.unwrap();
    }
    for (key, task) in [("a", "1"), ("b", "2")] {
        let task = Task::handler("record", task).with_key(key);
        order.entry(key).or_default().push(task.id);
        fleet.submit(&task).await;
    }
    let _worker = fleet.handlers(1);
    let ran = fleet.wait_for_record(102);
    let ran: Vec<TaskId> = ran
        .iter()
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    for (key, ids) in order {
        let of_key: Vec<TaskId> = ran.iter().copied().filter(|id| ids.contains(id)).collect();
        assert_eq!(of_key, ids, "{key}");
    }
    let elsewhere = on(0, Task::handler("record", "")).with_key("a");
    let error = fleet.queue.submit(&elsewhere).await.unwrap_err();
    assert!(error.to_string().contains("an id ends in 7c87"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_reaches_all_shards() {
    let fleet = fleet_of(5).await;
    let queue = &fleet.queue;
    let tasks = one_each(&fleet, 5, "exit 1");
    queue.pause().await.unwrap();
    queue.submit_many(&tasks).await.unwrap();
    let worker = fleet.worker("-c 2 --allow-commands");
    let status = queue.status().await.unwrap();
    assert!(status.paused && status.ready == 5);
    assert!(status.shards.iter().flatten().all(|shard| shard.ready == 1));
    queue.resume().await.unwrap();
    fleet.completions(5).await;
    let letters = fleet.dead_letters().await;
    assert!(letters.is_sorted_by_key(|letter| letter.died_ms));
    assert_eq!(letters.len(), 5);
    assert_eq!(queue.requeue(Some(&[tasks[3].id])).await.unwrap(), 1);
    fleet.completions(1).await;
    assert_eq!(queue.requeue(None).await.unwrap(), 5);
    fleet.completions(5).await;
    assert_eq!(queue.purge_dead(None).await.unwrap(), 5);
    drop(worker);

    let tasks = one_each(&fleet, 5, "true");
    queue.submit_many(&tasks).await.unwrap();
    let answers = queue.cancel(&ids(&tasks[..2]), Signal::Kill).await.unwrap();
    assert_eq!(answers, [Cancelled::Cancelled; 2]);
    assert_eq!(queue.find(tasks[1].id).await.unwrap().state, State::Ended);
    assert_eq!(queue.find(tasks[4].id).await.unwrap().state, State::Ready);
    assert_eq!(queue.purge_some().await.unwrap(), (3, true));
    assert_eq!(queue.purge_some().await.unwrap(), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_those_of_the_whole_queue() {
    let fleet = fleet_of(4).await;
    let settings = Settings {
        maxsize: Some(10),
        ..Settings::default()
    };
    fleet.queue.configure(&settings).await.unwrap();
    let status = fleet.queue.status().await.unwrap();
    assert_eq!(status.meta["maxsize"], "10");
    let mut taken = 0;
    for i in 0..40 {
        match fleet.queue.submit(&on(i, fleet.sh("true"))).await {
            Ok(_) => taken += 1,
            Err(Error::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(taken, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_is_woken_whatever_shard_the_task_is_on() {
    check_wakes(&fleet_of(12).await, 12).await;
}

/// Wakes an idle worker by a task on each shard.
pub(crate) async fn check_wakes(fleet: &Fleet, shards: u16) {
    let _worker = fleet.worker("-c 1 --allow-commands");
    let mut delays = Vec::new();
    for shard in 0..shards {
        let task = on(shard, fleet.sh("true"));
        fleet.submit(&task).await;
        let completion = &fleet.completions(1).await[&task.id];
        delays.push(delay_of(completion));
    }
    delays.sort();
    // Without a token it takes 5 s and more. One may be unlucky on a busy machine.
    let last_but_one = delays[delays.len() - 2];
    assert!(last_but_one < Duration::from_secs(2), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn delayed_tasks_of_all_shards_start_when_they_are_due() {
    let fleet = fleet_of(4).await;
    let _workers = [0; 2].map(|_| fleet.worker("-c 1 --allow-commands"));
    let mut delays = Vec::new();
    for _ in 0..2 {
        let mut tasks = one_each(&fleet, 4, "true");
        for (wait, task) in (1000..).step_by(100).zip(&mut tasks) {
            task.due = Due::After(Duration::from_millis(wait));
        }
        fleet.queue.submit_many(&tasks).await.unwrap();
        for (id, completion) in fleet.completions(4).await {
            let place = tasks.iter().position(|task| task.id == id).unwrap();
            let due = Duration::from_millis(1000 + 100 * place as u64);
            delays.push(delay_of(&completion).saturating_sub(due));
        }
    }
    delays.sort();
    assert!(delays[6] < Duration::from_millis(500), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_watched_for_while_it_was_idle_is_done_by_another_when_it_is_busy() {
    let fleet = fleet_of(4).await;
    let _first = fleet.worker("-c 1 --allow-commands --name first");
    let mut delayed = on(1, fleet.sh("record delayed"));
    delayed.due = Due::After(Duration::from_secs(3));
    fleet.submit(&delayed).await;
    let busy = "record busy; while ! [ -e $DIR/release ]; do sleep 0.02; done";
    eventually_async("it watches the clock", SOON, async || {
        let status = fleet.queue.status().await.ok()?;
        let meta = &status.shards[1].as_ref()?.meta;
        meta.contains_key("waiter").then_some(())
    })
    .await;
    fleet.submit(&on(2, fleet.sh(busy))).await;
    fleet.wait_for_record(1);
    let _second = fleet.worker("-c 1 --allow-commands --name second");
    fleet.wait_for_record(2);
    fs::write(fleet.path("release"), "").unwrap();
    let delay = delay_of(&fleet.completions(2).await[&delayed.id]);
    assert!(delay < Duration::from_secs(5), "{delay:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_a_killed_worker_run_elsewhere_from_all_shards() {
    let fleet = fleet_of(4).await;
    let mut doomed = fleet.worker("-c 8 --lease 1s --allow-commands");
    let hold = "record; [ $PMQ_ATTEMPT -ge 2 ] || exec sleep 600";
    let tasks: Vec<Task> = (0..8).map(|s| on(s, fleet.sh(hold))).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    fleet.wait_for_record(8);
    doomed.kill();
    let _other = fleet.worker("-c 2 --lease 1s --allow-commands");
    for completion in fleet.completions(8).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 2));
    }
    assert_eq!(fleet.record().len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_ends_when_no_shard_has_anything_left() {
    let fleet = fleet_of(12).await;
    let tasks: Vec<Task> = (0..30).map(|s| on(s, fleet.sh("record"))).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let worker = fleet.worker("-c 2 --burst --allow-commands");
    let _ = worker.wait().expect_code(0);
    assert_eq!(fleet.record().len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_goes_to_the_next_shard_has_confirmed_the_last() {
    let fleet = fleet_of(3).await;
    let _worker = fleet.worker("-c 3 --allow-commands");
    let tasks = one_each(&fleet, 3, "true");
    fleet.queue.submit_many(&tasks).await.unwrap();
    fleet.queue.wait(&ids(&tasks), SOON).await.unwrap();
    let mut first = fleet.consumer().with_lease(Duration::from_secs(1));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let got = first.get_many_nowait(500).await.unwrap();
        assert_eq!(got.len(), 1, "of one shard at a time");
        seen.push(got[0].id);
    }
    drop(first);
    let mut second = fleet.consumer().with_lease(Duration::from_secs(1));
    let again = collect(&mut second, 1).await;
    assert!(
        again.contains_key(&seen[2]),
        "what it got last, and no more"
    );
    second.close().await.unwrap();
    assert!(fleet.consumer().is_empty().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_and_processes_work_on_shards() {
    let fleet = fleet_of(4).await;
    let worker = fleet.pool_worker(2).await;
    let pool = fleet.pool(2).await;
    let squares: Vec<i64> = (0..3000).map(|x| x * x).collect();
    let results = pool.map_with(SQUARE, 0..3000, 1).await.unwrap();
    assert_eq!(results, squares);
    pool.close();
    pool.join().await.unwrap();
    drop(worker);

    let _worker = fleet.worker("-c 4 --allow-commands");
    let began = Instant::now();
    for _ in 0..4 {
        let started = fleet.started("echo hello; exit 3").await;
        started.join().await.unwrap();
        assert_eq!(started.exitcode().await.unwrap(), Some(3));
        let id = started.id();
        let attached = Process::attach(&fleet.queue, id).await.unwrap();
        assert_eq!(attached.exitcode().await.unwrap(), Some(3));
    }
    assert!(began.elapsed() < SOON);
    assert!(fleet.queue.processes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_an_owner_end_with_it_on_all_shards() {
    let fleet = fleet_of(4).await;
    let owner = fleet.queue.join_as_owner(&name("private")).await.unwrap();
    let mut tasks = one_each(&fleet, 4, "record");
    for task in &mut tasks {
        task.owner = Some(owner.incarnation());
    }
    fleet.queue.submit_many(&tasks[..2]).await.unwrap();
    owner.close().await.unwrap();
    fleet.queue.submit_many(&tasks[2..]).await.unwrap();
    let _worker = fleet.worker("-c 4 --allow-commands");
    let endings = fleet.queue.wait(&ids(&tasks), SOON).await.unwrap();
    for ending in endings {
        assert!(matches!(ending, Ending::Ended(end) if end.outcome == Outcome::Cancelled));
    }
    assert!(fleet.record().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_made_with_shards_once_and_shown_with_them() {
    let site = Site::new();
    let create = |shards| ["queue", "create", "mail", "--shards", shards];
    for _ in 0..2 {
        let made = site.pmq.run(create("3")).expect_code(0);
        assert_eq!(made.lines(), ["queue mail has 3 shards"]);
    }
    let other = site.pmq.run(create("4")).expect_code(1);
    assert!(
        other
            .error_text()
            .contains("queue mail has 3 shards, not 4")
    );
    let _ = site.pmq.run(create("0")).expect_code(2);
    let key = ["submit", "-q", "mail", "--key", "k", "--", "true"];
    let ids = [0; 2].map(|_| site.pmq.run(key).expect_code(0).lines().remove(0));
    let ids = ids.map(|id| id.parse::<TaskId>().unwrap());
    assert_eq!(ids[0].shard(4096), ids[1].shard(4096));
    let status = site.pmq.run(["status", "-q", "mail", "--json"]);
    let status = status.expect_code(0).json().remove(0);
    let shards = status["shards"].as_array().unwrap();
    assert_eq!((&status["ready"], shards.len()), (&json!(2), 3));
    assert_eq!(shards[ids[0].shard(3)]["ready"], 2);
    let table = site.pmq.run(["status", "-q", "mail"]).expect_code(0).text();
    assert!(table.contains("SHARD"), "{table}");
    let listed = site.pmq.run(["queue", "ls"]).expect_code(0).text();
    assert!(listed.contains("shards=3"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_and_made_again_is_found_by_those_who_knew_the_old_one() {
    let fleet = fleet_of(5).await;
    let _worker = fleet.worker("-c 2 --lease 3s --allow-commands");
    let mut consumer = fleet.consumer();
    let submit_some = async || {
        let tasks: Vec<Task> = (0..12).map(|s| on(s, fleet.sh("record"))).collect();
        fleet.submit(&tasks[0]).await;
        fleet.queue.submit_many(&tasks[1..]).await.unwrap();
        tasks
    };
    let mut all = HashMap::new();
    for shards in [5, 3, 1, 8] {
        if shards != 5 {
            // By others, of which this process and its worker know nothing.
            let other = Broker::connect(&Config::url(fleet.url())).await.unwrap();
            let other = other.task_queue(fleet.queue.name());
            other.delete().await.unwrap();
            other.create(shards).await.unwrap();
        }
        let tasks = submit_some().await;
        let done = collect(&mut consumer, tasks.len()).await;
        assert!(tasks.iter().all(|task| done.contains_key(&task.id)));
        all.extend(done);
        let status = fleet.queue.status().await.unwrap();
        assert_eq!(status.shards.len(), usize::from(shards));
        for task in &tasks {
            let found = fleet.queue.find(task.id).await.unwrap();
            assert_eq!(found.state, State::Ended);
        }
    }
    assert_eq!((all.len(), fleet.record().len()), (48, 48));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_makes_a_queue_while_it_is_being_deleted() {
    let fleet = fleet_of(4).await;
    let task = on(2, fleet.sh("true"));
    fleet.submit(&task).await;
    let first = fleet.queue.first().keys().fixed()[0].clone();
    let mut redis = shared().raw();
    redis::cmd("HSET")
        .arg(&[first.as_str(), "deleting", "1"])
        .exec(&mut redis)
        .unwrap();
    // Its shard is there no more, and a new one would be where nobody looks.
    let shard = fleet.queue.opened()[2].keys().fixed().to_vec();
    redis::cmd("DEL").arg(shard).exec(&mut redis).unwrap();
    let error = fleet.queue.submit(&task).await.unwrap_err();
    assert!(matches!(error, Error::Deleted { .. }), "{error}");
    fleet.queue.delete().await.unwrap();
    fleet.submit(&task).await;
    assert_eq!(fleet.queue.status().await.unwrap().ready, 1);
}
