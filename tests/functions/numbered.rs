//! Numbered calls of submit: the first copy of a call is taken in without a look at its ids, and no other copy ever is.

use pmq_broker::task_queue::{How, Submitted};
use pmq_broker::{Task, TaskQueue, envelope};
use pmq_tests::{Proxy, RedisServer};
use redis::Value;

use crate::call::{Call, bytes, items, text};
use crate::seed::{finish, name, submit, submit_with_due, task};
use crate::shard::{Shard, padded};
use crate::typed::{ASK, broker_at, ended, queue, worker};

const UNKNOWN: [u8; 8] = [0; 8];

/// How a call was answered: a letter a task, and the epoch where the broker had to look.
fn answer(value: &Value) -> (String, Option<[u8; 8]>) {
    let items = items(value);
    assert_eq!(text(&items[0]), "ok");
    let epoch = items.get(2).map(|epoch| bytes(epoch).try_into().unwrap());
    (text(&items[1]), epoch)
}

fn taken(letters: &str) -> (String, Option<[u8; 8]>) {
    (letters.to_owned(), None)
}

fn looked_up(letters: &str, epoch: [u8; 8]) -> (String, Option<[u8; 8]>) {
    (letters.to_owned(), Some(epoch))
}

/// The call with this number.
fn numbered(epoch: [u8; 8], number: u64, call: Call) -> Call {
    let mut call = call;
    call.args[1] = [*b"producer", epoch, number.to_be_bytes()].concat();
    call
}

fn bulk(epoch: [u8; 8], number: u64, words: &[&str]) -> Call {
    let tasks: Vec<Task> = words.iter().map(|word| task(word)).collect();
    numbered(epoch, number, submit(&tasks))
}

fn newest_bucket(shard: &Shard) -> String {
    let buckets = shard.state().meta("buckets").unwrap();
    shard.key(&format!("results:{}", buckets.split(',').next().unwrap()))
}

/// A task ends, so that there is a bucket of results.
fn end_one(shard: &Shard, word: &str) {
    let held = shard.running(word, "w");
    shard.call(&finish(&[(&held, "o")]));
}

/// A shard that knows of the producer, and since when.
fn known() -> (Shard, [u8; 8]) {
    let shard = Shard::new();
    end_one(&shard, "z");
    let (letters, epoch) = answer(&shard.call(&bulk(UNKNOWN, 1, &["first"])));
    assert_eq!(letters, "n");
    (shard, epoch.unwrap())
}

#[test]
fn the_first_call_is_looked_up_and_begins_an_epoch() {
    let shard = Shard::new();
    end_one(&shard, "z");
    let call = bulk(UNKNOWN, 1, &["a", "b"]);
    let first = shard.expect(
        &call,
        "+ ready:5: a b
         + B1 producer: call 0
         + tasks a
         + tasks b
         + wake: 2",
    );
    let (letters, epoch) = answer(&first);
    assert_eq!(letters, "nn");
    assert!(epoch.is_some_and(|epoch| epoch != UNKNOWN));
    assert_eq!(
        answer(&shard.expect_nothing(&call)),
        looked_up("ee", epoch.unwrap())
    );
}

#[test]
fn the_first_copy_of_a_call_is_taken_in_and_all_others_are_known() {
    let (shard, epoch) = known();
    let call = bulk(epoch, 2, &["a", "b"]);
    let first = shard.expect(
        &call,
        "- ready:5: first
         - B1 producer: call 0
         - wake: 1
         + ready:5: first a b
         + B1 producer: call 2
         + tasks a
         + tasks b
         + wake: 2",
    );
    assert_eq!(answer(&first), taken("nn"));
    assert_eq!(answer(&shard.expect_nothing(&call)), looked_up("ee", epoch));
    shard.call(&bulk(epoch, 3, &["c"]));
    let held = shard.claimed("w", 3);
    shard.call(&finish(&[(&held[1], "o"), (&held[2], "f")]));
    assert_eq!(answer(&shard.expect_nothing(&call)), looked_up("de", epoch));
}

#[test]
fn a_call_that_was_overtaken_is_looked_up_and_taken_in() {
    let (shard, epoch) = known();
    let (second, third) = (bulk(epoch, 2, &["a"]), bulk(epoch, 3, &["b"]));
    assert_eq!(answer(&shard.call(&third)), taken("n"));
    let answered = shard.expect(
        &second,
        "- ready:5: first b
         + ready:5: first b a
         + tasks a",
    );
    assert_eq!(answer(&answered), looked_up("n", epoch));
    for call in [second, third] {
        let copy = shard.expect_nothing(&call);
        assert_eq!(answer(&copy), looked_up("e", epoch));
    }
}

