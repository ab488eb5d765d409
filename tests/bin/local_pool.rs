//! A program with local pools and processes, as its users write them; its argument says what it does.

use std::env;
use std::path::Path;
use std::process;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use pmq::pool::PoolBuilder;
use pmq::{Broker, Parent, Pool, PoolError, Process, Program, Task};
use rustix::process::{Signal, getpid, kill_process};

const SQUARE: Task<u64, u64> = Task::new("square");
/// The process that runs it.
const PID: Task<u64, u32> = Task::new("pid");
/// Kills its process if the file is not there, which it then is.
const DIE_ONCE: Task<(u64, String), u64> = Task::new("die once");
/// Prints its process, and never ends.
const HANG: Task<u64, u64> = Task::new("hang");
const PRINT: Task<String, ()> = Task::new("print");
const NEVER: Task<(), ()> = Task::new("never");
/// Starts a child of its own, and answers what that answers.
const NESTED: Task<u64, u64> = Task::new("nested");
const SETUP: Task<String, ()> = Task::new("setup");
/// Ends its process, where that is asked for.
const EXIT: Task<u64, u64> = Task::new("exit");
/// Runs this program again, and answers what it prints.
const AGAIN: Task<String, String> = Task::new("again");
const UNKNOWN: Task<u64, u64> = Task::new("unknown");

#[tokio::main]
async fn main() -> Result<()> {
    let what = env::args().nth(1).unwrap_or_default();
    let is_worker = env::var_os("PMQ_POOL_WORKER").is_some();
    ensure!(what != "broken" || !is_worker, "this worker does not start");
    if what == "crashing" && is_worker {
        kill_process(getpid(), Signal::KILL)?;
    }
    Program::new()
        .handle(SQUARE, |x| async move { Ok::<_, String>(x * x) })
        .handle(PID, |_| async { Ok::<_, String>(process::id()) })
        .handle(DIE_ONCE, |(n, file): (u64, String)| async move {
            if n == 7 && !Path::new(&file).exists() {
                std::fs::write(&file, "").map_err(|error| error.to_string())?;
                kill_process(getpid(), Signal::KILL).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(n)
        })
        .handle(EXIT, exit)
        .handle(AGAIN, again)
        .handle(HANG, |_| async {
            println!("worker {}", process::id());
            loop {
                // No order to stop reaches a handler that does not give its thread back.
                std::thread::park();
            }
            #[expect(unreachable_code, reason = "it says what a result would be")]
            Ok::<u64, String>(0)
        })
        .handle(PRINT, |text: String| async move {
            pmq::print(text).await;
            Ok::<_, String>(())
        })
        .handle(NEVER, |()| std::future::pending::<Result<(), String>>())
        .handle(NESTED, nested)
        .handle(SETUP, |text: String| async move {
            println!("setup {text} {}", process::id());
            if text == "die" {
                kill_process(getpid(), Signal::KILL).map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(())
        })
        .run(async |parent| act(&what, parent).await)
        .await
}

async fn nested(depth: u64) -> Result<u64> {
    let Some(broker) = Broker::current() else {
        bail!("a handler has a broker");
    };
    if depth == 0 {
        return Ok(0);
    }
    let mut child = Process::new(NESTED, &(depth - 1))?;
    child.start(&broker).await?;
    Ok(child.result(NESTED).await? + 1)
}

#[expect(
    clippy::disallowed_methods,
    reason = "what users write may do it, and the pool must live on"
)]
async fn exit(n: u64) -> Result<u64> {
    if n == 7 {
        process::exit(3);
    }
    Ok(n)
}

