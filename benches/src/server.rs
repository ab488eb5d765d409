//! A Redis of the run's own, without persistence, in a directory that goes with it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

const START_LIMIT: Duration = Duration::from_secs(10);

/// A running server. Drop kills it and removes its directory.
pub(crate) struct Server {
    process: Child,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// Starts `$PMQ_SERVER_BIN`, else `redis-server`, on a unix socket, or on this port of 127.0.0.1 unless it is 0.
    pub(crate) fn start(port: u16) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("pmq-bench").tempdir()?;
        let program = std::env::var_os("PMQ_SERVER_BIN").unwrap_or_else(|| "redis-server".into());
        let process = Command::new(&program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--unixsocket", "s", "--save", "", "--appendonly", "no"])
            .args(["--maxmemory-policy", "noeviction"])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("could not start {}", program.display()))?;
        let mut server = Self {
            process,
            directory,
            port,
        };
        server.wait()?;
        Ok(server)
    }

    /// How a client connects.
    pub(crate) fn url(&self) -> String {
        match self.port {
            0 => format!("redis+unix://{}", self.directory.path().join("s").display()),
            port => format!("redis://127.0.0.1:{port}"),
        }
    }

    fn wait(&mut self) -> Result<()> {
        let (socket, start) = (self.directory.path().join("s"), Instant::now());
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("the server ended with {status}");
            }
            if start.elapsed() > START_LIMIT {
                bail!("the server does not answer");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
