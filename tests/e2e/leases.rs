//! Leases: kept by whoever is alive, lost by whoever stalls, and taken back when their holder is dead.

use std::fs;
use std::time::Duration;

use pmq_broker::task_queue::Ask;
use pmq_broker::{Incarnation, Outcome, Task, TaskId};
use pmq_tests::{Proxy, RedisServer, eventually, eventually_async};

use crate::fleet::{Fleet, SOON, is_alive, pass, pmq_at};
use crate::roles::GATHERING;
use crate::store::Store;

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_block_every_thread_keep_their_lease() {
    let fleet = Fleet::new().await;
    let _busy = fleet.handlers(4);
    let tasks: Vec<Task> = (0..4).map(|_| Task::handler("block", "release")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    fleet.wait_for_record(2);
    let _idle = fleet.handlers(4);
    pass(Duration::from_secs(3));
    fs::write(fleet.path("release"), "").unwrap();
    for completion in fleet.completions(4).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
    assert_eq!(fleet.record().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_blocks_after_many_brisk_ones_holds_up_neither_its_lease_nor_others() {
    let fleet = Fleet::new().await;
    let _busy = fleet.handlers(4);
    let place = Task::handler("where", "");
    let run = async || {
        fleet.submit(&place.clone().with_id(TaskId::new())).await;
        fleet.completion().await
    };
    eventually_async("runs start beside the worker's roles", SOON, async || {
        (run().await.body == "pmq-worker").then_some(())
    })
    .await;
    fleet.submit(&Task::handler("block", "release")).await;
    fleet.wait_for_record(1);
    let _idle = fleet.handlers(4);
    for _ in 0..20 {
        assert_eq!(run().await.outcome, Outcome::Ok);
    }
    pass(Duration::from_secs(3));
    fs::write(fleet.path("release"), "").unwrap();
    let blocked = fleet.completion().await;
    assert_eq!((blocked.outcome, blocked.attempt), (Outcome::Ok, 1));
    assert_eq!(fleet.record().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_one_claim_that_block_in_place_wait_for_each_other() {
    let fleet = Fleet::new().await;
    let gather = |_| Task::handler("gather", "");
    let tasks: Vec<Task> = (0..GATHERING).map(gather).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let _worker = fleet.handlers(GATHERING);
    for completion in fleet.completions(GATHERING).await.values() {
        assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_lease_stops_what_it_runs() {
    let fleet = Fleet::new().await;
    let stalled = fleet.worker("-c 1 --lease 1s --allow-commands");
    let script = "[ $PMQ_ATTEMPT -ge 2 ] || { echo $$ > $DIR/pid; record; exec sleep 600; }";
    fleet.submit(&fleet.sh(script)).await;
    fleet.wait_for_record(1);
    let pid = fs::read_to_string(fleet.path("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    stalled.stop();
    let _other = fleet.worker("-c 1 --lease 1s --allow-commands --name other");
    let completion = fleet.completion().await;
    assert_eq!(
        (completion.worker.as_str(), completion.attempt),
        ("other", 2)
    );
    assert!(is_alive(pid), "nobody has told the first run yet");
    stalled.resume();
    eventually("the first run is stopped", SOON, || {
        (!is_alive(pid)).then_some(())
    });
    let _ = stalled.wait_for_line("the lease ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_comes_after_the_lease_is_dropped() {
    let fleet = Fleet::new().await;
    let stalled = fleet.worker("-c 1 --lease 1s --allow-commands --name stalled");
    let script = "record; while ! [ -e $DIR/release$PMQ_ATTEMPT ]; do sleep 0.02; done; touch $DIR/ended$PMQ_ATTEMPT";
    fleet.submit(&fleet.sh(script)).await;
    fleet.wait_for_record(1);
    stalled.stop();
    fs::write(fleet.path("release1"), "").unwrap();
    eventually("the first run has ended", SOON, || {
        fleet.path("ended1").exists().then_some(())
    });
    let _other = fleet.worker("-c 1 --lease 1s --allow-commands --name other");
    fleet.wait_for_record(2);
    stalled.resume();
    let _ = stalled.wait_for_line("the lease ended");
    fs::write(fleet.path("release2"), "").unwrap();
    let completion = fleet.completion().await;
    assert_eq!(
        (
            completion.worker.as_str(),
            completion.attempt,
            completion.outcome
        ),
        ("other", 2, Outcome::Ok)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_lease_goes_on_as_somebody_new() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    fleet
        .submit(&fleet.sh("record; [ $PMQ_ATTEMPT -ge 2 ] || exec sleep 600"))
        .await;
    fleet.wait_for_record(1);
    worker.stop();
    // Its task is taken back by another, who then is gone: only the first one is left to run it.
    let reclaimer = fleet.worker("-c 1 --lease 1s --allow-commands --name refuses");
    fleet.wait_for_record(2);
    worker.resume();
    let _ = worker.wait_for_line("the lease ended");
    drop(reclaimer);
    let _ = fleet.completions(1).await;
    fleet.submit(&fleet.sh("true")).await;
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_worker_that_nobody_could_replace_keeps_its_task() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker("-c 2 --lease 1s --allow-commands");
    let script = "record; while ! [ -e $DIR/release ]; do sleep 0.02; done";
    fleet.submit(&fleet.sh(script)).await;
    fleet.wait_for_record(1);
    worker.stop();
    pass(Duration::from_secs(3));
    worker.resume();
    pass(Duration::from_secs(2));
    fs::write(fleet.path("release"), "").unwrap();
    let completion = fleet.completion().await;
    assert_eq!((completion.outcome, completion.attempt), (Outcome::Ok, 1));
    assert_eq!(fleet.record().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_owner_asked_for_is_stopped_and_dropped() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let mut owner = fleet.owner("echo $$ > $DIR/pid; record; exec sleep 600");
    fleet.wait_for_record(1);
    let pid = fs::read_to_string(fleet.path("pid"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    owner.kill();
    eventually("the running one is stopped", SOON, || {
        (!is_alive(pid)).then_some(())
    });
    fleet.submit(&fleet.sh("true")).await;
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
    assert_eq!(fleet.record().len(), 1, "the waiting one never ran");
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.ready, status.running, status.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reclaimer_that_is_killed_in_the_middle_is_replaced_and_counts_no_crash_twice() {
    const RUNNING: u64 = 100_000;
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    hold_until_the_lease_ends(&fleet, RUNNING as usize).await;
    // Behind a slow network its walk takes seconds. Nobody claims meanwhile.
    fleet.queue.pause().await.unwrap();
    let proxy = Proxy::to(&server);
    proxy.delay(Duration::from_millis(20));
    let pmq = pmq_at(proxy.url());
    let mut first = fleet.worker_of(&pmq, "-c 1 --lease 1s");
    let left = eventually_async("the walk is under way", SOON, async || {
        let running = fleet.queue.status().await.ok()?.running;
        (running < RUNNING).then_some(running)
    })
    .await;
    first.kill();
    assert!(left > 0, "the walk was over before it could be interrupted");
    let _second = fleet.worker("-c 1 --lease 1s");
    eventually_async("everything is taken back", SOON, async || {
        (fleet.queue.status().await.ok()?.running == 0).then_some(())
    })
    .await;
    let status = fleet.queue.status().await.unwrap();
    assert_eq!(
        (status.ready, status.dead, status.scheduled),
        (RUNNING, 0, 0)
    );
    let crashes = Store::on(&server, &fleet).await.crashes();
    assert_eq!(crashes.len() as u64, RUNNING);
    assert!(crashes.iter().all(|crashes| *crashes == 1));
}

/// Claims `n` tasks for a worker that then is never heard of again, and whose lease is 1 s.
async fn hold_until_the_lease_ends(fleet: &Fleet, n: usize) {
    let tasks: Vec<Task> = (0..n).map(|_| Task::handler("t", "")).collect();
    fleet.queue.submit_many(&tasks).await.unwrap();
    let lease = Duration::from_secs(1);
    let mut claimer = fleet.queue.first().claimer(Incarnation::new(), lease, None);
    let ask = Ask {
        n: 500,
        suspect: false,
        wait: false,
    };
    let mut held = 0;
    while held < n {
        held += claimer.get_nowait(ask).await.unwrap().tasks.len();
    }
}
