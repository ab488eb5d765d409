//! Clocks that jump: the server's, as the function library sees it, and those of some clients, which are wrong all along.
//!
//! A Redis server does not start under libfaketime. Its clock decides nothing but what the library reads by TIME, so a
//! library is loaded that adds an offset to that, which stands in a key.

use std::fs;
use std::path::PathBuf;

use pmq_broker::functions::SOURCE;
use pmq_tests::Program;

use super::site::Site;

/// Holds the offset, in seconds.
const KEY: &str = "chaos:clock";
const TIME: &str = r#"redis.call("TIME")"#;
const SHIFTED: &str = r#"(function()
    local t = redis.call("TIME")
    return { string.format("%.0f", t[1] + (redis.call("GET", "chaos:clock") or 0)), t[2] }
  end)()"#;
/// How far the clocks of clients are wrong whose places end with 1.
const SKEW: &str = "+90s";

/// The library, under a clock that can jump.
#[must_use]
pub fn source() -> String {
    SOURCE.replace(TIME, SHIFTED)
}

/// Sets the server's clock this far from the true time, in seconds.
pub fn jump(site: &mut Site, seconds: i64) {
    let _: Option<redis::Value> = site.ask(redis::cmd("SET").arg(KEY).arg(seconds));
}

/// libfaketime, where it is installed.
#[must_use]
pub fn library() -> Option<PathBuf> {
    let roots = [
        "/usr/lib/faketime",
        "/usr/local/lib/faketime",
        "/usr/lib64/faketime",
    ];
    let triplets = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let of_triplets = triplets.map(|entry| entry.path().join("faketime"));
    let directories = roots.into_iter().map(PathBuf::from).chain(of_triplets);
    let mut libraries = directories.map(|directory| directory.join("libfaketimeMT.so.1"));
    libraries.find(|library| library.exists())
}

/// The program under a wrong clock. Only the wall clock is wrong: no machine's monotonic clock jumps.
#[must_use]
pub fn skewed(program: &Program, library: &PathBuf) -> Program {
    program
        .clone()
        .env("LD_PRELOAD", library)
        .env("FAKETIME", SKEW)
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_look_at_the_clock_is_shifted() {
        assert_eq!(
            source().matches("chaos:clock").count(),
            SOURCE.matches(TIME).count()
        );
        assert!(SOURCE.contains(TIME));
    }
}
