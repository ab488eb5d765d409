//! What the tests of child processes share.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Guard;

/// A guard of a worker that no other test is.
pub(crate) fn guard() -> Guard {
    Guard::start(uuid::Uuid::now_v7().to_string()).expect("/bin/sh starts")
}

/// Waits until `condition` gives a value, and fails loudly after 30 s.
pub(crate) fn eventually<T>(what: &str, condition: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a file to hold a whole line with a process id.
pub(crate) fn pid_in(file: &Path) -> i32 {
    eventually("a pid in a file", || {
        fs::read_to_string(file)
            .ok()?
            .strip_suffix('\n')?
            .trim()
            .parse()
            .ok()
    })
}

/// Waits until a process has ended; one that only its parent's neglect keeps in the table has.
pub(crate) fn wait_until_dead(pid: i32) {
    eventually("the end of a process", || (!is_alive(pid)).then_some(()));
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the program's name, which stands in parentheses and may hold any character.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
