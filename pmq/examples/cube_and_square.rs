//! Two processes: one computes the cube of 10, the other one its square.
//!
//!     cargo run -p pmq --example cube_and_square

use pmq::{Process, Program, Task};

const CUBE: Task<i64, ()> = Task::new("cube");
const SQUARE: Task<i64, ()> = Task::new("square");

async fn cube(n: i64) -> anyhow::Result<()> {
    pmq::print(format!("cube: {}", n * n * n)).await;
    Ok(())
}

async fn square(n: i64) -> anyhow::Result<()> {
    pmq::print(format!("square: {}", n * n)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Program::new()
        .handle(CUBE, cube)
        .handle(SQUARE, square)
        .run(async |parent| {
            let cube = parent.start(Process::new(CUBE, &10)?).await?;
            let square = parent.start(Process::new(SQUARE, &10)?).await?;

            cube.join().await?;
            square.join().await?;

            println!("done");
            anyhow::Ok(())
        })
        .await
}
