//! Handlers that wait by the words of multiprocessing lend their slot to the one that they wait for.

use pmq_broker::typed::Task;
use pmq_broker::{Broker, Event, JoinableQueue, Name, Outcome, Pool, PoolError};
use pmq_tests::program::Running;
use pmq_worker::Worker;

use crate::fleet::{Fleet, name};
use crate::pool::SQUARE;
use crate::roles::{as_test, broker, queue};

/// Waits by the word that it is given.
const WAIT: Task<String, ()> = Task::new("wait");
/// Brings about what the task before it waits for.
const SERVE: Task<String, ()> = Task::new("serve");
/// Squares the numbers below one, by a pool on its own queue.
const SQUARES: Task<i64, Vec<i64>> = Task::new("squares");

type Answer = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Fleet {
    /// Starts a worker process with one slot and these handlers.
    fn words(&self) -> Running {
        self.stand_in().spawn(as_test("lending::words::worker"))
    }

    async fn submit_word(&self, task: Task<String, ()>, word: &str) {
        self.submit(&task.call(&word.to_owned()).unwrap()).await;
    }
}

/// What both sides use.
struct Stage {
    broker: Broker,
    name: Name,
}

impl Stage {
    fn queue(&self) -> JoinableQueue<u32> {
        self.broker.joinable_queue(&self.name).maxsize(1)
    }

    fn event(&self) -> Event {
        self.broker.event(&self.name)
    }

    async fn wait(&self, word: &str) -> Answer {
        match word {
            "event" => self.event().wait().await?,
            "barrier" => drop(self.broker.barrier(&self.name, 2).wait().await?),
            "condition" => {
                let condition = self.broker.condition(&self.name);
                condition.wait(condition.acquire().await?).await?;
            }
            "get" => drop(self.queue().get().await?),
            "put" => self.queue().put_many(vec![1, 2]).await?,
            _ => {
                self.queue().put(1).await?;
                self.queue().join().await?;
            }
        }
        Ok(())
    }

    async fn serve(&self, word: &str) -> Answer {
        match word {
            "event" => self.event().set().await?,
            "barrier" => drop(self.broker.barrier(&self.name, 2).wait().await?),
            "condition" => {
                let condition = self.broker.condition(&self.name);
                condition.notify(&condition.acquire().await?, 1).await?;
            }
            "get" => self.queue().put(1).await?,
            _ => {
                self.queue().get().await?;
                self.queue().task_done().await?;
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "is the worker process of other tests"]
async fn worker() {
    let Some(queue) = queue() else { return };
    let broker = broker().await;
    let (one, tasks) = (broker.clone(), queue.clone());
    let stage = move |word: &str| Stage {
        broker: one.clone(),
        name: name(&format!("{tasks}.{word}")),
    };
    let other = stage.clone();
    let mut worker = Worker::new(broker.clone());
    worker.options.queues = vec![queue.clone()];
    worker.options.completions = Some(name("done"));
    worker.options.slots = 1;
    worker
        .handle(WAIT, move |word| {
            let stage = stage(&word);
            async move { stage.wait(&word).await }
        })
        .handle(SERVE, move |word| {
            let stage = other(&word);
            async move { stage.serve(&word).await }
        })
        .handle(SQUARES, move |n| squares(broker.clone(), queue.clone(), n))
        .handle(SQUARE, async |x| Ok::<_, PoolError>(x * x));
    worker.run(std::future::pending()).await.unwrap();
}

/// Maps twice, once with an iterator and once in the background, and joins the pool.
async fn squares(broker: Broker, queue: Name, n: i64) -> Result<Vec<i64>, PoolError> {
    let pool = Pool::builder(&broker).queue(queue).open().await?;
    let mapped = pool.map_with(SQUARE, 0..n, 1).await?;
    let again = pool.map_async(SQUARE, 0..n)?.get().await?;
    assert_eq!(mapped, again);
    pool.close();
    pool.join().await?;
    Ok(mapped)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_by_any_word_is_served_by_a_task_in_its_own_slot() {
    let fleet = Fleet::new().await;
    let _worker = fleet.words();
    for word in ["event", "barrier", "condition", "get", "put", "join"] {
        fleet.submit_word(WAIT, word).await;
        fleet.submit_word(SERVE, word).await;
        let ended = fleet.completions(2).await;
        let all_well = ended.values().all(|c| c.outcome == Outcome::Ok);
        assert!(all_well, "{word}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_maps_over_the_fleet_of_its_own_slot() {
    let fleet = Fleet::new().await;
    let _worker = fleet.words();
    fleet.submit(&SQUARES.call(&20).unwrap()).await;
    let completion = fleet.completion().await;
    let squares = SQUARES.result(&completion).unwrap();
    assert_eq!(squares, (0..20).map(|x| x * x).collect::<Vec<_>>());
}
