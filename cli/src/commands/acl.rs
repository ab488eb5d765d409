//! `pmq acl`: Redis's access rules for a role.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::PathBuf;

use clap::Args;
use comfy_table::Cell;
use pmq_broker::acl::{Exposure, Grant, Objects, Role, Version, exposures};
use pmq_broker::{Broker, Name};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;

const AFTER_HELP: &str = "\
On standard output comes one line, for redis-cli or, with --aclfile, for a file of users; on standard error what the role \
could do even so, as Redis lets a user run the commands inside a function directly as well. The rules name the functions \
of this version of pmq: make them again for another. Turn the user `default` off, or give it a password.

Examples:
  pmq acl --role worker -q thumbnails --password-file worker.password | redis-cli
  pmq acl --role producer -q thumbnails --object lock:deploy --object 'queue:*' --aclfile >> users.acl";

/// What stands where the password is not known yet.
const PLACEHOLDER: &str = "<SHA-256 of the password, 64 hexadecimal digits>";

/// Print Redis's access rules for a role
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Acl {
    /// producer, worker, viewer or admin; given more than once, they are added up. Without one it has its objects alone
    #[arg(
        long = "role",
        value_name = "ROLE",
        required_unless_present = "objects"
    )]
    roles: Vec<Role>,

    /// A queue of the user; may be given more than once [default: default]
    #[arg(short, long = "queue", value_name = "Q", requires = "roles")]
    queues: Vec<Name>,

    /// Another object that it uses, as in lock:deploy; a * at its end stands for any rest. May be given more than once
    #[arg(long = "object", value_name = "KIND:NAME")]
    objects: Vec<Objects>,

    /// The user's name [default: pmq- and the role, or pmq-user]
    #[arg(long, value_name = "NAME")]
    user: Option<Name>,

    /// The file whose first line is the user's password; - for standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Print a line for a file of users instead of a command
    #[arg(long)]
    aclfile: bool,

    /// The server's version, as in 7.2 [default: ask the server]
    #[arg(long, value_name = "VERSION")]
    server_version: Option<Version>,
}

impl Acl {
    /// Runs it.
    pub async fn run(mut self, context: &Context) -> anyhow::Result<Exit> {
        if self.queues.is_empty() && !self.roles.is_empty() {
            self.queues = vec![Name::new("default")?];
        }
        let grant = Grant {
            roles: self.roles.clone(),
            namespace: context.config.namespace.clone(),
            queues: self.queues.clone(),
            objects: self.objects.clone(),
            version: self.version(context).await?,
        };
        let rules = grant.rules(&self.password()?);
        let role = self.roles.first().map_or("user", |role| role.as_str());
        let user = self
            .user
            .map_or_else(|| format!("pmq-{role}"), |user| user.to_string());
        let line = if self.aclfile {
            format!("user {user} {rules}")
        } else {
            format!("ACL SETUSER {user} {rules}")
        };
        let exposures = exposures(&grant);
        if context.output.is_json() {
            let exposures: Vec<_> = exposures.iter().map(json_of).collect();
            context
                .output
                .json(&json!({"user": user, "line": line, "could": exposures}))?;
        } else {
            context.output.line(&line)?;
            output::note(&told(&user, &exposures));
        }
        Ok(Exit::OK)
    }

    async fn version(&self, context: &Context) -> anyhow::Result<Version> {
        if let Some(version) = self.server_version {
            return Ok(version);
        }
        let broker = Broker::connect_to_any(&context.config).await;
        let broker = broker.map_err(|error| context.explain(error))?;
        let version = broker.server().version().ok_or_else(|| {
            Failure::usage("the server does not tell its version to this user")
                .with_hint("name it: --server-version 7.2")
        })?;
        Ok(version.parse()?)
    }

    /// The SHA-256 of the password, as Redis keeps it.
    fn password(&self) -> anyhow::Result<String> {
        let Some(path) = &self.password_file else {
            return Ok(PLACEHOLDER.to_owned());
        };
        let mut text = String::new();
        let read = if path.as_os_str() == "-" {
            io::stdin().read_to_string(&mut text)
        } else {
            std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text))
        };
        read.map_err(|error| {
            Failure::usage(format!("could not read {}: {error}", path.display()))
        })?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            return Err(Failure::usage(format!("no password in {}", path.display())).into());
        }
        let digest = Sha256::digest(password);
        Ok(digest.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }
}

fn json_of(exposure: &Exposure) -> serde_json::Value {
    json!({"command": exposure.command, "what": exposure.what, "with_authkey": exposure.with_authkey})
}

/// What the rules cannot prevent, as a table.
fn told(user: &str, exposures: &[Exposure]) -> String {
    let rows = exposures.iter().map(|exposure| {
        [exposure.command, exposure.what, exposure.with_authkey]
            .map(Cell::new)
            .to_vec()
    });
    let table = output::plain_table(
        &["with", "it could", "where all others have an authkey"],
        rows.collect(),
    );
    format!("what {user} could do to its queues without pmq's functions:\n{table}")
}
