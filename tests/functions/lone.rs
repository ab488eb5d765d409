//! A lock or semaphore with a lone holder: whatever else meets it finds it like any other holder.

use crate::call::{Call, text};
use crate::object::{LOCK, Object};
use crate::shard::padded;

/// One of `permits`, which somebody took and gave back before.
fn used(name: &str, permits: u32) -> Object {
    let semaphore = Object::new(&format!("lone.{name}"), &LOCK);
    assert!(is_grant(&semaphore.call(&acquire("before", permits))));
    assert_eq!(semaphore.call(&release("before", "back", "0")), ["ok"]);
    assert_eq!(lone(&semaphore).as_deref(), Some(&b""[..]));
    semaphore
}

/// A lock with the lone holder `holder`, and its fence.
fn held(name: &str) -> (Object, String) {
    let lock = used(name, 1);
    let fence = lock.call_meta(&take("holder", 1)).remove(0);
    assert_eq!(lone(&lock), Some(padded("holder").to_vec()));
    assert_eq!(rows(&lock), 0);
    (lock, fence)
}

fn is_grant(answer: &[String]) -> bool {
    let fence = answer[0].trim_end_matches('!');
    answer.len() == 1 && fence.parse::<u64>().is_ok()
}

/// Takes a permit as a lone holder.
pub(crate) fn take(member: &str, permits: u32) -> Call {
    let lease: u32 = 15_000;
    let mut holder = permits.to_le_bytes().to_vec();
    holder.extend(padded(member));
    holder.extend(lease.to_le_bytes());
    Call::new("sem_acquire_lone").arg(holder)
}

fn give(member: &str) -> Call {
    Call::new("sem_release_lone").arg(padded(member))
}

fn acquire(member: &str, permits: u32) -> Call {
    let call = Call::new("sem_acquire").arg("").arg(padded(member));
    call.n(15_000).n(permits).arg("0")
}

fn wait(member: &str) -> Call {
    let call = Call::new("sem_acquire").arg("").arg(padded(member));
    call.n(15_000).n(1).arg("1")
}

fn release(member: &str, how: &str, fence: &str) -> Call {
    let call = Call::new("sem_release").arg("").arg(padded(member));
    call.arg(how).arg(fence)
}

fn post(permits: u32, bounded: &str) -> Call {
    let call = Call::new("sem_post").arg("").arg(padded("poster"));
    call.n(permits).arg(bounded)
}

fn look(semaphore: &Object) -> Vec<String> {
    semaphore.call(&Call::new("sem_look"))
}

/// The lone holder, empty where there may be one, `None` where there may not.
fn lone(semaphore: &Object) -> Option<Vec<u8>> {
    let lone: Option<Vec<u8>> = semaphore.redis("HGET", "meta", &["lone"]);
    lone.map(|lone| lone.get(20..36).unwrap_or_default().to_vec())
}

fn rows(semaphore: &Object) -> u64 {
    semaphore.redis("ZCARD", "members", &[])
}

fn end_lease(lock: &Object) {
    let held: Vec<u8> = lock.redis("HGET", "meta", &["lone"]);
    let ended = [&held[..36], &[0; 4]].concat();
    lock.redis_bytes("HSET", "meta", &[b"lone", &ended]);
}

#[test]
fn it_comes_and_goes_by_one_key() {
    let (lock, fence) = held("one-key");
    assert_eq!(lock.call_meta(&take("holder", 1)), ["no"], "sent again");
    assert_eq!(lock.call_meta(&take("other", 1)), ["no"]);
    assert_eq!(lock.call_meta(&give("other")), ["no"]);
    assert_eq!(look(&lock), ["1", "0", "1", "0"]);
    assert_eq!(lock.call_meta(&give("holder")), ["ok"]);
    assert_eq!(lock.call_meta(&give("holder")), ["no"], "sent again");
    assert_eq!(look(&lock), ["1", "1", "0", "0"]);
    assert_eq!(lock.call_meta(&take("third", 2)), ["no"], "another size");
    let next = lock.call_meta(&take("next", 1)).remove(0);
    assert!(next > fence, "{next} after {fence}");
    assert_eq!(rows(&lock), 0);

    let fresh = Object::new("lone.fresh", &LOCK);
    assert_eq!(fresh.call_meta(&take("holder", 1)), ["no"]);
    assert_eq!(fresh.call_meta(&give("holder")), ["no"]);
    assert_eq!(fresh.redis::<u64>("EXISTS", "meta", &[]), 0);
}