#[test]
fn a_call_that_found_no_room_is_still_the_first_when_there_is_some() {
    let (shard, epoch) = known();
    shard.set_meta("maxsize", 2);
    let call = bulk(epoch, 2, &["a", "b"]);
    let full = shard.expect_nothing(&call);
    assert_eq!(text(&items(&full)[0]), "full");
    shard.claimed("w", 1);
    assert_eq!(answer(&shard.call(&call)), taken("nn"));
    assert_eq!(answer(&shard.expect_nothing(&call)), looked_up("ee", epoch));
}

#[test]
fn where_no_bucket_lives_nothing_is_kept_of_a_producer() {
    let shard = Shard::new();
    for _ in 0..2 {
        shard.call(&bulk(UNKNOWN, 1, &["a"]));
        let parts: Vec<String> = shard.state().0.into_keys().collect();
        assert_eq!(parts, ["meta", "ready:5", "tasks", "wake"]);
    }
    assert_eq!(shard.state().list("ready:5").len(), 1);
    // Nor where one is named that has expired: it would come back and stay.
    end_one(&shard, "z");
    shard.redis("DEL", &[newest_bucket(&shard)]);
    assert_eq!(answer(&shard.call(&bulk(UNKNOWN, 2, &["b"]))), taken("n"));
    let exists = shard.redis("EXISTS", &[newest_bucket(&shard)]);
    assert_eq!(exists, Value::Int(0));
}

#[test]
fn when_the_row_is_gone_no_copy_of_an_older_call_is_taken_for_new() {
    let (shard, epoch) = known();
    let ninth = bulk(epoch, 9, &["ninth"]);
    assert_eq!(answer(&shard.call(&ninth)), taken("n"));
    shard.redis("DEL", &[newest_bucket(&shard)]);
    end_one(&shard, "y"); // the bucket is there again
    let fifth = bulk(epoch, 5, &["fifth"]);
    let (letters, second_epoch) = answer(&shard.call(&fifth));
    assert_eq!(letters, "n");
    assert_ne!(second_epoch, Some(epoch));
    for call in [ninth, fifth] {
        let copy = shard.expect_nothing(&call);
        assert_eq!(answer(&copy), looked_up("e", second_epoch.unwrap()));
    }
    let tenth = bulk(second_epoch.unwrap(), 10, &["tenth"]);
    assert_eq!(answer(&shard.call(&tenth)), taken("n"));
}

#[test]
fn a_new_bucket_begins_a_new_epoch() {
    let (shard, epoch) = known();
    let second = bulk(epoch, 2, &["a"]);
    shard.call(&second);
    shard.set_meta("results_max", 8); // one record a bucket
    let held = shard.claimed("w", 1);
    shard.call(&finish(&[(&held[0], "o")]));
    let third = bulk(epoch, 3, &["b"]);
    let (letters, next) = answer(&shard.call(&third));
    assert_eq!(letters, "n");
    assert_ne!(next, Some(epoch));
    for call in [second, third] {
        let copy = shard.expect_nothing(&call);
        assert_eq!(answer(&copy), looked_up("e", next.unwrap()));
    }
}

#[test]
fn a_row_keeps_no_bucket_alive() {
    let (shard, epoch) = known();
    let left = || match shard.redis("PTTL", &[newest_bucket(&shard)]) {
        Value::Int(ms) => ms,
        other => panic!("{other:?}"),
    };
    let before = left();
    shard.call(&bulk(epoch, 2, &["a"]));
    assert!(0 < left() && left() <= before);
}

#[test]
fn options_and_due_times_of_numbered_tasks_are_heeded() {
    let (shard, epoch) = known();
    let urgent = Task {
        priority: 9,
        ..task("a")
    };
    let call = submit_with_due(&[urgent, task("b")], &["", "+30000"]);
    let call = numbered(epoch, 2, call);
    let answered = shard.expect(
        &call,
        "- B1 producer: call 0
         - wake: 1
         + ready:9: a
         + B1 producer: call 2
         + scheduled b: +30s p5
         + tasks a
         + tasks b
         + wake: 2",
    );
    assert_eq!(answer(&answered), taken("nn"));
}

#[test]
fn a_call_of_other_bytes_under_a_known_id_is_still_a_conflict_where_it_is_looked_up() {
    let (shard, epoch) = known();
    shard.call(&bulk(epoch, 3, &["a"]));
    let other = Task::handler("t", "other").with_id(task("a").id);
    let late = numbered(epoch, 2, submit(&[other]));
    let refused = shard.expect_nothing(&late);
    assert_eq!(text(&items(&refused)[0]), "conflict");
}

