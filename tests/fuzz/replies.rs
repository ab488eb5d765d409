//! Whatever a server answers, a process goes on or gets an error: nothing panics, and nothing asks without end.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pmq_broker::{Broker, Config, Name};
use pmq_tests::RedisServer;
use pmq_tests::fuzz::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::runtime::Runtime;

use crate::exercise::{EXERCISES, Exercise};
use crate::liar::{Liar, lie};

/// How long an exercise may go on. What waits for the broker's recovery waits longer, and is left.
const TIME: Duration = Duration::from_millis(150);
/// Far more than an exercise asks; who asks again at once, and again, passes it.
const REQUESTS: usize = 2000;

static NAMES: AtomicU64 = AtomicU64::new(1);
static PANICS: AtomicU64 = AtomicU64::new(0);
static HOOK: Once = Once::new();

/// Counts the panics of the runtime's threads, which nobody else may notice.
fn count_panics() {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if !thread.name().is_some_and(|name| name.contains("::")) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            usual(panic);
        }));
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) async fn connect(liar: &Liar) -> (Broker, Name) {
    let broker = Broker::connect(&Config::url(liar.url())).await.unwrap();
    let name = format!("n{}", NAMES.fetch_add(1, Ordering::Relaxed));
    (broker, Name::new(name).unwrap())
}

#[test]
fn each_exercise_succeeds_on_a_server_that_tells_the_truth() {
    let liar = Liar::before(RedisServer::shared());
    let runtime = runtime();
    for (what, exercise) in EXERCISES {
        let (broker, name) = runtime.block_on(connect(&liar));
        if let Err(error) = runtime.block_on(exercise(broker, name)) {
            panic!("{what}: {error}");
        }
    }
}

fn exercise() -> impl Strategy<Value = (&'static str, Exercise)> {
    select(&EXERCISES[..])
}

#[test]
fn no_lie_of_the_server_is_more_than_an_error() {
    count_panics();
    let server = RedisServer::start();
    let liar = Liar::before(&server);
    let runtime = runtime();
    let lies = vec((0..40usize, lie()), 1..4);
    fuzz((exercise(), lies), |((_, exercise), lies)| {
        let before = PANICS.load(Ordering::Relaxed);
        liar.tell(Vec::new());
        runtime.block_on(async {
            let (broker, name) = connect(&liar).await;
            liar.tell(lies);
            // An error is as good as none; what waits for the server to recover is not waited for.
            let _ = tokio::time::timeout(TIME, tokio::spawn(exercise(broker, name))).await;
        });
        let asked = liar.requests().len();
        prop_assert!(asked < REQUESTS, "it asked {} times", asked);
        prop_assert_eq!(
            PANICS.load(Ordering::Relaxed),
            before,
            "a thread of the process panicked"
        );
        Ok(())
    });
}
