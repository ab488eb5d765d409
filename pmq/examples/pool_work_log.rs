//! `Pool(2)` works through a log: V takes 5 seconds, X 2, Y 1 and Z 3.
//!
//!     cargo run -p pmq --example pool_work_log
//!
//! `SECOND_MS` says how long a second is, in ms; 1000 unless set.

use std::env;
use std::time::Duration;

use pmq::{Program, Task};

const WORK_LOG: Task<(String, u64), ()> = Task::new("work_log");

async fn work_log((name, seconds): (String, u64)) -> Result<(), String> {
    let second: u64 = env::var("SECOND_MS")
        .map_or(Ok(1000), |ms| ms.parse())
        .map_err(|_| "SECOND_MS is no number")?;
    println!("process {name} waits {seconds} seconds");
    tokio::time::sleep(Duration::from_millis(second * seconds)).await;
    println!("process {name} finished");
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let work = [("V", 5), ("X", 2), ("Y", 1), ("Z", 3)];
    let work = work.map(|(name, seconds)| (name.to_owned(), seconds));
    Program::new()
        .handle(WORK_LOG, work_log)
        .run(async |parent| {
            let pool = parent.pool(2).await?;
            pool.map(WORK_LOG, work).await?;
            anyhow::Ok(())
        })
        .await
}
