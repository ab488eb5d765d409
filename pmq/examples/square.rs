//! Producer, worker and consumer in one process: squares, with their types checked on both sides.
//!
//!     cargo run -p pmq --example square

use pmq::{Broker, Config, Name, Task, Worker};

const SQUARE: Task<i64, i64> = Task::new("square");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let broker = Broker::connect(&Config::from_env()?).await?;
    let (name, done) = (Name::new("squares")?, Name::new("done")?);
    let queue = broker.task_queue(&name);
    let mut tasks = Vec::new();
    for x in 0..10 {
        tasks.push(SQUARE.call(&x)?.with_completions(done.clone()));
    }
    queue.submit_many(&tasks).await?;

    let mut worker = Worker::new(broker);
    worker.options.queues = vec![name];
    worker.options.burst = true;
    worker.handle(SQUARE, |x| async move { Ok::<_, String>(x * x) });
    worker.run(std::future::pending()).await?;

    let mut completions = queue.completions(&done);
    while let Some(completion) = completions.get_nowait().await? {
        println!("{}", SQUARE.result(&completion)?);
    }
    completions.close().await?;
    Ok(())
}
