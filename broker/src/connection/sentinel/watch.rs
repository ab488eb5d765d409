//! A thread that hears of failovers, so that also an old primary that still answers is left at once.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisResult, Value};
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use super::{ASK, Endpoint, SentinelGuide};
use crate::connection::server::late;
use crate::connection::topology::Topology;
use crate::error::{Error, Result};

/// So many sentinels are listened to at a time: each may be the one that is cut off.
const EARS: usize = 2;
/// News may be lost, so who listens also asks.
const ASK_EVERY: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Starts the thread. It ends within 5 s of the topology; a failure to hear anything is none, as calls that fail have the
/// primary looked up as well.
pub(crate) fn watch(topology: &Arc<Topology>, guide: &SentinelGuide) -> Result<()> {
    let (topology, guide) = (Arc::downgrade(topology), guide.clone());
    let run = move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let ears =
                (0..EARS).map(|ear| runtime.spawn(listen(topology.clone(), guide.clone(), ear)));
            let ears: Vec<_> = ears.collect();
            for ear in ears {
                let _ = runtime.block_on(ear);
            }
        }
        Err(error) => tracing::warn!(target: "pmq", %error, "could not watch the sentinels"),
    };
    let thread = thread::Builder::new().name("pmq-sentinel".to_owned());
    thread.spawn(run).map(drop).map_err(Error::NoThread)
}

/// Listens to one sentinel after another, for as long as anybody uses the topology.
async fn listen(topology: Weak<Topology>, guide: SentinelGuide, ear: usize) {
    let mut turn = ear;
    while let Some(sentinel) = choose(&topology, &guide, turn) {
        if let Err(error) = hear(&topology, &guide, &sentinel).await {
            tracing::debug!(target: "pmq", %sentinel, %error, "could not listen to a sentinel");
        }
        turn += EARS;
        sleep(BETWEEN_TRIES).await;
    }
}

fn choose(topology: &Weak<Topology>, guide: &SentinelGuide, turn: usize) -> Option<Endpoint> {
    let known = topology.upgrade()?.map();
    let sentinels = guide.sentinels(&known);
    sentinels.get(turn % sentinels.len()).cloned()
}

/// Hears this sentinel until it fails, or nobody uses the topology any more.
async fn hear(
    topology: &Weak<Topology>,
    guide: &SentinelGuide,
    sentinel: &Endpoint,
) -> RedisResult<()> {
    let (sender, mut news) = unbounded_channel();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ASK))
        .set_response_timeout(Some(ASK))
        .set_push_sender(sender);
    let ask = guide.ask.with_protocol(ProtocolVersion::RESP3);
    let mut connection = ask.connect(sentinel, &config).await?;
    connection.subscribe("+switch-master").await?;
    loop {
        let (primary, epoch) = guide.primary_by(&mut connection, sentinel).await?;
        let Some(topology) = topology.upgrade() else {
            return Ok(());
        };
        if topology.is_news(&primary, epoch) {
            look(&topology).await;
        }
        drop(topology);
        // By the clock, or when a message names the primary.
        let switched = timeout(ASK_EVERY, switch(&mut news, &guide.primary)).await;
        switched.unwrap_or(Ok(()))?;
    }
}

async fn look(topology: &Topology) {
    if let Err(error) = topology.look_again(topology.looks()).await {
        tracing::debug!(target: "pmq", %error, "could not look up the primary");
    }
}

/// Resolves when the sentinel says that another server is the primary of this name.
async fn switch(news: &mut UnboundedReceiver<PushInfo>, primary: &str) -> RedisResult<()> {
    while let Some(push) = news.recv().await {
        if push.kind == PushKind::Disconnection {
            break;
        }
        if let (PushKind::Message, Some(Value::BulkString(words))) = (push.kind, push.data.get(1))
            && words.split(|byte| *byte == b' ').next() == Some(primary.as_bytes())
        {
            return Ok(());
        }
    }
    Err(late("the sentinel is gone"))
}
