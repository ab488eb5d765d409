//! The floor: what the same work costs as plain pipelined commands, from a plain client, with no checks.

use anyhow::Result;
use redis::{Connection, Pipeline};

/// Tasks a batch, as pmq's own calls carry under load.
pub(crate) const BATCH: usize = 256;
const ENVELOPE: usize = 144; // a body of 100 bytes and what pmq puts before it
const COMPLETION: usize = 88;
const RECORD: usize = 22;
const RUNNING: usize = 31;

pub(crate) fn connect(url: &str) -> Result<Connection> {
    Ok(redis::Client::open(url)?.get_connection()?)
}

fn id(n: usize) -> [u8; 16] {
    (n as u128).to_be_bytes()
}

/// Writes each task and its id.
pub(crate) fn produce(connection: &mut Connection, tasks: usize) -> Result<()> {
    let envelope = vec![b'x'; ENVELOPE];
    for start in (0..tasks).step_by(BATCH) {
        let ids: Vec<_> = (start..tasks.min(start + BATCH)).map(id).collect();
        let fields: Vec<(&[u8], &[u8])> = ids
            .iter()
            .map(|id| (id.as_slice(), envelope.as_slice()))
            .collect();
        let mut pipeline = Pipeline::new();
        pipeline
            .cmd("HSET")
            .arg("floor:tasks")
            .arg(&fields)
            .ignore();
        pipeline
            .cmd("RPUSH")
            .arg("floor:ready")
            .arg(id_slices(&ids))
            .ignore();
        pipeline.exec(connection)?;
    }
    Ok(())
}

/// Takes ids, reads and marks them; then ends them: record, completion, gone.
pub(crate) fn work(connection: &mut Connection, tasks: usize) -> Result<()> {
    let mut done = 0;
    while done < tasks {
        done += work_some(connection, BATCH)?;
    }
    Ok(())
}

/// One batch of the same; answers how many.
pub(crate) fn work_some(connection: &mut Connection, batch: usize) -> Result<usize> {
    let ids: Option<Vec<Vec<u8>>> = redis::cmd("LPOP")
        .arg("floor:ready")
        .arg(batch)
        .query(connection)?;
    let Some(ids) = ids else { return Ok(0) };
    let running = vec![b'r'; RUNNING];
    let held: Vec<(&[u8], &[u8])> = ids
        .iter()
        .map(|id| (id.as_slice(), running.as_slice()))
        .collect();
    let mut claim = Pipeline::new();
    claim.cmd("HMGET").arg("floor:tasks").arg(&ids);
    claim.cmd("HSET").arg("floor:running").arg(&held).ignore();
    let (_envelopes,): (Vec<Vec<u8>>,) = claim.query(connection)?;
    finish(&ids).exec(connection)?;
    Ok(ids.len())
}

fn finish(ids: &[Vec<u8>]) -> Pipeline {
    let (record, completion) = (vec![b'v'; RECORD], vec![b'c'; COMPLETION]);
    let records: Vec<(&[u8], &[u8])> = ids
        .iter()
        .map(|id| (id.as_slice(), record.as_slice()))
        .collect();
    let mut pipeline = Pipeline::new();
    pipeline.cmd("HMGET").arg("floor:running").arg(ids).ignore();
    pipeline.cmd("HDEL").arg("floor:running").arg(ids).ignore();
    pipeline.cmd("HDEL").arg("floor:tasks").arg(ids).ignore();
    pipeline
        .cmd("HSET")
        .arg("floor:results")
        .arg(&records)
        .ignore();
    pipeline
        .cmd("RPUSH")
        .arg("floor:done")
        .arg(vec![completion; ids.len()])
        .ignore();
    pipeline
}

/// Gets completions; answers how many.
pub(crate) fn consume_some(connection: &mut Connection, batch: usize) -> Result<usize> {
    let got: Option<Vec<Vec<u8>>> = redis::cmd("LPOP")
        .arg("floor:done")
        .arg(batch)
        .query(connection)?;
    Ok(got.map_or(0, |got| got.len()))
}

/// Pushes items onto a list and pops them, a batch at a time.
pub(crate) async fn push_and_pop(url: &str, items: usize, batch: usize) -> Result<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let item = vec![b'x'; crate::roles::ITEM];
    let mut got = 0;
    while got < items {
        let values = vec![item.as_slice(); batch];
        let mut push = redis::cmd("RPUSH");
        push.arg("floor:items").arg(values);
        push.exec_async(&mut connection).await?;
        let mut pop = redis::cmd("LPOP");
        pop.arg("floor:items").arg(batch);
        let popped: Vec<Vec<u8>> = pop.query_async(&mut connection).await?;
        got += popped.len();
    }
    Ok(())
}

fn id_slices(ids: &[[u8; 16]]) -> Vec<&[u8]> {
    ids.iter().map(<[u8; 16]>::as_slice).collect()
}
