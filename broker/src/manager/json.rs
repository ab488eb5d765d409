//! Items as JSON in one canonical form, so that equal items are equal bytes.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};

/// The most bytes of an item, and of the items of one call.
pub(super) const MAX_BYTES: usize = 1_048_576;

/// The text of an item: keys of maps sorted, no spaces.
pub(super) fn encode<T: Serialize>(item: &T) -> Result<Vec<u8>> {
    let no_json =
        |error: serde_json::Error| Error::BadOption(format!("an item has no JSON form: {error}"));
    let mut value = serde_json::to_value(item).map_err(no_json)?;
    value.sort_all_objects();
    let text = serde_json::to_vec(&value).map_err(no_json)?;
    if text.len() > MAX_BYTES {
        return Err(Error::TooLarge {
            what: "an item",
            size: text.len(),
            limit: MAX_BYTES,
        });
    }
    Ok(text)
}

/// The item of a text.
pub(super) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| Error::Unreadable {
        what: "item",
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn equal_items_are_equal_bytes() {
        let keys = ["b", "a", "c", "z", "y"];
        let one: HashMap<_, _> = keys.iter().map(|k| (*k, 1)).collect();
        let other: HashMap<_, _> = keys.iter().rev().map(|k| (*k, 1)).collect();
        assert_eq!(encode(&one).unwrap(), encode(&other).unwrap());
        assert_eq!(encode(&one).unwrap(), br#"{"a":1,"b":1,"c":1,"y":1,"z":1}"#);
        assert_ne!(encode(&1).unwrap(), encode(&1.0).unwrap());
    }

    #[test]
    fn what_is_too_large_or_no_json_is_refused() {
        let large = "x".repeat(MAX_BYTES);
        assert!(matches!(encode(&large), Err(Error::TooLarge { .. })));
        let no_json = HashMap::from([((1, 2), 3)]);
        assert!(matches!(encode(&no_json), Err(Error::BadOption(_))));
        assert!(matches!(
            decode::<u8>(b"300"),
            Err(Error::Unreadable { .. })
        ));
    }
}
