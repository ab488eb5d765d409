//! The processes that are measured: this program again, one a role, which begin at a word and tell what they saw.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pmq_broker::Config;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::role::Role;
use crate::site::Site;

/// How a process of this program is started that plays the role, given as JSON, on the broker of a configuration.
pub type Launch = Box<dyn Fn(&Config, &str) -> Result<Command> + Send + Sync>;

/// Longer than any role takes; one that hangs fails the run.
const LIMIT: Duration = Duration::from_secs(600);

/// What a role has seen when it is done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// From the word to its end.
    pub(crate) seconds: f64,
    /// Its processor time meanwhile, in s.
    pub(crate) cpu: f64,
    /// Its resident memory at the end, in bytes.
    pub(crate) memory: f64,
    /// Single times in µs, by what they are of.
    pub(crate) samples: BTreeMap<String, Vec<f64>>,
}

impl Answer {
    /// The single times of one kind.
    pub(crate) fn samples(&mut self, of: &str) -> Vec<f64> {
        self.samples.remove(of).unwrap_or_default()
    }
}

/// A process that plays a role. Drop kills it.
pub(crate) struct Actor {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    role: String,
}

impl Actor {
    async fn line(&mut self) -> Result<String> {
        let line = timeout(LIMIT, self.lines.next_line()).await;
        let line = line.with_context(|| format!("a process hangs: {}", self.role))??;
        match line {
            Some(line) => Ok(line),
            None => bail!("a process failed: {}", self.role),
        }
    }

    /// Lets it begin.
    pub(crate) async fn go(&mut self) -> Result<()> {
        Ok(self.stdin.write_all(b"go\n").await?)
    }

    /// Waits until it is done.
    pub(crate) async fn answer(mut self) -> Result<Answer> {
        let answer = serde_json::from_str(&self.line().await?)?;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("a process ended with {status}: {}", self.role);
        }
        Ok(answer)
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

impl Site {
    /// Starts a process, and returns when it is ready to begin.
    pub(crate) async fn start(&self, role: &Role) -> Result<Actor> {
        let role = serde_json::to_string(role)?;
        let mut command = (self.launch)(&self.config, &role)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().context("could not start a process")?;
        let missing = "a process has no pipe";
        let stdout = BufReader::new(child.stdout.take().context(missing)?);
        let mut actor = Actor {
            stdin: child.stdin.take().context(missing)?,
            lines: stdout.lines(),
            child,
            role,
        };
        actor.line().await?;
        Ok(actor)
    }

    /// Starts processes, lets all begin at once when all are ready, and waits until all are done.
    pub(crate) async fn perform(&self, roles: &[Role]) -> Result<Vec<Answer>> {
        let mut actors = Vec::new();
        for role in roles {
            actors.push(self.start(role).await?);
        }
        for actor in &mut actors {
            actor.go().await?;
        }
        let mut answers = Vec::new();
        for actor in actors {
            answers.push(actor.answer().await?);
        }
        Ok(answers)
    }

    /// The same for one.
    pub(crate) async fn perform_one(&self, role: &Role) -> Result<Answer> {
        let mut actor = self.start(role).await?;
        actor.go().await?;
        actor.answer().await
    }
}
