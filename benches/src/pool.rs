//! `Pool.map` of tasks that do nothing, one a chunk, beside Python's own, with two processes each.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pmq::{Config, Pool, Program, Task};
use pmq_benches::{Figure, Section};

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

/// `Pool.map` at chunksize 1 on a server, beside Python's own on this machine, in turn.
pub(crate) fn section(url: &str, tasks: usize, runs: usize) -> Result<Section> {
    let tasks = tasks as u64;
    let (mut pmq, mut python) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut map = Command::new(std::env::current_exe()?);
        map.args(["--pool-map", &tasks.to_string()]);
        map.env("PMQ_REDIS_URL", url);
        pmq.push(tasks as f64 / seconds(&mut map)?);
        python.push(tasks as f64 / self::python(tasks)?);
    }
    let figure = Figure::medians("pool_map", "tasks/s", pmq, python);
    let note = format!(
        "`Pool.map` of no-ops at chunksize 1, {PROCESSES} processes; floor: Python's own pool, which has no broker."
    );
    let mut section = Section::new("Pool", &note);
    section.push(figure);
    Ok(section)
}

/// Maps over so many items and prints how many seconds it took. Its workers are this program again.
pub(crate) async fn map(tasks: u64) -> Result<()> {
    let program = Program::new().config(Config::from_env()?);
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
fn python(tasks: u64) -> Result<f64> {
    let numbers = [PROCESSES as u64, WARM_UP, tasks].map(|n| n.to_string());
    seconds(Command::new("python3").args(["-c", PYTHON]).args(numbers))
}

/// What a program printed: how many seconds it took.
fn seconds(command: &mut Command) -> Result<f64> {
    let output = command.output().context("could not start a pool")?;
    ensure!(
        output.status.success(),
        "a pool failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}