async fn again(what: String) -> Result<String> {
    let mut program = tokio::process::Command::new(env::current_exe()?);
    let output = program.arg(what).output().await?;
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// What the program does with single processes.
async fn start(what: &str, parent: &Parent) -> Result<()> {
    match what {
        "killed child" => {
            let file = env::args().nth(2).unwrap_or_default();
            let child = parent.start(Process::new(DIE_ONCE, &(7, file))?).await?;
            child.join().await?;
            println!("{:?}", child.exitcode().await?);
            let next = parent.start(Process::new(SQUARE, &9)?).await?;
            println!("{}", next.result(SQUARE).await?);
        }
        "nested child" => {
            let child = parent.start(Process::new(NESTED, &5)?).await?;
            println!("{}", child.result(NESTED).await?);
        }
        "command child" => {
            let command = Process::command(["sh", "-c", "echo from the command; exit 7"]);
            let child = parent.start(command).await?;
            child.join().await?;
            println!("{:?}", child.exitcode().await?);
        }
        _ => {
            let daemon = parent.start(Process::new(NEVER, &())?.daemon(true)).await?;
            println!("worker {}", daemon.pid()?.unwrap_or_default());
            parent
                .start(Process::new(PRINT, &"joined".to_owned())?)
                .await?;
        }
    }
    Ok(())
}

async fn act(what: &str, parent: Parent) -> Result<()> {
    let pool = Pool::builder(parent.broker()).processes(2);
    match what {
        "squares" => {
            let pool = parent.open_local(pool).await?;
            let squares = pool.map_with(SQUARE, 0..20_000, 1).await?;
            println!("{}", squares.iter().sum::<u64>());
            pool.close();
            pool.join().await?;
        }
        "replace" => pids(&parent, pool.processes(1).max_tasks_per_child(2)).await?,
        "setup" => pids(&parent, pool.initializer(SETUP, &"green".to_owned())).await?,
        "die" => {
            let pool = parent.open_local(pool).await?;
            let file = env::args().nth(2).unwrap_or_default();
            pool.map(SQUARE, 0..100).await?;
            let start = Instant::now();
            let numbers = pool
                .map(DIE_ONCE, (0..50).map(|n| (n, file.clone())))
                .await?;
            ensure!(numbers.into_iter().eq(0..50), "wrong results");
            println!("{}", start.elapsed().as_millis());
        }
        "hang" => {
            let pool = parent.open_local(pool).await?;
            pool.map(HANG, [1, 2]).await?;
        }
        "terminate" => {
            let pool = parent.open_local(pool).await?;
            let hanging = pool.map_async(HANG, 0..10_000)?;
            pool.terminate();
            pool.join().await?;
            fails(hanging.get().await)?;
        }
        "exits" => {
            let pool = parent.open_local(pool.processes(1)).await?;
            fails(pool.apply(EXIT, 7).await)?;
            println!("{}", pool.apply(EXIT, 8).await?);
        }
        "again" => {
            let pool = parent.open_local(pool).await?;
            println!("{}", pool.apply(AGAIN, "squares".to_owned()).await?);
            println!("{}", pool.apply(SQUARE, 9).await?);
        }
        "broken" | "crashing" => no_worker(&parent, pool).await?,
        "abort" => no_worker(&parent, pool.initializer(SETUP, &"die".to_owned())).await?,
        _ if what.ends_with("child") => start(what, &parent).await?,
        _ => {
            let pool = parent.open_local(pool).await?;
            fails(pool.map(UNKNOWN, 0..10).await)?;
        }
    }
    Ok(())
}

/// Prints an error that has to come.
fn fails<T>(result: std::result::Result<T, PoolError>) -> Result<()> {
    let Err(error) = result else {
        bail!("there was no error");
    };
    println!("{error}");
    Ok(())
}

/// Prints why a pool has no worker that lives.
async fn no_worker(parent: &Parent, pool: PoolBuilder) -> Result<()> {
    let pool = parent.open_local(pool).await?;
    fails(pool.map_with(SQUARE, 0..1000, 1).await)
}

/// Prints which processes ran six chunks.
async fn pids(parent: &Parent, pool: PoolBuilder) -> Result<()> {
    let pool = parent.open_local(pool).await?;
    for pid in pool.map_with(PID, 0..6, 1).await? {
        println!("pid {pid}");
    }
    Ok(())
}
