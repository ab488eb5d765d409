//! A list that two processes share: a helper fills it with squares, and this one reads them.
//!
//!     cargo run -p pmq --example manager_list

use std::env;
use std::process::Command;

use anyhow::ensure;
use pmq::{Broker, Config, Manager, Name};

/// The helper: it knows nothing but the list's name.
async fn fill(broker: &Broker, name: Name) -> anyhow::Result<()> {
    let squares = broker.list(&name);
    for x in 0..10_i64 {
        squares.append(&(x * x)).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let broker = Broker::connect(&Config::from_env()?).await?;
    if let Some(name) = env::args().nth(1) {
        return fill(&broker, Name::new(name)?).await;
    }

    let squares = Manager::new(&broker).list::<i64>([]).await?;
    let mut helper = Command::new(env::current_exe()?);
    helper.arg(squares.name().as_str());
    ensure!(helper.status()?.success(), "the helper failed");

    println!("{:?}", squares.to_vec().await?);
    println!("{}", squares.len().await?);
    println!("{:?}", squares.slice(2..5).await?);
    Ok(())
}
