//! What is measured, and how: medians of several runs, pmq and floor in turn on one server.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pmq_tests::RedisServer;
use redis::Connection;

use crate::floor;
use crate::roles;
use crate::runtime;
use crate::table::Figure;

struct Bench {
    server: RedisServer,
    connection: Connection,
    runtime: tokio::runtime::Runtime,
    tasks: usize,
    runs: usize,
}

/// All figures.
pub(crate) fn all(tasks: usize, runs: usize) -> Result<Vec<Figure>> {
    let server = RedisServer::builder().tcp(true).start();
    let connection = floor::connect(&server.url())?;
    let mut bench = Bench {
        server,
        connection,
        runtime: runtime()?,
        tasks,
        runs,
    };
    let mut figures = Vec::new();
    figures.extend(bench.rates()?);
    figures.extend(bench.queues()?);
    figures.push(bench.round_trip()?);
    figures.push(bench.bytes_per_task()?);
    figures.push(bench.idle_commands()?);
    figures.push(bench.worker_growth()?);
    Ok(figures)
}

impl Bench {
    /// Submit, drain and end to end, as tasks/s.
    fn rates(&mut self) -> Result<Vec<Figure>> {
        let mut samples: [Vec<f64>; 6] = Default::default();
        for _ in 0..self.runs {
            let round = [
                self.timed(&["produce"], false)?,
                self.timed_work("work")?,
                self.timed(&["produce", "work"], true)?,
                self.timed(&["floor-produce"], false)?,
                self.timed_work("floor-work")?,
                self.timed(&["floor-produce", "floor-work"], true)?,
            ];
            for (sample, value) in samples.iter_mut().zip(round) {
                sample.push(value);
            }
        }
        let [submit, drain, end, floor_submit, floor_drain, floor_end] = samples.map(median);
        let figure = |name, pmq, floor| Figure {
            name,
            unit: "tasks/s",
            pmq,
            floor: Some(floor),
        };
        Ok(vec![
            figure("submit", submit, floor_submit),
            figure("drain", drain, floor_drain),
            figure("end_to_end", end, floor_end),
        ])
    }

    /// Runs roles as processes on an empty server; tasks/s until all have ended, or all completions were read here.
    fn timed(&mut self, roles: &[&str], consume: bool) -> Result<f64> {
        redis::cmd("FLUSHALL").exec(&mut self.connection)?;
        self.run(roles, consume)
    }

    fn timed_work(&mut self, role: &'static str) -> Result<f64> {
        redis::cmd("FLUSHALL").exec(&mut self.connection)?;
        let producer = if role == "work" {
            "produce"
        } else {
            "floor-produce"
        };
        self.run(&[producer], false)?;
        self.run(&[role], false)
    }

    fn run(&mut self, roles: &[&str], consume: bool) -> Result<f64> {
        let start = Instant::now();
        let children: Vec<Child> = roles
            .iter()
            .map(|role| self.spawn(role))
            .collect::<Result<_>>()?;
        if consume {
            self.consume(roles[0].starts_with("floor"))?;
        } else {
            wait(children)?;
            return Ok(self.tasks as f64 / start.elapsed().as_secs_f64());
        }
        let rate = self.tasks as f64 / start.elapsed().as_secs_f64();
        wait(children)?;
        Ok(rate)
    }

