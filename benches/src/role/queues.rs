//! A plain queue: put and get by one process, beside push and pop on a connection of the same kind.

use anyhow::Result;
use bytes::Bytes;
use pmq_broker::{Broker, Config};

use super::{Stage, runtime};
use crate::client;
use crate::floor::Keys;
use crate::site::queue_name;

/// Bytes of an item.
const ITEM: usize = 100;

pub(super) fn put_and_get(stage: Stage, config: &Config, items: usize, batch: usize) -> Result<()> {
    let runtime = runtime()?;
    let broker = runtime.block_on(Broker::connect(config))?;
    let queue = broker.raw_queue(&queue_name());
    let item = Bytes::from(vec![b'x'; ITEM]);
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        let mut got = 0;
        while got < items {
            queue.put_many(vec![item.clone(); batch]).await?;
            got += queue.get_many(batch).await?.len();
        }
        clock.stop();
        clock.done()
    })
}

pub(super) fn push_and_pop(
    stage: Stage,
    config: &Config,
    items: usize,
    batch: usize,
) -> Result<()> {
    let runtime = runtime()?;
    let mut connection = runtime.block_on(client::connect_async(config))?;
    let key = Keys::new(config).part("items");
    let item = vec![b'x'; ITEM];
    let mut clock = stage.ready()?;
    runtime.block_on(async {
        let mut got = 0;
        while got < items {
            let values = vec![item.as_slice(); batch];
            let mut push = redis::cmd("RPUSH");
            push.arg(&key).arg(values);
            push.exec_async(&mut connection).await?;
            let mut pop = redis::cmd("LPOP");
            pop.arg(&key).arg(batch);
            let popped: Vec<Vec<u8>> = pop.query_async(&mut connection).await?;
            got += popped.len();
        }
        clock.stop();
        clock.done()
    })
}
