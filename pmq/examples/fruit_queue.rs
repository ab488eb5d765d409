//! A queue between two processes: one puts fruits into it, the other one gets them until it is empty.
//!
//!     cargo run -p pmq --example fruit_queue

use pmq::{GetError, Process, Program, Queue, Task};

const PUT: Task<Queue<String>, ()> = Task::new("put fruits");
const GET: Task<Queue<String>, ()> = Task::new("get fruits");

async fn put(queue: Queue<String>) -> anyhow::Result<()> {
    let fruits = ["apple", "banana", "cherry", "mango", "orange"];
    for (number, fruit) in fruits.into_iter().enumerate() {
        pmq::print(format!("item {number} {fruit}")).await;
        queue.put(fruit.to_owned()).await?;
    }
    Ok(())
}

async fn get(queue: Queue<String>) -> anyhow::Result<()> {
    loop {
        match queue.get_nowait().await {
            Ok(fruit) => pmq::print(format!("got {fruit}")).await,
            Err(GetError::Empty) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Program::new()
        .handle(PUT, put)
        .handle(GET, get)
        .run(async |parent| {
            let queue = parent.manager().anonymous_queue().await?;

            let put = parent.start(Process::new(PUT, &queue)?).await?;
            put.join().await?;
            let get = parent.start(Process::new(GET, &queue)?).await?;
            get.join().await?;
            anyhow::Ok(())
        })
        .await
}
