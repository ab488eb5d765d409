//! What the workers that are up say about themselves.

use pmq_broker::{Broker, Name, Work};
use serde::Deserialize;
use serde_json::Value;

use crate::when;

/// A worker that is up.
#[derive(Debug, Clone)]
pub(crate) struct Worker {
    /// What it says, with times as pmq prints them.
    pub(crate) json: Value,
    /// What pmq reads of it.
    pub(crate) about: About,
}

/// The part of a worker's presence that pmq reads. Newer workers may say more.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) queues: Vec<String>,
    pub(crate) slots: u64,
    pub(crate) running: u64,
    pub(crate) commands: bool,
    pub(crate) tasks: Vec<String>,
    pub(crate) version: String,
}

impl Worker {
    fn parse(text: &str) -> Option<Self> {
        let mut json: Value = serde_json::from_str(text).ok()?;
        let about = About::deserialize(&json).ok()?;
        // Redis holds ms since the epoch; what people and programs read has one form of times.
        if let Some(started) = json["started"].as_u64().and_then(when::iso) {
            json["started"] = started.into();
        }
        Some(Self { json, about })
    }

    /// Whether it claims tasks of this queue.
    pub(crate) fn serves(&self, queue: &Name) -> bool {
        self.about.queues.iter().any(|name| name == queue.as_str())
    }

    /// Whether it runs such a task.
    pub(crate) fn runs(&self, work: &Work) -> bool {
        match work {
            Work::Command(_) => self.about.commands,
            Work::Handler(name) => self.about.tasks.contains(name),
        }
    }
}

/// The workers that are up, by name. What can't be read is left out.
pub(crate) async fn workers(broker: &Broker) -> pmq_broker::Result<Vec<Worker>> {
    let texts = broker.fleet().await?;
    let mut workers: Vec<Worker> = texts
        .iter()
        .filter_map(|text| Worker::parse(text))
        .collect();
    workers.sort_by(|a, b| a.about.name.cmp(&b.about.name));
    Ok(workers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_tells_what_it_runs() {
        let text = r#"{"name":"h-1","host":"h","pid":1,"queues":["a"],"slots":4,"running":2,
            "commands":false,"tasks":["square"],"started":1,"version":"0.1.0","more":[]}"#;
        let worker = Worker::parse(text).unwrap();
        assert_eq!(
            (worker.about.slots, worker.json["pid"].as_u64()),
            (4, Some(1))
        );
        assert_eq!(worker.json["started"], "1970-01-01T00:00:00.001Z");
        assert!(worker.serves(&Name::new("a").unwrap()));
        assert!(!worker.serves(&Name::new("b").unwrap()));
        assert!(worker.runs(&Work::Handler("square".into())));
        assert!(!worker.runs(&Work::Handler("cube".into())));
        assert!(!worker.runs(&Work::Command(vec![b"ls".to_vec()])));
        assert!(Worker::parse("{}").is_some_and(|worker| worker.about.queues.is_empty()));
        assert!(Worker::parse("nonsense").is_none());
    }
}
