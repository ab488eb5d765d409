//! What happens inside, on standard error: for those who look for a fault.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::output::Colors;

/// Starts to log: warnings, or what `PMQ_LOG` says, or more with each `-v`.
pub(crate) fn start(verbose: u8, colors: Colors) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::builder().with_env_var("PMQ_LOG");
    let filter = match filter.try_from_env() {
        Ok(filter) if verbose == 0 => filter,
        _ => EnvFilter::new(format!(
            "pmq={level},pmq_broker={level},pmq_worker={level},pmq_cli={level}"
        )),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colors.suit(io::stderr().is_terminal()))
        .with_target(false)
        .finish();
    // Where another subscriber is there already, as in tests, it stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
