//! Whether what answers is a server that pmq can use.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use redis::Value;

use super::lane::{Answer, Lane};
use crate::error::{Error, Result};
use crate::reply;

/// One of the servers that take writes.
#[derive(Clone, Debug)]
pub struct Primary {
    /// Its address.
    pub address: String,
    /// How many of the 16,384 slots it has; `None` where it has all keys.
    pub slots: Option<u32>,
    /// What it says about itself.
    pub report: ServerReport,
    /// Its settings `appendfsync` and `save`; empty where this user may not ask for them.
    pub settings: BTreeMap<String, String>,
}

impl Primary {
    /// How many bytes each of its replicas is behind, those that are not connected left out.
    #[must_use]
    pub fn lags(&self) -> Vec<u64> {
        let number = |text: &str| text.parse::<u64>().ok();
        let written = self
            .report
            .field("master_repl_offset")
            .and_then(number)
            .unwrap_or_default();
        let lag = |place: usize| {
            let replica = self.report.field(&format!("slave{place}"))?;
            let value = |name: &str| replica.split(',').find_map(|pair| pair.strip_prefix(name));
            let online = value("state=") == Some("online");
            let read = value("offset=").and_then(number);
            Some(
                read.filter(|_| online)
                    .map(|read| written.saturating_sub(read)),
            )
        };
        (0..).map_while(lag).flatten().collect()
    }
}

/// What a server says about itself.
#[derive(Clone, Debug, Default)]
pub struct ServerReport {
    /// The fields of `INFO`; empty where this user may not read them.
    pub info: HashMap<String, String>,
    /// Whether calls go to each node of a Cluster, as it needs.
    pub(crate) routed: bool,
}

impl ServerReport {
    /// Asks the server; fails where it can't be reached or is no Redis.
    pub(crate) async fn read(link: &Lane, patience: Duration) -> Result<Self> {
        let mut command = redis::cmd("INFO");
        let routed = link.is_cluster();
        let told = |text: &str| Self {
            routed,
            ..Self::parse(text)
        };
        match link
            .send(&command, "ask the server for its version", patience)
            .await
        {
            Ok(Value::BulkString(text)) => Ok(told(&String::from_utf8_lossy(&text))),
            Ok(Value::VerbatimString { text, .. }) => Ok(told(&text)),
            Ok(_) => Err(Error::Unsuitable(format!(
                "what answers at {} is no Redis",
                link.at()
            ))),
            Err(Error::Denied { .. }) => {
                command = redis::cmd("PING");
                link.send(&command, "reach the server", patience)
                    .await
                    .map(|_| Self::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Asks each primary. Who may not ask is told nothing.
    pub(crate) async fn of_each(link: &Lane) -> Result<Vec<Primary>> {
        let info = redis::cmd("INFO");
        let answers = link.ask_each(&info, "ask the server for its state");
        let told = |answer: Answer| {
            let report = match answer.said {
                Ok(text) => Self::parse(&reply::text(text, "ask the server for its state")?),
                Err(Error::Denied { .. }) => Self::default(),
                Err(error) => return Err(error),
            };
            Ok(Primary {
                address: answer.at.to_string(),
                slots: answer.slots,
                report,
                settings: BTreeMap::new(),
            })
        };
        answers.await?.into_iter().map(told).collect()
    }

    pub(super) fn parse(text: &str) -> Self {
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Self {
            info: fields
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
            routed: false,
        }
    }

    /// A field of `INFO`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    /// The version, as Redis counts it; a Valkey says which Redis it is compatible with.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.field("redis_version")
    }

    /// What the server is instead of one that is reached as this one was.
    fn other_kind(&self, at: &str) -> Option<String> {
        match self.field("redis_mode") {
            Some("sentinel") => Some(format!(
                "what answers at {at} is a sentinel; use redis+sentinel://{at}/NAME with the name that it gives the primary"
            )),
            Some("cluster") if !self.routed => Some(format!(
                "the server at {at} is a node of a Redis Cluster; use redis+cluster://{at}"
            )),
            _ => None,
        }
    }

    /// Whether its version is this one or newer; false where it does not say.
    pub(crate) fn is_since(&self, since: (u32, u32)) -> bool {
        let mut numbers = self
            .version()
            .into_iter()
            .flat_map(|version| version.split('.'));
        let mut next = || numbers.next()?.parse().ok();
        next().zip(next()).is_some_and(|version| version >= since)
    }

    /// Refuses a server that would lose tasks or lacks functions.
    pub fn require_suitable(&self, at: &str) -> Result<()> {
        if let Some(why) = self.other_kind(at) {
            return Err(Error::Unsuitable(why));
        }
        if let Some(version) = self.version() {
            let major: u32 = version
                .split('.')
                .next()
                .and_then(|n| n.parse().ok())
                .unwrap_or(0);
            if major < 7 {
                return Err(Error::Unsuitable(format!(
                    "the server at {at} is Redis {version}; pmq needs Redis 7.0 or newer, or Valkey"
                )));
            }
        }
        let limited = self.field("maxmemory").is_some_and(|m| m != "0");
        let policy = self.field("maxmemory_policy").unwrap_or("noeviction");
        if limited && policy != "noeviction" {
            return Err(Error::Unsuitable(format!(
                "the server at {at} may evict tasks (maxmemory-policy {policy}); run `redis-cli CONFIG SET maxmemory-policy noeviction`"
            )));
        }
        if self.field("role") == Some("slave") {
            return Err(Error::Unsuitable(format!(
                "the server at {at} is a replica; use the address of its primary"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(info: &str) -> String {
        ServerReport::parse(info)
            .require_suitable("h:1")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_lag_of_each_replica_that_is_connected_is_told() {
        let info = "master_repl_offset:100\r\nslave0:ip=h,port=1,state=online,offset=90,lag=0\r\n\
                    slave1:ip=h,port=2,state=wait_bgsave,offset=0,lag=0\r\n";
        let primary = Primary {
            address: "h:0".into(),
            slots: None,
            report: ServerReport::parse(info),
            settings: BTreeMap::new(),
        };
        assert_eq!(primary.lags(), [10]);
    }

    #[test]
    fn an_unsuitable_server_is_refused_with_the_remedy() {
        assert!(refusal("redis_version:6.2.1\r\n").contains("7.0 or newer"));
        assert!(
            refusal("redis_version:7.0.1\r\nmaxmemory:1\r\nmaxmemory_policy:allkeys-lru\r\n")
                .contains("noeviction")
        );
        assert!(refusal("redis_version:7.0.1\r\nrole:slave\r\n").contains("primary"));
        assert!(
            ServerReport::parse(
                "redis_version:8.0\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n"
            )
            .require_suitable("h")
            .is_ok()
        );
    }
}
