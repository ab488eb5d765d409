//! Sentinels: which server is the primary now.

mod watch;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisResult, Value};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::address::{Access, Endpoint};
use super::server::late;
use super::topology::{Directions, Map};
pub(super) use watch::watch;

/// How long one sentinel has to answer: the others are asked at the same time.
const ASK: Duration = Duration::from_millis(500);
/// How long the server that they name has to say that it is a primary.
const CONFIRM: Duration = Duration::from_secs(1);
const LAST_SLOT: u16 = 16383;

/// Knows sentinels, and what they call the primary. Clones ask the same.
#[derive(Clone)]
pub(crate) struct SentinelGuide {
    seeds: Vec<Endpoint>,
    primary: String,
    access: Access,
    /// How the sentinels themselves are logged in to.
    ask: Access,
}

/// What a sentinel says.
struct Word {
    primary: Endpoint,
    /// Counts the failovers: more is newer.
    epoch: u64,
    /// The other sentinels.
    others: Vec<Endpoint>,
}

impl SentinelGuide {
    pub(crate) fn new(seeds: Vec<Endpoint>, primary: String, access: Access, ask: Access) -> Self {
        Self {
            seeds,
            primary,
            access,
            ask,
        }
    }

    /// How the primary is reached.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The sentinels that are known: those of the URL, and those of which they told.
    fn sentinels(&self, known: &Map) -> Vec<Endpoint> {
        let mut all = known.nodes.clone();
        all.extend(self.seeds.iter().cloned());
        all.sort();
        all.dedup();
        all
    }

    /// Asks all sentinels at once, believes the newest word, and the server itself in the end. After a failover the one that
    /// led it may be alone for seconds in naming the new primary, and who was cut off for a while names the old one, which may
    /// be back. So all are heard out, and where most do not answer, a server without a replica is not believed.
    pub(crate) async fn look(&self, known: &Map) -> RedisResult<Directions> {
        let sentinels = self.sentinels(known);
        let (newest, answers) = self.newest(&sentinels).await?;
        if newest.epoch < known.epoch {
            return Err(late("the sentinels that answer are behind the others"));
        }
        let replicas = self.confirm(&newest.primary).await?;
        if answers <= sentinels.len() / 2 && replicas == Some(0) {
            return Err(late(
                "few of the sentinels answer, and the primary that they name has no replica: it may be an old one",
            ));
        }
        Ok(Directions {
            ranges: vec![(0, LAST_SLOT, newest.primary)],
            nodes: newest.others.into_iter().chain(sentinels).collect(),
            epoch: newest.epoch,
        })
    }

    /// The newest word, and how many sentinels answered.
    async fn newest(&self, sentinels: &[Endpoint]) -> RedisResult<(Word, usize)> {
        let mut asked = JoinSet::new();
        for sentinel in sentinels {
            let (guide, sentinel) = (self.clone(), sentinel.clone());
            asked.spawn(async move {
                let word = timeout(ASK, guide.word_of(&sentinel)).await;
                word.unwrap_or_else(|_| Err(late("no sentinel answered in time")))
            });
        }
        let (mut newest, mut failed): (Option<Word>, Option<RedisError>) = (None, None);
        let mut answers = 0;
        while let Some(Ok(answer)) = asked.join_next().await {
            match answer {
                Ok(word) => {
                    answers += 1;
                    if newest
                        .as_ref()
                        .is_none_or(|newest| word.epoch > newest.epoch)
                    {
                        newest = Some(word);
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        let nobody = || late("there is no sentinel");
        let word = newest.ok_or_else(|| failed.unwrap_or_else(nobody))?;
        Ok((word, answers))
    }

    async fn word_of(&self, sentinel: &Endpoint) -> RedisResult<Word> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = self.ask.connect(sentinel, &config).await?;
        let (primary, epoch) = self.primary_by(&mut connection, sentinel).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("SENTINELS").arg(&self.primary);
        let answer = connection.send_packed_command(&command).await;
        // Who may not ask goes without.
        let others = answer.and_then(Value::extract_error).unwrap_or(Value::Nil);
        let others: Vec<Vec<(String, String)>> =
            redis::from_redis_value(others).unwrap_or_default();
        let others = others.iter().filter_map(|other| endpoint(other, sentinel));
        Ok(Word {
            primary,
            epoch,
            others: others.collect(),
        })
    }

    /// The primary's address and the number of failovers, by this sentinel. While it leads a failover that has promoted a
    /// replica and is not over, only the short question is answered with the new address. The number is asked for first, so
    /// that no old address goes with a new one.
    async fn primary_by(
        &self,
        connection: &mut MultiplexedConnection,
        sentinel: &Endpoint,
    ) -> RedisResult<(Endpoint, u64)> {
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(&self.primary);
        let answer = connection.send_packed_command(&command).await?;
        let fields: Vec<(String, String)> = redis::from_redis_value(answer.extract_error()?)?;
        let epoch = field(&fields, "config-epoch").and_then(|epoch| epoch.parse().ok());
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.primary);
        let answer = connection.send_packed_command(&command).await?;
        let (host, port): (String, u16) = redis::from_redis_value(answer.extract_error()?)?;
        let primary = Endpoint::announced(&host, port, sentinel);
        primary.zip(epoch).ok_or_else(odd)
    }

    /// Sees that the server takes itself for a primary; answers how many replicas it has, where it may be asked.
    async fn confirm(&self, server: &Endpoint) -> RedisResult<Option<usize>> {
        let ask = async {
            let config = AsyncConnectionConfig::new().set_response_timeout(None);
            let mut connection = self.access.connect(server, &config).await?;
            let answer = connection.send_packed_command(&redis::cmd("ROLE")).await?;
            answer.extract_error()
        };
        let answer = timeout(CONFIRM, ask).await;
        let role = match answer.unwrap_or_else(|_| Err(late("the primary did not answer in time")))
        {
            Err(error) if error.code() == Some("NOPERM") => return Ok(None),
            answer => answer?,
        };
        let Value::Array(role) = role else {
            return Err(odd());
        };
        match (role.first(), role.get(2)) {
            (Some(Value::BulkString(word)), Some(Value::Array(replicas))) if word == b"master" => {
                Ok(Some(replicas.len()))
            }
            _ => Err(late("the server that the sentinels name is no primary yet")),
        }
    }
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = fields.iter().find(|(known, _)| known == name)?;
    Some(&found.1)
}

fn endpoint(fields: &[(String, String)], told: &Endpoint) -> Option<Endpoint> {
    let port = field(fields, "port")?.parse().ok()?;
    Endpoint::announced(field(fields, "ip")?, port, told)
}

fn odd() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "odd answer of a sentinel"))
}
