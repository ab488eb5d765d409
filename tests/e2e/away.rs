//! Calls with a timeout while the broker is away: they end in time, and say what is true.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use pmq_broker::{Broker, Config, Error, GetError, Name, PutError};
use pmq_tests::{RedisServer, eventually_async};

use crate::fleet::{SOON, name, pass};
use crate::keys::Keys;

const TIMEOUT: Duration = Duration::from_millis(700);
/// A timeout and a little, on a busy machine.
const IN_TIME: Duration = Duration::from_secs(3);

async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let answer = call.await;
    let took = start.elapsed();
    assert!(took < IN_TIME, "{what} took {took:?}");
    answer
}

fn must_be_unreachable(what: &str, answer: &Result<impl Debug, Error>) {
    let unreachable = matches!(answer, Err(Error::Unreachable { .. }));
    assert!(unreachable, "{what} answered {answer:?}");
}

async fn connect(server: &RedisServer) -> Broker {
    Broker::connect(&Config::url(server.url())).await.unwrap()
}

/// A server, and a client that has used it.
async fn scene() -> (RedisServer, Broker) {
    let server = RedisServer::start();
    let broker = connect(&server).await;
    broker.event(&name("warm")).is_set().await.unwrap();
    (server, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_asked_in_the_whole_time_is_unreachable() {
    let (mut server, broker) = scene().await;
    let o = name("o");
    let queue = broker.joinable_queue::<u32>(&o);
    let (receiver, _sender) = broker.channel::<u32>().await.unwrap();
    server.stop();
    let got = in_time("get", queue.get_timeout(TIMEOUT)).await;
    assert!(
        matches!(got, Err(GetError::Broker(Error::Unreachable { .. }))),
        "{got:?}"
    );
    let put = in_time("put", queue.put_timeout(1, TIMEOUT)).await;
    let Err(PutError::Broker { item: 1, source }) = put else {
        panic!("{put:?}");
    };
    must_be_unreachable("put", &Err::<(), _>(source));
    let join = in_time("join", queue.join_timeout(TIMEOUT)).await;
    must_be_unreachable("join", &join);
    let event = broker.event(&o);
    let event = in_time("event", event.wait_timeout(TIMEOUT)).await;
    must_be_unreachable("event", &event);
    let barrier = broker.barrier(&o, 2);
    let barrier = in_time("barrier", barrier.wait_timeout(TIMEOUT)).await;
    must_be_unreachable("barrier", &barrier);
    let lock = in_time("lock", broker.lock(&o).acquire_timeout(TIMEOUT)).await;
    must_be_unreachable("lock", &lock);
    let poll = in_time("poll", Box::pin(receiver.poll(TIMEOUT))).await;
    assert!(poll.is_err(), "{poll:?}");
    server.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anonymous_object_that_can_not_be_made_is_unreachable_in_time() {
    let (mut server, broker) = scene().await;
    server.stop();
    let queue = broker.anonymous_queue::<u32>();
    let got = in_time("get", queue.get_timeout(TIMEOUT)).await;
    assert!(matches!(got, Err(GetError::Broker(_))), "{got:?}");
    let event = broker.anonymous_event();
    let event = in_time("event", event.wait_timeout(TIMEOUT)).await;
    must_be_unreachable("event", &event);
    let semaphore = broker.anonymous_semaphore(1);
    let permit = in_time("semaphore", semaphore.acquire_timeout(TIMEOUT)).await;
    must_be_unreachable("semaphore", &permit);
    server.resume();
}

/// Begins a wait of a second client; the server stands still from when it stands in line until it has ended.
async fn over_an_outage<T: Send + 'static>(
    place: (&str, &str),
    call: impl AsyncFnOnce(Broker, Name, Duration) -> T,
) -> T {
    let (mut server, broker) = scene().await;
    let (kind, line) = place;
    let o = name("o");
    let keys = Keys::new(&server, kind, &o);
    let timeout = TIMEOUT * 2;
    let stop = async {
        keys.wait_for_line(line, 1).await;
        keys.line(line); // by then the answer is sent that says so
        server.stop();
    };
    let what = format!("the wait in {kind}");
    let call = Box::pin(call(broker.clone(), o.clone(), timeout));
    let both = async { tokio::join!(call, stop) };
    let (answer, ()) = in_time(&what, both).await;
    server.resume();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_waited_when_the_broker_went_away_finds_nothing() {
    let got = over_an_outage(("queue", "getters"), async |broker, o, timeout| {
        broker.queue::<u32>(&o).get_timeout(timeout).await
    })
    .await;
    assert!(matches!(got, Err(GetError::Empty)), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_waited_when_the_broker_went_away_is_full_and_did_not_put() {
    let put = over_an_outage(("queue", "putters"), async |broker, o, timeout| {
        let queue = broker.queue::<u32>(&o).maxsize(1);
        queue.put(1).await.unwrap();
        queue.put_timeout(2, timeout).await
    })
    .await;
    assert!(matches!(put, Err(PutError::Full(2))), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_that_waited_when_the_broker_went_away_did_not_come_about() {
    let join = over_an_outage(("queue", "joiners"), async |broker, o, timeout| {
        let queue = broker.joinable_queue::<u32>(&o);
        queue.put(1).await.unwrap();
        queue.join_timeout(timeout).await
    })
    .await;
    assert!(matches!(join, Ok(false)), "{join:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_waited_for_when_the_broker_went_away_is_not_set() {
    let set = over_an_outage(("event", "waiters"), async |broker, o, timeout| {
        broker.event(&o).wait_timeout(timeout).await
    })
    .await;
    assert!(matches!(set, Ok(false)), "{set:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_that_waited_when_the_broker_went_away_finds_the_barrier_broken() {
    let passed = over_an_outage(("barrier", "waiters"), async |broker, o, timeout| {
        broker.barrier(&o, 2).wait_timeout(timeout).await
    })
    .await;
    assert!(
        matches!(passed, Err(Error::BrokenBarrier { .. })),
        "{passed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_waited_for_when_the_broker_went_away_is_not_had() {
    let permit = over_an_outage(("lock", "waiters"), async |broker, o, timeout| {
        let held = broker.lock(&o).acquire().await.unwrap();
        let permit = broker.lock(&o).acquire_timeout(timeout).await;
        drop(held);
        permit.map(|permit| permit.is_some())
    })
    .await;
    assert!(matches!(permit, Ok(false)), "{permit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_a_get_took_too_late_goes_back_also_after_a_long_outage() {
    let (mut server, broker) = scene().await;
    let queue = broker.queue::<u32>(&name("late"));
    queue.put(1).await.unwrap();
    server.stop();
    assert!(queue.get_timeout(TIMEOUT).await.is_err());
    pass(Duration::from_secs(6));
    server.resume(); // which now takes the item for the get that is over
    let other = connect(&server).await.queue::<u32>(&name("late"));
    eventually_async("the item is there again", SOON, async || {
        other.get_nowait().await.ok()
    })
    .await;
}
