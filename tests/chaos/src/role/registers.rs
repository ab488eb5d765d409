//! Reads and changes shared numbers: entries of a dict, and values.

use std::time::Duration;

use anyhow::Result;
use pmq_broker::{Dict, Error, Value};

use super::{Stage, name};
use crate::history::{Known, Op, What};

const PAUSE: Duration = Duration::from_millis(30);

/// Calls on random registers until it is asked to end.
pub(super) async fn play(stage: &Stage, keys: u8) -> Result<()> {
    let dict: Dict<u8, i64> = stage.broker.dict(&name("shared-dict"));
    let value = first_value(stage).await;
    let mut rng = stage.rng();
    let mut call = 0;
    while !stage.stop.is_cancelled() {
        call += 1;
        let key = rng.u8(..=keys);
        let (key_name, op) = if key == keys {
            ("value".to_owned(), random_op(&mut rng, true))
        } else {
            (format!("dict-{key}"), random_op(&mut rng, false))
        };
        stage.recorder.record(What::Call {
            call,
            key: key_name.clone(),
            op,
        });
        let answer = match (&value, key == keys) {
            (Some(value), true) => on_value(value, op).await,
            (None, true) => Ok(None),
            _ => on_dict(&dict, key, op).await,
        };
        let outcome = if answer.is_ok() {
            Known::Ok
        } else {
            Known::Info
        };
        let answer = answer.ok().flatten();
        stage.recorder.record(What::Return {
            call,
            key: key_name,
            outcome,
            answer,
        });
        stage.pause(PAUSE).await;
    }
    Ok(())
}

/// The shared value, once the broker has it.
async fn first_value(stage: &Stage) -> Option<Value<i64>> {
    while !stage.stop.is_cancelled() {
        if let Ok(value) = stage.broker.value(&name("shared-value"), &0).await {
            return Some(value);
        }
        stage.pause(Duration::from_millis(100)).await;
    }
    None
}

fn random_op(rng: &mut fastrand::Rng, value: bool) -> Op {
    let new = rng.i64(1..1_000_000);
    match rng.u8(..4) {
        0 => Op::Write(new),
        1 if value => Op::Add(rng.i64(1..10)),
        2 if value => Op::Exchange(0, new),
        _ => Op::Read,
    }
}

async fn on_dict(dict: &Dict<u8, i64>, key: u8, op: Op) -> Result<Option<i64>, Error> {
    match op {
        Op::Write(new) => dict.insert(&key, &new).await.map(|()| None),
        _ => dict.get_or(&key, 0).await.map(Some),
    }
}

async fn on_value(value: &Value<i64>, op: Op) -> Result<Option<i64>, Error> {
    match op {
        Op::Read => value.get().await.map(Some),
        Op::Write(new) => value.set(&new).await.map(|()| None),
        Op::Add(delta) => value.fetch_add(delta).await.map(Some),
        Op::Exchange(old, new) => {
            let exchanged = value.compare_exchange(&old, &new).await?;
            Ok(Some(i64::from(exchanged.is_ok())))
        }
    }
}
