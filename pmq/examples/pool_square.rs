//! `Pool(5)` squares [1, 2, 3].
//!
//!     cargo run -p pmq --example pool_square

use pmq::{Program, Task};

const SQUARE: Task<i64, i64> = Task::new("square");

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let program = Program::new().handle(SQUARE, |x| async move { Ok::<_, String>(x * x) });
    program
        .run(async |parent| {
            let pool = parent.pool(5).await?;
            println!("{:?}", pool.map(SQUARE, [1, 2, 3]).await?);
            anyhow::Ok(())
        })
        .await
}
