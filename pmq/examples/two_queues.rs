//! Two queues and three workers: the workers take tasks from one queue, and tell in the other one what they have done.
//!
//!     cargo run -p pmq --example two_queues

use std::time::Duration;

use pmq::{GetError, Process, Program, Queue, Task, current_process};
use tokio::time::sleep;

const WORK: Task<(Queue<String>, Queue<String>), ()> = Task::new("work");

async fn work((tasks, done): (Queue<String>, Queue<String>)) -> anyhow::Result<()> {
    let me = current_process().name;
    loop {
        match tasks.get_nowait().await {
            Ok(task) => {
                pmq::print(&task).await;
                done.put(format!("{task} is done by {me}")).await?;
                sleep(Duration::from_millis(100)).await;
            }
            Err(GetError::Empty) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Program::new()
        .handle(WORK, work)
        .run(async |parent| {
            let (tasks, done) = (
                parent.manager().anonymous_queue().await?,
                parent.manager().anonymous_queue().await?,
            );
            for number in 0..10 {
                tasks.put(format!("task no {number}")).await?;
            }

            let queues = (tasks, done.clone());
            let mut workers = Vec::new();
            for _ in 0..3 {
                workers.push(parent.start(Process::new(WORK, &queues)?).await?);
            }
            for worker in workers {
                worker.join().await?;
            }

            while !done.empty().await? {
                println!("{}", done.get().await?);
            }
            anyhow::Ok(())
        })
        .await
}
