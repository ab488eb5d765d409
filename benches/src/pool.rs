//! `Pool.map` of tasks that do nothing, one a chunk, beside Python's own, with two processes each.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pmq::{Config, Pool, Program, Task};

const PROCESSES: usize = 2;
const WARM_UP: u64 = 1000;
const NOOP: Task<u64, u64> = Task::new("noop");

const PYTHON: &str = "
import multiprocessing, sys, time

def noop(x):
    return x

if __name__ == '__main__':
    processes, warm_up, tasks = map(int, sys.argv[1:])
    with multiprocessing.Pool(processes) as pool:
        pool.map(noop, range(warm_up), 1)
        start = time.perf_counter()
        pool.map(noop, range(tasks), 1)
        print(time.perf_counter() - start)
";

/// Maps over so many items and prints how many seconds it took. Its workers are this program again.
pub(crate) async fn map(url: &str, tasks: u64) -> Result<()> {
    let program = Program::new().config(Config::url(url));
    let program = program.handle(NOOP, |x| async move { Ok::<_, String>(x) });
    program
        .run(async |parent| {
            let pool = Pool::builder(parent.broker()).processes(PROCESSES);
            let pool = parent.open_local(pool).await?;
            pool.map_with(NOOP, 0..WARM_UP, 1).await?;
            let start = Instant::now();
            let results = pool.map_with(NOOP, 0..tasks, 1).await?;
            println!("{}", start.elapsed().as_secs_f64());
            ensure!(results.into_iter().eq(0..tasks), "wrong results");
            Ok(())
        })
        .await
}

/// The same with Python's own pool; seconds.
pub(crate) fn python(tasks: u64) -> Result<f64> {
    let numbers = [PROCESSES as u64, WARM_UP, tasks].map(|n| n.to_string());
    seconds(Command::new("python3").args(["-c", PYTHON]).args(numbers))
}

/// What a program printed: how many seconds it took.
pub(crate) fn seconds(command: &mut Command) -> Result<f64> {
    let output = command.output().context("could not start a pool")?;
    ensure!(
        output.status.success(),
        "a pool failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
