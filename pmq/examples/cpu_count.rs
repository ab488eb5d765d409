//! How many tasks can run at once: CPUs of this machine, or slots of the fleet.
//!
//!     cargo run -p pmq --example cpu_count

use pmq::Program;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    Program::new()
        .run(async |parent| {
            println!("Number of cpu: {}", parent.cpu_count().await?);
            anyhow::Ok(())
        })
        .await
}
