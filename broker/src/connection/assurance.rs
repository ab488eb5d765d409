//! What follows a call whose effect must outlive its primary: WAIT, on the same connection.

use redis::{Cmd, ErrorKind, RedisError, RedisResult, Value};

use crate::durability::Durability;
use crate::functions::Call;
use crate::keys;

/// How long a replica has to confirm, in ms: shorter than any try of a call that is followed by it.
const CONFIRM_MS: u32 = 1000;
/// The same where it has to be on disks: a server that writes to its own every second says so late.
const CONFIRM_DISKS_MS: u32 = 2500;
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
    durability: Durability,
}

impl Assurance {
    /// What makes sure of this command.
    pub(super) fn of(command: &Cmd, durability: Durability) -> Option<Self> {
        let first = super::route::key(command)?;
        Some(Self {
            mark: Call::new("mark", &[keys::mark_beside(first)]).command,
            durability,
        })
    }

    /// Whether the server must be one that keeps its disk up to date.
    pub(super) fn is_strict(&self) -> bool {
        self.durability == Durability::Strict
    }
}

/// What waits for the other copies; `disks` where a server that must say so can say what is on them.
pub(super) fn wait(disks: bool) -> Cmd {
    if disks {
        let mut wait = redis::cmd("WAITAOF");
        wait.arg(1).arg(1).arg(CONFIRM_DISKS_MS);
        return wait;
    }
    let mut wait = redis::cmd("WAIT");
    wait.arg(1).arg(CONFIRM_MS);
    wait
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
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::connection::lane::Lane;
    use crate::connection::server::Server;
    use crate::error::Error;

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
    /// A server of 7.2 that answers WAITAOF with these numbers, and what it was asked since it told its version.
    fn scripted(copies: [i64; 2]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut next = || Some(lines.next()?.unwrap());
            let mut asked = Vec::new();
            while let Some(count) = next() {
                let count: usize = count[1..].parse().unwrap();
                let mut words = (0..count).map(|_| (next(), next()).1.unwrap());
                let words: Vec<String> = words.by_ref().collect();
                let answer = match words[0].as_str() {
                    "INFO" => "$40\r\nredis_version:7.2.0\r\naof_enabled:1\r\nx:xx\r\n".to_owned(),
                    "CONFIG" => "*2\r\n+appendfsync\r\n+everysec\r\n".to_owned(),
                    "WAITAOF" => format!("*2\r\n:{}\r\n:{}\r\n", copies[0], copies[1]),
                    _ => "+OK\r\n".to_owned(),
                };
                stream.write_all(answer.as_bytes()).unwrap();
                asked.push(words.join(" "));
                if words[0] == "WAITAOF" {
                    break;
                }
            }
            asked
        });
        (url, served)
    }

    async fn submit_to(copies: [i64; 2]) -> (crate::error::Result<Value>, Vec<String>) {
        let (url, served) = scripted(copies);
        let client = redis::Client::open(url).unwrap();
        let server = Arc::new(Server::alone(client, "h:1".into(), None));
        let lane = Lane::to_one(server, Duration::from_secs(3)).assured(Durability::Strict);
        let call = Call::new("submit", &["pmq:{q/0}:tasks".to_owned()]);
        let answer = lane.call(&call, Duration::ZERO).await;
        (answer, served.join().unwrap())
    }

    #[tokio::test]
    async fn a_server_that_can_say_so_is_asked_for_its_disk_and_that_of_a_replica() {
        let (answer, asked) = submit_to([1, 1]).await;
        assert!(answer.is_ok(), "{answer:?}");
        let verbs: Vec<&str> = asked
            .iter()
            .filter(|line| !line.starts_with("CLIENT") && !line.starts_with("HELLO"))
            .map(|line| line.split(" 1 pmq:").next().unwrap())
            .collect();
        let submit = format!("FCALL {}_submit", crate::functions::LIBRARY);
        let mark = format!("FCALL {}_mark", crate::functions::LIBRARY);
        let expected = [
            "INFO",
            "CONFIG GET appendfsync",
            &submit,
            &mark,
            "WAITAOF 1 1 2500",
        ];
        assert_eq!(verbs, expected);
        for copies in [[0, 1], [1, 0], [0, 0]] {
            let (answer, _) = submit_to(copies).await;
            assert!(
                matches!(answer, Err(Error::Unconfirmed { .. })),
                "{copies:?}: {answer:?}"
            );
        }
    }
}
