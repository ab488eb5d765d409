//! What a node of a Cluster says about all of them.

use std::collections::BTreeSet;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};

use crate::connection::address::Endpoint;

/// Who serves what, as some node sees it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// First slot, last slot, primary; in the order of slots.
    pub(crate) ranges: Vec<(u16, u16, Endpoint)>,
    /// The replicas.
    pub(crate) replicas: Vec<Endpoint>,
    /// Counts the changes of the topology that the node has heard of: more is newer.
    pub(crate) epoch: u64,
    /// Whether the node takes the Cluster for healthy.
    pub(crate) healthy: bool,
}

/// Asks the node at `told`. `CLUSTER SLOTS` is what every version has.
pub(crate) async fn survey(
    connection: &mut MultiplexedConnection,
    told: &Endpoint,
) -> RedisResult<Survey> {
    let mut pipeline = redis::pipe();
    pipeline
        .cmd("CLUSTER")
        .arg("SLOTS")
        .cmd("CLUSTER")
        .arg("INFO");
    let answers = connection.send_packed_commands(&pipeline, 0, 2).await?;
    let mut answers = answers.into_iter().map(Value::extract_error);
    let mut answer = || answers.next().unwrap_or_else(|| Err(odd()));
    let mut survey = Survey::default();
    for range in items(answer()?)? {
        survey.add(range, told)?;
    }
    survey.ranges.sort_by_key(|(first, ..)| *first);
    let info = text(answer()?)?;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
    survey.healthy = field("cluster_state:").is_some_and(|state| state.trim() == "ok");
    let epoch = field("cluster_current_epoch:").and_then(|epoch| epoch.trim().parse().ok());
    survey.epoch = epoch.unwrap_or_default();
    Ok(survey)
}

impl Survey {
    /// Adds one element of `CLUSTER SLOTS`: first slot, last slot, primary, replicas.
    fn add(&mut self, range: Value, told: &Endpoint) -> RedisResult<()> {
        let mut parts = items(range)?.into_iter();
        let mut next = || parts.next().ok_or_else(odd);
        let (first, last) = (slot(&next()?)?, slot(&next()?)?);
        if let Some(primary) = node(next()?, told)? {
            self.ranges.push((first, last, primary));
        }
        for replica in parts {
            self.replicas.extend(node(replica, told)?);
        }
        Ok(())
    }

    /// Every node, each once.
    pub(crate) fn nodes(&self) -> Vec<Endpoint> {
        let primaries = self.ranges.iter().map(|(_, _, primary)| primary);
        let nodes: BTreeSet<_> = primaries.chain(&self.replicas).collect();
        nodes.into_iter().cloned().collect()
    }
}

/// A node: host, port, then what is of no use here. The host may be null or empty, for the node that was asked.
fn node(node: Value, told: &Endpoint) -> RedisResult<Option<Endpoint>> {
    let mut parts = items(node)?.into_iter();
    let host = match parts.next() {
        Some(Value::Nil) => String::new(),
        Some(host) => text(host)?,
        None => return Err(odd()),
    };
    let port = slot(&parts.next().ok_or_else(odd)?)?;
    Ok(Endpoint::announced(&host, port, told))
}

fn items(value: Value) -> RedisResult<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(odd()),
    }
}

fn text(value: Value) -> RedisResult<String> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text),
        _ => Err(odd()),
    }
}

/// A number of 16 bits: a slot or a port.
fn slot(value: &Value) -> RedisResult<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).map_err(|_| odd()),
        _ => Err(odd()),
    }
}

fn odd() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "odd answer to CLUSTER"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), bulk("id")])
    }

    #[test]
    fn a_node_may_leave_out_its_own_host() {
        let told = Endpoint {
            host: "h1".into(),
            port: 1,
        };
        let range = |first, nodes: [Value; 2]| {
            let mut parts = vec![Value::Int(first), Value::Int(first + 9)];
            parts.extend(nodes);
            Value::Array(parts)
        };
        let mut survey = Survey::default();
        let nodes = [node(Value::Nil, 7000), node(bulk("::1"), 7001)];
        survey.add(range(0, nodes), &told).unwrap();
        let nodes = [node(bulk("?"), 7002), node(bulk(""), 7003)];
        survey.add(range(10, nodes), &told).unwrap();
        let shown = |endpoints: &[Endpoint]| {
            let all: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            all.join(" ")
        };
        assert_eq!(survey.ranges.len(), 1, "nobody knows where the other is");
        assert_eq!(shown(&survey.nodes()), "[::1]:7001 h1:7000 h1:7003");
        assert!(survey.add(Value::Nil, &told).is_err());
    }
}
