//! Where a run takes place: a real server, and a network to it for each process.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pmq_tests::RedisServer;
use redis::Connection;

/// How a server keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In memory alone.
    None,
    /// Synchronised about every second.
    Everysec,
    /// Synchronised before each answer.
    Always,
}

impl Durability {
    /// Its name in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "no AOF",
            Self::Everysec => "AOF everysec",
            Self::Always => "AOF always",
        }
    }
}

/// A server and the directory of the histories.
pub struct Site {
    /// The server.
    pub server: RedisServer,
    /// Where histories go.
    pub directory: PathBuf,
    /// Whether the server answers now, as far as the faults go.
    pub up: bool,
    connection: Option<Connection>,
}

impl Site {
    /// Starts a server.
    pub fn open(durability: Durability, directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .context("could not make the directory of the histories")?;
        let fsync = if durability == Durability::Always {
            "always"
        } else {
            "everysec"
        };
        let server = RedisServer::builder()
            .aof(durability != Durability::None)
            .config("appendfsync", fsync)
            .config("maxclients", "20000")
            .start();
        Ok(Self {
            server,
            directory: directory.to_owned(),
            up: true,
            connection: None,
        })
    }

    /// Asks the server itself, past all networks; `None` where it is down or does not answer.
    pub fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Option<T> {
        if !self.up {
            self.connection = None;
            return None;
        }
        let connection = self
            .connection
            .get_or_insert_with(|| self.server.connection());
        let answer = command.query(connection);
        answer.inspect_err(|_| self.connection = None).ok()
    }
}
