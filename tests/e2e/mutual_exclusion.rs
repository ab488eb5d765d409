//! Mutual exclusion and fencing, proved on real processes: they count in a store under a lock, while holders and waiters
//! are stopped past their lease, killed, and cut off.

mod store;

use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pmq_broker::{Broker, Config, Permit};
use pmq_tests::program::Running;
use pmq_tests::{Program, Proxy, RedisServer, eventually_or};

use crate::fleet::{LONG, name, pass};
use store::{Books, Client, Store};

const LEASE: Duration = Duration::from_secs(1);
/// By when somebody counts again, whatever happened to one process.
const RESUMES: Duration = Duration::from_secs(4);

const STORE: &str = "PMQ_TEST_STORE";
const NUMBER: &str = "PMQ_TEST_NUMBER";

#[derive(Clone, Copy, Debug)]
enum Fault {
    Stopped,
    Killed,
    CutOff,
}

const FAULTS: [Fault; 3] = [Fault::Stopped, Fault::Killed, Fault::CutOff];

/// One that counts, on its own way to the broker.
struct Counter {
    number: usize,
    proxy: Proxy,
    process: Running,
}

impl Counter {
    fn start(number: usize, server: &RedisServer, store: &Store) -> Self {
        let proxy = Proxy::to(server);
        let program = Program::new(env::current_exe().unwrap())
            .env("PMQ_REDIS_URL", proxy.url())
            .env(STORE, store.address())
            .env(NUMBER, number.to_string())
            .timeout(LONG);
        let role = "mutual_exclusion::counter";
        Self {
            number,
            proxy,
            process: program.spawn(["--exact", "--ignored", "--nocapture", role]),
        }
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Stopped => self.process.stop(),
            Fault::Killed => self.process.kill(),
            Fault::CutOff => self.proxy.hole(true),
        }
    }

    fn recover(&mut self, fault: Fault, server: &RedisServer, store: &Store) {
        match fault {
            Fault::Stopped => self.process.resume(),
            Fault::Killed => *self = Self::start(self.number, server, store),
            Fault::CutOff => self.proxy.hole(false),
        }
    }
}

/// Waits until somebody counts again.
fn progress(store: &Store, after: &str) {
    let before = store.books(|books| books.accepted);
    let start = Instant::now();
    eventually_or(
        &format!("somebody counts {after}"),
        RESUMES,
        || (store.books(|books| books.accepted) > before).then_some(()),
        || format!("{:?} after it began", start.elapsed()),
    );
}

fn prove(processes: usize, rounds: usize) {
    let server = RedisServer::builder().tcp(true).start();
    let store = Store::open();
    let mut counters: Vec<Counter> = (0..processes)
        .map(|number| Counter::start(number, &server, &store))
        .collect();
    eventually_or(
        "all processes have counted",
        LONG,
        || (store.books(|books| books.counted.len()) == processes).then_some(()),
        String::new,
    );
    for round in 0..rounds {
        let fault = FAULTS[round % FAULTS.len()];
        // It is the holder every other time.
        let victim = if round % 2 == 0 {
            store.books(|books| books.last)
        } else {
            fastrand::usize(0..processes)
        };
        counters[victim].suffer(fault);
        progress(&store, &format!("while {victim} is {fault:?}"));
        pass(LEASE * 3 / 2);
        counters[victim].recover(fault, &server, &store);
        progress(&store, &format!("after {victim} was {fault:?}"));
    }
    for counter in &mut counters {
        counter.process.kill();
    }
    drop(counters);
    store.books(check);
}

fn check(books: &Books) {
    assert_eq!(books.value, books.accepted, "no increment was lost");
    let spans: Vec<_> = books.spans.iter().collect();
    for pair in spans.windows(2) {
        let [(one, (_, last)), (next, (first, _))] = pair else {
            unreachable!("windows of two");
        };
        assert!(
            last < first,
            "{one} was held when {next} was granted, for {} us",
            last - first
        );
    }
    let (grants, counts) = (spans.len(), books.accepted);
    assert!(
        grants > 10 && counts > 10,
        "{grants} grants, {counts} counts"
    );
}

#[test]
fn two_processes_exclude_each_other_whatever_happens_to_them() {
    prove(2, 6);
}

#[test]
fn six_processes_exclude_each_other_whatever_happens_to_them() {
    prove(6, 6);
}

#[test]
fn the_store_refuses_an_older_fence() {
    let store = Store::open();
    let (mut old, mut new) = (
        Client::connect(store.address()),
        Client::connect(store.address()),
    );
    assert_eq!(old.read(7, 0), Some(0));
    assert_eq!(new.read(8, 1), Some(0));
    assert!(new.write(8, 1));
    assert!(!old.write(7, 1) && old.read(7, 0).is_none());
    assert_eq!(
        store.books(|books| (books.value, books.accepted, books.refused)),
        (1, 1, 1)
    );
}

/// µs since the epoch, on the one clock that the processes of a test share.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_micros() as i64
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is a process of other tests"]
async fn counter() {
    let Ok(address) = env::var(STORE) else { return };
    let number: usize = env::var(NUMBER).unwrap().parse().unwrap();
    let mut store = Client::connect(&address);
    let broker = Broker::connect(&Config::from_env().unwrap()).await.unwrap();
    let lock = broker.lock(&name("count")).with_lease(LEASE);
    loop {
        // While the broker is away, an error is as good as nothing.
        if let Ok(permit) = lock.acquire().await {
            count(&permit, &mut store, number).await;
            let _ = permit.release().await;
        }
    }
}

/// Counts a few times, for as long as it believes that it may.
async fn count(permit: &Permit, store: &mut Client, number: usize) {
    for _ in 0..fastrand::u8(1..20) {
        let before = now();
        if permit.is_lost() {
            return;
        }
        store.say_that_held(permit.fence(), before);
        let Some(value) = store.read(permit.fence(), number) else {
            return;
        };
        if !store.write(permit.fence(), value + 1) {
            return;
        }
        let pause = Duration::from_millis(fastrand::u64(0..5));
        let _ = tokio::time::timeout(pause, permit.lost()).await;
    }
}