#[test]
fn a_number_of_another_shape_is_no_number() {
    let (shard, epoch) = known();
    let stamp = [b"producer".as_slice(), &epoch, &2_u64.to_be_bytes()].concat();
    for stamp in [&stamp[..23], &[&stamp[..], b"x"].concat()] {
        let call = Call::new("submit")
            .n(1)
            .arg(stamp)
            .n(1)
            .arg(padded("first"));
        let call = call.arg(envelope::encode(&task("first")).unwrap());
        assert_eq!(answer(&shard.expect_nothing(&call)), taken("e"));
    }
}

#[test]
fn a_key_of_a_wrong_type_fails_a_numbered_call_before_it_writes() {
    for part in ["tasks", "ready:5", "wake", "results"] {
        let (shard, epoch) = known();
        let key = match part {
            "results" => newest_bucket(&shard),
            part => shard.key(part),
        };
        shard.redis("SET", &[key, "spoiled".to_owned()]);
        shard.expect_error(&bulk(epoch, 2, &["a"]), "WRONGTYPE");
    }
}

fn many() -> Vec<Task> {
    (0..20).map(|n| Task::handler("t", n.to_string())).collect()
}

/// How all of these tasks were answered alike.
async fn submit_all(queue: &TaskQueue, tasks: &[Task]) -> Submitted {
    let answers = queue.submit_many(tasks).await.unwrap();
    assert_eq!(answers.len(), tasks.len());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    answers[0]
}

/// One task ends, so that there is a bucket of results, and the producer is told its epoch.
async fn season(queue: &TaskQueue) {
    queue.submit(&Task::handler("t", "0")).await.unwrap();
    let (_, mut claimer) = worker(queue);
    let claims = claimer.get_nowait(ASK).await.unwrap().tasks;
    let runs = [ended(&claims[0], How::Ok)];
    queue.first().finish(&runs).await.unwrap();
    submit_all(queue, &many()).await;
}

/// What the newest bucket says of the only producer.
fn highest_number(queue: &TaskQueue) -> Option<u64> {
    let shard = Shard::named(queue.name().as_str(), RedisServer::shared());
    let bucket = format!("results:{}", shard.state().meta("buckets").unwrap());
    let rows = shard.state().hash(&bucket);
    let mut rows = rows.into_iter().filter(|(field, _)| field.len() == 8);
    rows.next()
        .map(|(_, row)| u64::from_be_bytes(row[8..].try_into().unwrap()))
}

#[tokio::test]
async fn tasks_that_are_submitted_again_through_any_handle_are_there_once() {
    let queue = queue("numbered-again").await;
    season(&queue).await;
    let other = broker_at(RedisServer::shared().url()).await;
    let other = other.task_queue(&name("numbered-again"));
    submit_all(&other, &many()).await;
    let tasks = many();
    assert_eq!(submit_all(&queue, &tasks).await, Submitted::New);
    for again in [&queue, &queue.clone(), &other] {
        assert_eq!(submit_all(again, &tasks).await, Submitted::Exists);
    }
    let tasks = many();
    let copies = tasks.clone();
    assert_eq!(submit_all(&other, &copies).await, Submitted::New);
    assert_eq!(submit_all(&queue, &tasks).await, Submitted::Exists);
}

#[tokio::test]
async fn calls_of_new_tasks_are_numbered_and_others_are_not() {
    let queue = queue("numbered-new").await;
    season(&queue).await;
    assert_eq!(highest_number(&queue), Some(0), "it began an epoch");
    let tasks = many();
    submit_all(&queue, &tasks).await;
    assert_eq!(highest_number(&queue), Some(2));
    submit_all(&queue, &tasks).await;
    submit_all(&queue, &many()[..7]).await; // too few
    assert_eq!(highest_number(&queue), Some(2));
    submit_all(&queue, &many()).await;
    assert_eq!(highest_number(&queue), Some(3));
}

#[tokio::test]
async fn a_numbered_call_whose_reply_was_lost_is_sent_again_and_taken_in_once() {
    let proxy = Proxy::to(RedisServer::shared());
    let queue = broker_at(proxy.url())
        .await
        .task_queue(&name("numbered-lost"));
    season(&queue).await;
    proxy.drop_next_reply();
    assert_eq!(submit_all(&queue, &many()).await, Submitted::Exists);
    assert_eq!(proxy.replies_dropped(), 1);
    assert_eq!(
        highest_number(&queue),
        Some(2),
        "the first copy was taken in"
    );
    assert_eq!(queue.status().await.unwrap().ready, 40);
}
