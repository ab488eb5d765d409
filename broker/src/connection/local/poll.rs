//! Waiting for what sends no signal: a lock, a socket, a process that is not our child.

use std::thread;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Calls `attempt` until it returns `Some`, pausing 1 ms at first and up to 20 ms later.
///
/// Returns `None` once `limit` has passed; it is tried once at least.
pub(super) fn until<T>(limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(value) = attempt() {
            return Some(value);
        }
        if begin.elapsed() >= limit {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_value() {
        let mut calls = 0;
        let value = until(Duration::from_secs(60), || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(value, Some(3));
    }

    #[test]
    fn tries_once_and_gives_up_at_the_limit() {
        let mut calls = 0;
        let value: Option<()> = until(Duration::ZERO, || {
            calls += 1;
            None
        });
        assert_eq!((value, calls), (None, 1));
    }
}
