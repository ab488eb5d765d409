//! What follows a call whose effect must outlive its primary: WAIT, on the same connection.

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};

use crate::durability::Durability;
use crate::functions::Call;
use crate::keys;

/// How long a replica has to confirm, in ms: shorter than any try of a call that is followed by it.
const CONFIRM_MS: u32 = 1000;
/// The code of the error of a call that none confirmed.
pub(super) const UNCONFIRMED: &str = "PMQUNCONFIRMED";

/// What is acknowledged to producers, workers and consumers as done for good. All else is given again where it is lost: claims
/// and leases end by time, and fences grow by the clock.
const LASTING: [&str; 8] = [
    "submit",
    "finish",
    "cancel",
    "purge",
    "requeue",
    "purge_dead",
    "queue_put",
    // Not for itself: it must not overtake the `queue_put` that it takes back.
    "queue_leave",
];

/// Whether the effect of a function is one that is promised to last.
pub(super) fn lasts(verb: &str) -> bool {
    LASTING.contains(&verb)
}

/// The commands that make sure of a call.
pub(super) struct Assurance {
    /// By its contract WAIT waits for what its own connection has written. A call that is sent again writes nothing, perhaps on a
    /// new connection, so a mark is written behind each: that Redis 7.0 waits for all that is written nobody promises.
    pub(super) mark: Cmd,
    pub(super) wait: Cmd,
}

impl Assurance {
    /// What makes sure of this command, by the mode and by whether the server can say what is on the disks.
    pub(super) fn of(command: &Cmd, durability: Durability, disks: bool) -> Option<Self> {
        let first = super::route::key(command)?;
        let mut wait = redis::cmd(if disks { "WAITAOF" } else { "WAIT" });
        if disks && durability == Durability::Strict {
            wait.arg(1);
        }
        wait.arg(1).arg(CONFIRM_MS);
        Some(Self {
            mark: Call::new("mark", &[keys::mark_beside(first)]).command,
            wait,
        })
    }
}

/// Fails where the answer to WAIT or WAITAOF says that some copy is missing.
pub(super) fn confirmed(answer: Value) -> RedisResult<()> {
    let enough = match answer.extract_error()? {
        Value::Int(replicas) => replicas >= 1,
        Value::Array(copies) => copies.iter().all(|copy| matches!(copy, Value::Int(1..))),
        _ => {
            return Err(RedisError::from((
                ErrorKind::UnexpectedReturnType,
                "odd answer to WAIT",
            )));
        }
    };
    if enough {
        return Ok(());
    }
    Err(redis::make_extension_error(
        UNCONFIRMED.to_owned(),
        Some("no replica has confirmed it".to_owned()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_must_be_confirmed() {
        let ints = |numbers: [i64; 2]| Value::Array(numbers.map(Value::Int).into());
        assert!(confirmed(Value::Int(2)).is_ok());
        assert!(confirmed(ints([1, 1])).is_ok());
        for answer in [Value::Int(0), ints([1, 0]), ints([0, 1])] {
            assert_eq!(confirmed(answer).unwrap_err().code(), Some(UNCONFIRMED));
        }
        assert!(confirmed(Value::Nil).is_err());
    }
}
