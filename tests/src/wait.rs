//! Waiting for a condition: the only place in the tests where anything sleeps.

use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(25);

/// Calls `probe` until it returns a value, and panics with `what` once `deadline` has passed.
#[track_caller]
pub fn eventually<T>(what: &str, deadline: Duration, probe: impl FnMut() -> Option<T>) -> T {
    eventually_or(what, deadline, probe, String::new)
}

/// Like [`eventually`], and the panic also tells the state that `describe` found at the end.
#[track_caller]
pub fn eventually_or<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl FnMut() -> Option<T>,
    describe: impl FnOnce() -> String,
) -> T {
    let mut pauses = Pauses::until(deadline);
    loop {
        if let Some(value) = probe() {
            return value;
        }
        let Some(pause) = pauses.next() else {
            panic!("{}", too_late(what, deadline, &describe()));
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
        std::thread::sleep(pause);
    }
}

/// Like [`eventually`], for a probe that awaits.
pub async fn eventually_async<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let mut pauses = Pauses::until(deadline);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        let Some(pause) = pauses.next() else {
            panic!("{}", too_late(what, deadline, ""));
        };
        #[expect(clippy::disallowed_methods, reason = "the one place that waits")]
        tokio::time::sleep(pause).await;
    }
}

fn too_late(what: &str, deadline: Duration, state: &str) -> String {
    let separator = if state.is_empty() { "" } else { "\n" };
    format!("waited {deadline:?} in vain until {what}{separator}{state}")
}

/// Growing pauses: short at first, since most conditions hold soon, then long enough to leave the machine alone.
struct Pauses {
    end: Instant,
    pause: Duration,
}

impl Pauses {
    fn until(deadline: Duration) -> Self {
        Self {
            end: Instant::now() + deadline,
            pause: SHORTEST_PAUSE,
        }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let left = self.end.checked_duration_since(Instant::now())?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 3 / 2).min(LONGEST_PAUSE);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_value_of_the_probe() {
        let mut calls = 0;
        let value = eventually("the third call", Duration::from_secs(5), || {
            calls += 1;
            (calls == 3).then_some("value")
        });
        assert_eq!((value, calls), ("value", 3));
    }

    #[test]
    #[should_panic(expected = "until pigs fly\nno pig left the ground")]
    fn panics_with_the_state_when_time_is_up() {
        eventually_or(
            "pigs fly",
            Duration::from_millis(5),
            || None::<()>,
            || "no pig left the ground".into(),
        );
    }

    #[tokio::test]
    async fn the_async_twin_waits_too() {
        let mut calls = 0;
        let value = eventually_async("the second call", Duration::from_secs(5), async || {
            calls += 1;
            (calls == 2).then_some(calls)
        });
        assert_eq!(value.await, 2);
    }

    #[tokio::test]
    #[should_panic(expected = "until pigs fly")]
    async fn the_async_twin_gives_up() {
        eventually_async("pigs fly", Duration::from_millis(5), async || None::<()>).await;
    }
}