    fn consume(&mut self, floor: bool) -> Result<()> {
        if !floor {
            let url = self.server.url();
            let tasks = self.tasks;
            return self
                .runtime
                .block_on(async { roles::consume(&roles::queue(&url).await?, tasks).await });
        }
        let mut got = 0;
        while got < self.tasks {
            let some = floor::consume_some(&mut self.connection, 500)?;
            got += some;
            if some == 0 {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    fn spawn(&self, role: &str) -> Result<Child> {
        let program = std::env::current_exe()?;
        Command::new(program)
            .arg(role)
            .arg(self.server.url())
            .arg(self.tasks.to_string())
            .spawn()
            .context("could not start a role")
    }

    /// Put plus get on a plain queue by one process, beside RPUSH plus LPOP on a connection of the same type, in turn.
    fn queues(&mut self) -> Result<Vec<Figure>> {
        let (url, items) = (self.server.url(), self.tasks);
        let mut figures = Vec::new();
        for (name, batch) in [("queue_64", 64), ("queue_256", 256)] {
            let (mut samples, mut floor) = (Vec::new(), Vec::new());
            for _ in 0..self.runs {
                redis::cmd("FLUSHALL").exec(&mut self.connection)?;
                let start = Instant::now();
                self.runtime
                    .block_on(roles::put_and_get(&url, items, batch))?;
                samples.push(items as f64 / start.elapsed().as_secs_f64());
                let start = Instant::now();
                self.runtime
                    .block_on(floor::push_and_pop(&url, items, batch))?;
                floor.push(items as f64 / start.elapsed().as_secs_f64());
            }
            figures.push(Figure {
                name,
                unit: "items/s",
                pmq: median(samples),
                floor: Some(median(floor)),
            });
        }
        Ok(figures)
    }

    /// Submit to completion in hand with an idle worker, beside four sequential round trips on one socket.
    fn round_trip(&mut self) -> Result<Figure> {
        redis::cmd("FLUSHALL").exec(&mut self.connection)?;
        let rounds = 2000;
        let mut worker = Command::new(std::env::current_exe()?)
            .args(["work", &self.server.url(), &rounds.to_string()])
            .spawn()?;
        let url = self.server.url();
        let client = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // In turn, so that both meet the machine in the same state: a processor that was idle is slow to wake.
        let connection = &mut self.connection;
        let (samples, floor) = client.block_on(async {
            let queue = roles::queue(&url).await?;
            let mut consumer = queue.completions(&roles::done());
            let (mut samples, mut floor) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                let start = Instant::now();
                roles::round_trip(&queue, &mut consumer).await?;
                samples.push(start.elapsed().as_secs_f64() * 1e6);
                let start = Instant::now();
                for _ in 0..4 {
                    redis::cmd("PING").exec(connection)?;
                }
                floor.push(start.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok((samples, floor))
        })?;
        worker.wait()?;
        Ok(Figure {
            name: "round_trip_us",
            unit: "us, p50",
            pmq: median(samples),
            floor: Some(median(floor)),
        })
    }

    fn bytes_per_task(&mut self) -> Result<Figure> {
        let pmq = self.memory_of("produce")?;
        let floor = self.memory_of("floor-produce")?;
        Ok(Figure {
            name: "bytes_per_task",
            unit: "B in Redis",
            pmq,
            floor: Some(floor),
        })
    }

    fn memory_of(&mut self, role: &str) -> Result<f64> {
        redis::cmd("FLUSHALL").exec(&mut self.connection)?;
        let before = self.info("used_memory")?;
        self.run(&[role], false)?;
        Ok((self.info("used_memory")? - before) / self.tasks as f64)
    }

    /// Calls a second that an idle worker makes, from the server's own count over ten seconds.
    fn idle_commands(&mut self) -> Result<Figure> {
        redis::cmd("FLUSHALL").exec(&mut self.connection)?;
        let mut worker = Command::new(std::env::current_exe()?)
            .args(["work", &self.server.url(), "1"])
            .spawn()?;
        std::thread::sleep(Duration::from_secs(3));
        let before = self.client_calls()?;
        std::thread::sleep(Duration::from_secs(20));
        let calls = self.client_calls()? - before;
        worker.kill()?;
        worker.wait()?;
        Ok(Figure {
            name: "idle_calls_per_s",
            unit: "calls/s",
            pmq: calls / 20.0,
            floor: None,
        })
    }

    fn client_calls(&mut self) -> Result<f64> {
        let stats: String = redis::cmd("INFO")
            .arg("commandstats")
            .query(&mut self.connection)?;
        let calls = |name: &str| {
            let line = stats
                .lines()
                .find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            line.and_then(|line| {
                line.split("calls=")
                    .nth(1)?
                    .split(',')
                    .next()?
                    .parse::<f64>()
                    .ok()
            })
            .unwrap_or(0.0)
        };
        Ok(calls("fcall") + calls("blpop") + calls("ping"))
    }

    /// How much a worker grows over a million tasks.
    fn worker_growth(&mut self) -> Result<Figure> {
        redis::cmd("FLUSHALL").exec(&mut self.connection)?;
        let total = 5 * self.tasks;
        let mut worker = Command::new(std::env::current_exe()?)
            .args(["work", &self.server.url(), &(total + 1).to_string()])
            .spawn()?;
        let url = self.server.url();
        let mut sizes = Vec::new();
        for _ in 0..5 {
            self.run(&["produce"], false)?;
            let tasks = self.tasks;
            self.runtime
                .block_on(async { roles::consume(&roles::queue(&url).await?, tasks).await })?;
            sizes.push(resident(worker.id())?);
        }
        worker.kill()?;
        worker.wait()?;
        Ok(Figure {
            name: "worker_rss_growth",
            unit: "B/task, first fifth to last",
            pmq: (sizes[4] - sizes[0]) * 1024.0 / (4 * self.tasks) as f64,
            floor: None,
        })
    }

    fn info(&mut self, field: &str) -> Result<f64> {
        let info: String = redis::cmd("INFO").query(&mut self.connection)?;
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{field}:")));
        Ok(line.context("a field of INFO is missing")?.trim().parse()?)
    }
}

/// Resident memory of a process, in KiB.
fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line
        .context("no VmRSS")?
        .trim()
        .trim_end_matches(" kB")
        .parse()?)
}

fn wait(children: Vec<Child>) -> Result<()> {
    for mut child in children {
        ensure!(child.wait()?.success(), "a role failed");
    }
    Ok(())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
