//! A list that two processes share: a child fills it with squares, and its parent reads them.
//!
//!     cargo run -p pmq --example manager_list

use pmq::{List, Process, Program, Task};

const FILL: Task<List<i64>, ()> = Task::new("fill");

async fn fill(squares: List<i64>) -> anyhow::Result<()> {
    for x in 0..10 {
        squares.append(&(x * x)).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Program::new()
        .handle(FILL, fill)
        .run(async |parent| {
            let squares = parent.manager().list([]).await?;
            let child = parent.start(Process::new(FILL, &squares)?).await?;
            child.join().await?;

            println!("{:?}", squares.to_vec().await?);
            println!("{}", squares.len().await?);
            println!("{:?}", squares.slice(2..5).await?);
            anyhow::Ok(())
        })
        .await
}
