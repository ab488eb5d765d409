//! The command `pmq` itself: `pmq map` beside xargs and GNU parallel, its start-up, its size.

use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Options;
use crate::figure::{Figure, Section};
use crate::role::micros;
use crate::site::Site;
use crate::stats::median;

/// Commands a run.
const COMMANDS: usize = 2000;
/// GNU parallel starts some hundred a second.
const FEW: usize = 300;
/// How many run at once.
const PARALLEL: &str = "4";
/// Starts of the program.
const STARTS: usize = 40;
/// Bytes of a MB.
const MB: f64 = 1e6;

pub(super) async fn all(site: &Site, options: &Options) -> Result<Vec<Section>> {
    let Some(program) = &options.program else {
        return Ok(Vec::new()); // it is not built
    };
    let note = format!(
        "`pmq map -j {PARALLEL}` of /bin/true on {COMMANDS} lines with the local broker, its start and end included; floor: \
         `xargs -n 1 -P {PARALLEL}`. `pmq status --json` on a broker that runs, from start to end; floor: /bin/true likewise."
    );
    let mut section = Section::new("The command", &note);
    // A local broker of the run's own: what the user's holds is not touched.
    let directory = std::env::temp_dir().join(site.config.namespace.as_str());
    let (mut map, mut xargs, mut parallel) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.runs {
        let mut command = Command::new(program);
        command
            .args(["map", "-j", PARALLEL, "--", "/bin/true", "{}"])
            .env_remove("PMQ_REDIS_URL")
            .env("PMQ_DATA_DIR", &directory);
        map.push(rate(command, COMMANDS).await?);
        let mut command = Command::new("xargs");
        command.args(["-n", "1", "-P", PARALLEL, "/bin/true"]);
        xargs.push(rate(command, COMMANDS).await?);
        if has_parallel().await {
            let mut command = Command::new("parallel");
            command.args(["-j", PARALLEL, "/bin/true"]);
            parallel.push(rate(command, FEW).await?);
        }
    }
    std::fs::remove_dir_all(&directory).context("could not remove the local broker")?;
    section.push(Figure::new("map", "commands/s", median(map)).floor(median(xargs)));
    if !parallel.is_empty() {
        let parallel = median(parallel);
        section.push(Figure::new("gnu_parallel", "commands/s", parallel));
    }
    section.push(start_up(site, program).await?);
    let size = std::fs::metadata(program)?.len() as f64 / MB;
    section.push(Figure::new("program_size", "MB", size));
    Ok(vec![section])
}

async fn has_parallel() -> bool {
    let mut version = Command::new("parallel");
    version.arg("--version").stdout(Stdio::null());
    version.stderr(Stdio::null());
    version.status().await.is_ok_and(|status| status.success())
}

/// Commands a second of a program that runs one a line.
async fn rate(mut command: Command, commands: usize) -> Result<f64> {
    // One word, as xargs makes an argument of each.
    let lines = "line\n".repeat(commands);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("could not start a program that runs commands")?;
    let mut stdin = child.stdin.take().context("it has no standard input")?;
    stdin.write_all(lines.as_bytes()).await?;
    drop(stdin);
    let status = child.wait().await?;
    ensure!(
        status.success(),
        "a program that runs commands ended with {status}"
    );
    Ok(commands as f64 / start.elapsed().as_secs_f64())
}

async fn start_up(site: &Site, program: &Path) -> Result<Figure> {
    let (mut pmq, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let mut status = Command::new(program);
        status.args(["status", "--json"]);
        status.env("PMQ_NAMESPACE", site.config.namespace.as_str());
        if let Some(url) = &site.config.url {
            status.env("PMQ_REDIS_URL", url);
        }
        pmq.push(time(status).await?);
        floor.push(time(Command::new("/bin/true")).await?);
    }
    Ok(Figure::new("status_us", "µs, p50", median(pmq)).floor(median(floor)))
}

async fn time(mut command: Command) -> Result<f64> {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).kill_on_drop(true).status();
    ensure!(status.await?.success(), "a program failed");
    Ok(micros(start))
}
