//! The command line: flags that every command takes, and the command.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser};
use pmq_broker::{Durability, Name};

use crate::commands::Command;
use crate::link_url::Url;
use crate::output::Colors;

const AFTER_HELP: &str = "\
Without a URL pmq uses a private Redis of your own, which it starts and stops by itself.

Precedence: flags, then PMQ_REDIS_URL (PMQ_REDIS_USERNAME, PMQ_REDIS_PASSWORD_FILE, PMQ_REDIS_PASSWORD, \
PMQ_TLS_CA, PMQ_TLS_CERT, PMQ_TLS_KEY, PMQ_INSECURE, PMQ_AUTHKEY_FILE, PMQ_AUTHKEY, PMQ_ENCRYPT, PMQ_NAMESPACE, PMQ_DURABILITY), then the \
configuration file (--config, $PMQ_CONFIG, or pmq/pmq.toml in $XDG_CONFIG_HOME or \
~/.config), then the local broker.

redis+cluster://HOST:PORT,HOST:PORT names some nodes of a Redis Cluster, redis+sentinel://HOST:PORT,HOST:PORT/NAME some \
sentinels and what they call the primary; both with rediss for TLS.

Exit codes: 0 ok; 1 failed; 2 usage; 69 no broker or no worker; 75 empty, full or busy: try again; 76 a lock was lost; \
124 timed out; 130 interrupted; `run`, `join`, `wait` and `submit --wait` exit with the task's own code, `lock` and `sem` with \
the command's, 128+n where signal n ended it.

Example:
  pmq submit --wait -- echo hello";

/// multiprocessing for a fleet of machines, on Redis.
#[derive(Parser, Debug)]
#[command(name = "pmq", bin_name = "pmq", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub globals: Globals,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes, before or after its name.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The broker: redis://, rediss://, redis+unix://, redis+cluster:// or redis+sentinel:// [default: the local broker]
    #[arg(long, global = true, value_name = "URL")]
    pub redis: Option<Url>,

    /// The file of the authkey: sign tasks, and trust only signed ones [default: neither]
    #[arg(long, global = true, value_name = "FILE")]
    pub authkey_file: Option<PathBuf>,

    /// Encrypt bodies and results with the authkey as well
    #[arg(long, global = true)]
    pub encrypt: bool,

    /// The prefix of every key in Redis [default: pmq]
    #[arg(long, global = true, value_name = "NAME")]
    pub namespace: Option<Name>,

    /// How far a change has got when it is acknowledged: local, replicated, strict [default: local]
    #[arg(long, global = true, value_name = "MODE")]
    pub durability: Option<Durability>,

    /// The configuration file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Take a broker on a network without a password, or on a public one without TLS
    #[arg(long, global = true)]
    pub insecure: bool,

    /// Whom TLS trusts, and who this client is.
    #[command(flatten)]
    pub tls: TlsFlags,

    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub json: bool,

    /// Say on standard error what happens; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// When to use colours: auto, always, never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        hide_possible_values = true
    )]
    pub color: Colors,
}

/// The files of TLS, which a URL with rediss:// turns on.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Global options")]
pub struct TlsFlags {
    /// The authorities that may sign the server's certificate, in PEM [default: those of this system]
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// This client's certificate, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// The private key of this client's certificate, in PEM
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// The task queue that a command works on.
#[derive(Args, Debug, Clone)]
pub struct QueueFlag {
    /// The task queue
    #[arg(short, long, value_name = "Q", default_value = "default")]
    pub queue: Name,
}

/// The task queue in which named tasks are looked up.
#[derive(Args, Debug, Clone)]
pub struct SearchFlag {
    /// The task queue of the tasks [default: whichever has them]
    #[arg(short, long, value_name = "Q")]
    pub queue: Option<Name>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let mut leaves = command.get_subcommands().peekable();
            let path = format!("{path} {}", command.get_name());
            if leaves.peek().is_none() {
                let help = command.get_after_help().map(ToString::to_string);
                assert!(help.is_some_and(|h| h.contains("pmq ")), "{path}");
            }
            leaves.for_each(|leaf| check(leaf, &path));
        }
        check(&Cli::command(), "");
    }
}
