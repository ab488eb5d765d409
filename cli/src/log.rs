//! What happens inside, on standard error: for those who look for a fault.

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

use crate::output::Colors;

/// Starts to log: warnings, or what `PMQ_LOG` says, or more with each `-v`.
pub(crate) fn start(verbose: u8, colors: Colors) {
    let level = match verbose {
        0 => Level::WARN,
        1 => Level::INFO,
        _ => Level::DEBUG,
    };
    let asked: Option<Targets> = std::env::var("PMQ_LOG")
        .ok()
        .filter(|text| !text.is_empty())
        .and_then(|text| text.parse().ok());
    let filter = match asked {
        Some(filter) if verbose == 0 => filter,
        // A target stands for all that begin with it.
        _ => Targets::new().with_target("pmq", level),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colors.suit(io::stderr().is_terminal()))
        .with_target(false);
    let subscriber = tracing_subscriber::registry().with(lines).with(filter);
    // Where another subscriber is there already, as in tests, it stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
