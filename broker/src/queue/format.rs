//! How items become bytes.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Turns items into bytes and back. In Python this is `pickle`.
pub trait Format<T> {
    /// The bytes of an item; fails where it has none in this format.
    fn encode(item: &T) -> Result<Bytes, serde_json::Error>;
    /// The item that these bytes are; fails where they are none.
    fn decode(bytes: &Bytes) -> Result<T, serde_json::Error>;
}

/// Items as JSON, which other languages read as well.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Format<T> for Json {
    fn encode(item: &T) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(item).map(Bytes::from)
    }

    fn decode(bytes: &Bytes) -> Result<T, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// Items that are bytes, as they are.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Format<Bytes> for Raw {
    fn encode(item: &Bytes) -> Result<Bytes, serde_json::Error> {
        Ok(item.clone())
    }

    fn decode(bytes: &Bytes) -> Result<Bytes, serde_json::Error> {
        Ok(bytes.clone())
    }
}
