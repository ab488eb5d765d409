//! Raw calls of functions: the same bytes can be sent again, and malformed ones at all.

use redis::{Connection, RedisResult, Value};

/// A function and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) args: Vec<Vec<u8>>,
}

impl Call {
    pub(crate) fn new(verb: &'static str) -> Self {
        Self {
            verb,
            args: Vec::new(),
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg.as_ref().to_vec());
        self
    }

    pub(crate) fn n(self, number: impl ToString + Copy) -> Self {
        self.arg(number.to_string())
    }

    pub(crate) fn args<A: AsRef<[u8]>>(self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    pub(crate) fn send(&self, connection: &mut Connection, keys: &[String]) -> RedisResult<Value> {
        redis::cmd("FCALL")
            .arg(format!("{}_{}", pmq_broker::functions::LIBRARY, self.verb))
            .arg(keys.len())
            .arg(keys)
            .arg(&self.args)
            .query(connection)
    }
}

/// The bytes of an answer that is one string; a number as text.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes.clone(),
        Value::SimpleString(text) => text.clone().into_bytes(),
        Value::Int(number) => number.to_string().into_bytes(),
        Value::Okay => b"OK".to_vec(),
        Value::Nil => Vec::new(),
        other => panic!("no string: {other:?}"),
    }
}

pub(crate) fn text(value: &Value) -> String {
    String::from_utf8_lossy(&bytes(value)).into_owned()
}

/// The items of an answer that is a list.
pub(crate) fn items(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(items) | Value::Set(items) => items.clone(),
        Value::Map(pairs) => pairs
            .iter()
            .flat_map(|(k, v)| [k.clone(), v.clone()])
            .collect(),
        other => panic!("no list: {other:?}"),
    }
}

/// The strings of an answer that is a list of strings, or one string.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::BulkString(_) => vec![text(value)],
        list => items(list).iter().map(text).collect(),
    }
}