#[test]
fn its_fence_grows_also_where_the_clock_was_ahead() {
    let (lock, fence) = held("clock");
    assert_eq!(lock.call_meta(&give("holder")), ["ok"]);
    let ahead = fence.parse::<u64>().unwrap() + 60_000_000;
    let lone = [ahead.to_string().as_bytes(), &1_u32.to_le_bytes()].concat();
    lock.redis_bytes("HSET", "meta", &[b"lone", &lone]);
    assert_eq!(lock.call_meta(&take("next", 1)), ["no"]);
    let next: u64 = lock.call(&acquire("next", 1))[0].parse().unwrap();
    assert!(next > ahead, "{next} after {ahead}");
    assert_eq!(lock.call(&release("next", "back", "0")), ["ok"]);
    assert_eq!(lock.call_meta(&take("last", 1)), ["no"]);
}

#[test]
fn it_takes_and_gives_back_as_often_as_it_is_sent() {
    let (lock, fence) = held("again");
    assert_eq!(look(&lock), ["1", "0", "1", "0"]);
    assert_eq!(lock.call(&acquire("holder", 1)), [fence.as_str()]);
    assert_eq!(lock.call(&acquire("other", 1)), ["busy"]);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["ok"]);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["gone"]);
    assert_eq!(look(&lock), ["1", "1", "0", "0"]);

    let (lock, fence) = held("at-once");
    assert_eq!(lock.call(&release("other", "back", "0")), ["gone"]);
    assert_eq!(look(&lock), ["1", "0", "1", "0"]);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["ok"]);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["gone"]);
    let next = lock.call(&acquire("next", 1)).remove(0);
    assert!(next > fence);
}

#[test]
fn its_lease_is_renewed() {
    let (lock, fence) = held("renewed");
    let renew = |member| Call::new("renew").arg("").n(60_000).arg(padded(member));
    assert_eq!(text(&lock.answer(&renew("other"))), "l");
    assert_eq!(text(&lock.answer(&renew("holder"))), "k");
    let ends: u64 = lock.redis("ZSCORE", "members", &["holder.........."]);
    let granted: u64 = fence[..13].parse().unwrap();
    assert!(ends > granted + 50_000);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["ok"]);
    assert_eq!(lone(&lock).as_deref(), Some(&b""[..]));
    assert_eq!(rows(&lock), 0);
}

#[test]
fn its_end_is_seen_by_who_looks_and_told_to_the_next() {
    let (lock, fence) = held("ended");
    end_lease(&lock);
    assert_eq!(look(&lock), ["1", "1", "0", "0"]);
    let next = lock.call(&acquire("next", 1));
    assert!(next[0] > fence && next[0].ends_with('!'), "{next:?}");
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["gone"]);
    assert_eq!(look(&lock), ["1", "0", "1", "0"]);
}

#[test]
fn a_waiter_stands_behind_it_and_is_next() {
    let (lock, fence) = held("awaited");
    let waits = lock.call(&wait("waiter"));
    let ms: u64 = waits[1].parse().unwrap();
    assert!(
        waits[0] == "wait" && ms > 1000 && waits[2] == fence,
        "{waits:?}"
    );
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["ok"]);
    assert_eq!(look(&lock), ["1", "0", "1", "0"]);
    let granted = lock.call(&wait("waiter"));
    assert!(is_grant(&granted) && granted[0] > fence, "{granted:?}");
    // Who comes after all that is alone again.
    assert_eq!(lock.call(&release("waiter", "back", "0")), ["ok"]);
    assert!(is_grant(&lock.call(&acquire("first", 1))));
    assert_eq!(lock.call(&release("first", "back", "0")), ["ok"]);
    assert!(is_grant(&lock.call_meta(&take("second", 1))));
}

#[test]
fn a_post_takes_it_away_or_adds_a_permit() {
    let (lock, fence) = held("posted");
    assert_eq!(lock.call(&post(1, "1")), ["ok"]);
    assert_eq!(lock.call(&post(1, "1")), ["ok"], "sent again");
    assert_eq!(look(&lock), ["1", "1", "0", "0"]);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["taken"]);

    let semaphore = used("risen", 2);
    assert!(is_grant(&semaphore.call(&acquire("holder", 2))));
    assert_eq!(semaphore.call(&post(2, "0")), ["ok"]);
    assert_eq!(look(&semaphore), ["2", "2", "1", "0"]);
}

