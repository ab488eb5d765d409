//! Reading the functions' answers.

use bytes::Bytes;
use redis::{ErrorKind, RedisError, Value};

use crate::error::{Error, Result};

/// An answer of a shape that no function of ours has.
pub(crate) fn odd(doing: &'static str) -> Error {
    Error::Unexpected {
        doing,
        source: RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "an answer of unknown shape",
        )),
    }
}

pub(crate) fn items(value: Value, doing: &'static str) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(k, v)| [k, v]).collect()),
        _ => Err(odd(doing)),
    }
}

pub(crate) fn bytes(value: Value, doing: &'static str) -> Result<Bytes> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into_bytes().into()),
        Value::Okay => Ok(Bytes::from_static(b"OK")),
        Value::Nil => Ok(Bytes::new()),
        _ => Err(odd(doing)),
    }
}

pub(crate) fn text(value: Value, doing: &'static str) -> Result<String> {
    let bytes = match value {
        Value::BulkString(bytes) => bytes,
        other => bytes(other, doing)?.into(),
    };
    String::from_utf8(bytes).map_err(|_| odd(doing))
}

pub(crate) fn number(value: Value, doing: &'static str) -> Result<u64> {
    match value {
        Value::Int(n) => u64::try_from(n).map_err(|_| odd(doing)),
        other => text(other, doing)?.parse().map_err(|_| odd(doing)),
    }
}

/// An answer `{"ok", ...}`: what follows; or the other first word. One of a single word may come without the list.
pub(crate) fn tagged(value: Value, doing: &'static str) -> Result<Tagged> {
    let (tag, items) = match value {
        word @ Value::BulkString(_) => (word, Vec::new().into_iter()),
        list => {
            let mut items = items(list, doing)?.into_iter();
            (items.next().ok_or_else(|| odd(doing))?, items)
        }
    };
    let tag = text(tag, doing)?;
    Ok(Tagged {
        tag,
        rest: items,
        doing,
    })
}

/// An answer whose first item is a word.
pub(crate) struct Tagged {
    pub(crate) tag: String,
    rest: std::vec::IntoIter<Value>,
    doing: &'static str,
}

impl Tagged {
    pub(crate) fn value(&mut self) -> Result<Value> {
        self.rest.next().ok_or_else(|| odd(self.doing))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        text(self.value()?, self.doing)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes> {
        bytes(self.value()?, self.doing)
    }

    pub(crate) fn number(&mut self) -> Result<u64> {
        number(self.value()?, self.doing)
    }

    pub(crate) fn items(&mut self) -> Result<Vec<Value>> {
        items(self.value()?, self.doing)
    }

    /// The items of a part that an answer may end without.
    pub(crate) fn items_if_any(&mut self) -> Result<Vec<Value>> {
        let part = self.rest.next();
        part.map_or(Ok(Vec::new()), |part| items(part, self.doing))
    }
}
