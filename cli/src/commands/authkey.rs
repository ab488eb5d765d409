//! `pmq authkey`: makes the key that signs tasks, and tells keys apart.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pmq_broker::authkey::{Authkey as Keys, KeyId};
use serde_json::json;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

const ROTATION: &str = "\
A file holds one key, or two: the first signs, and both are accepted. To replace a key without losing a task:
  1. pmq authkey new >> FILE, and copy FILE to all hosts: the new key is accepted. Restart the programs that read it.
  2. Move its line to the top, on all hosts: the new key signs. Restart them again.
  3. When the tasks of the old key have ended or expired: delete its line.";

/// Make an authkey, or show the ids of the keys in a file
#[derive(clap::Subcommand, Debug)]
pub enum Authkey {
    /// Make a key, in a new file that only you can read
    #[command(after_help = "\
Without FILE it is printed, to be added to a file. An existing file is never overwritten.

Example:
  pmq authkey new ~/.pmq-authkey
  export PMQ_AUTHKEY_FILE=~/.pmq-authkey")]
    New {
        /// The file
        file: Option<PathBuf>,
    },
    /// Show the ids of the keys in a file, as logs name them
    #[command(after_help = format!("{ROTATION}\n\nExample:\n  pmq authkey ids ~/.pmq-authkey"))]
    Ids {
        /// The file
        file: PathBuf,
    },
}

impl Authkey {
    /// Runs it.
    pub fn run(self, context: &Context) -> anyhow::Result<Exit> {
        match self {
            Self::New { file } => {
                let key = Keys::generate();
                let id = Keys::parse(&key)?.ids()[0];
                let line = format!("{key} # id {id}\n");
                match file {
                    None => io::stdout().write_all(line.as_bytes())?,
                    Some(path) => {
                        write_new(&path, &line)?;
                        output::note(&format!("wrote key {id} to {}", path.display()));
                    }
                }
            }
            Self::Ids { file } => show(context, &ids(&file)?)?,
        }
        Ok(Exit::OK)
    }
}

/// Writes a file that is not there yet, for its owner's eyes alone.
fn write_new(path: &Path, line: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_all())
    });
    written.map_err(|error| {
        let failure = Failure::usage(format!("could not write {}: {error}", path.display()));
        if error.kind() == io::ErrorKind::AlreadyExists {
            return failure
                .with_hint("to add a key to it: pmq authkey new >> FILE")
                .into();
        }
        failure.into()
    })
}

fn ids(path: &Path) -> anyhow::Result<Vec<KeyId>> {
    let bad = |why: String| Failure::usage(format!("could not use {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let keys = Keys::parse(&text).map_err(|error| bad(error.to_string()))?;
    Ok(keys.ids())
}

fn show(context: &Context, ids: &[KeyId]) -> anyhow::Result<()> {
    for (id, signs) in ids.iter().zip([true, false]) {
        let (id, role) = (id.to_string(), if signs { "signs" } else { "is accepted" });
        if context.output.is_json() {
            context.output.json(&json!({"id": id, "signs": signs}))?;
        } else {
            context.output.line(&format!("{id} {role}"))?;
        }
    }
    Ok(())
}