#[test]
fn others_share_a_semaphore_with_it() {
    let semaphore = used("shared", 2);
    for member in ["first", "second"] {
        assert!(is_grant(&semaphore.call(&acquire(member, 2))));
    }
    assert_eq!(semaphore.call(&acquire("third", 2)), ["busy"]);
    assert_eq!(semaphore.call(&acquire("third", 3)), ["other", "2"]);
    for member in ["first", "second"] {
        assert_eq!(semaphore.call(&release(member, "back", "0")), ["ok"]);
    }
    // Nobody uses it, so it may have another size.
    assert!(is_grant(&semaphore.call(&acquire("third", 1))));
    assert_eq!(semaphore.call(&acquire("fourth", 1)), ["busy"]);
}

#[test]
fn it_may_leak_its_permit_or_leave_it_unused() {
    let (lock, fence) = held("leaked");
    assert_eq!(lock.call(&release("holder", "leak", &fence)), ["ok"]);
    assert_eq!(lock.call(&acquire("next", 1)), ["busy"]);
    assert_eq!(lock.call(&post(1, "1")), ["ok"]);
    assert!(!lock.call(&acquire("next", 1))[0].ends_with('!'));
    assert_eq!(lock.call(&release("next", "back", "0")), ["ok"]);
    assert_eq!(lone(&lock).as_deref(), Some(&b""[..]));

    let (lock, _) = held("unused");
    assert_eq!(lock.call(&release("holder", "unused", "0")), ["ok"]);
    assert!(!lock.call(&acquire("next", 1))[0].ends_with('!'));
}

#[test]
fn it_notifies_and_sleeps() {
    let (lock, _) = held("notifies");
    let member = |verb| Call::new(verb).arg("").arg(padded("holder"));
    let notify = member("cond_notify").arg(padded("call")).arg("c").n(1);
    assert_eq!(lock.call(&notify), ["ok", "0", "0"]);

    let (lock, fence) = held("sleeps");
    let sleep = member("cond_wait").arg(padded("sleeper")).arg("c");
    assert_eq!(lock.call(&sleep), ["wait"]);
    assert_eq!(lock.call(&sleep), ["wait"], "sent again");
    assert_eq!(look(&lock), ["1", "1", "0", "0"]);
    assert_eq!(lock.call(&release("holder", "back", &fence)), ["gone"]);
}

#[test]
fn an_anonymous_lock_lives_while_it_holds_it() {
    let (lock, _) = held("anonymous");
    let detach = Call::new("detach").arg("60000").arg(padded("handle"));
    assert_eq!(lock.call(&detach), ["ok"]);
    assert_eq!(look(&lock), ["1", "0", "1", "0"]);
    let call = Call::new("sem_release").arg("60000").arg(padded("holder"));
    assert_eq!(lock.call(&call.arg("back").arg("0")), ["ok"]);
    let call = Call::new("sem_acquire").arg("60000").arg(padded("next"));
    assert!(is_grant(&lock.call(&call.n(15_000).n(1).arg("0"))));
    let left: i64 = lock.redis("PTTL", "meta", &[]);
    assert!((1..=60_000).contains(&left), "{left} ms");
}

#[test]
fn what_nobody_posted_goes_though_somebody_waited_for_it() {
    let semaphore = Object::new("lone.none", &LOCK);
    let acquire = Call::new("sem_acquire").arg("").arg(padded("waiter"));
    let wait = acquire.n(15_000).n(0).arg("1");
    assert_eq!(semaphore.call(&wait)[0], "wait");
    let left: i64 = semaphore.redis("PTTL", "meta", &[]);
    assert!(left > 0, "{left} ms");

    // A leak has to be remembered until somebody posts.
    let (lock, fence) = held("leak-stays");
    assert_eq!(lock.call(&release("holder", "leak", &fence)), ["ok"]);
    let acquire = Call::new("sem_acquire").arg("").arg(padded("waiter"));
    assert_eq!(lock.call(&acquire.n(15_000).n(1).arg("1"))[0], "wait");
    assert_eq!(lock.redis::<i64>("PTTL", "meta", &[]), -1);
}
