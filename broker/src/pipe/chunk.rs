//! How messages are cut into the items that stand in Redis, and put together again.
//!
//! An item begins with a byte of flags. The first item of a message then has its length (u32, little endian).

use bytes::{Buf, Bytes, BytesMut};

/// Bytes of an item, flags and length included: small beside the usual capacity, so that both sides are busy at once.
const ITEM: usize = 256 << 10;
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// The items of a message.
pub(super) fn items(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let room = ITEM - 5;
    let rest = message.len().saturating_sub(1) / room;
    (0..=rest).map(move |i| {
        let part = &message[i * room..message.len().min((i + 1) * room)];
        let mut item = Vec::with_capacity(ITEM.min(part.len() + 5));
        item.push(if i == 0 { FIRST } else { 0 } | if i == rest { LAST } else { 0 });
        if i == 0 {
            item.extend_from_slice(&(message.len() as u32).to_le_bytes());
        }
        item.extend_from_slice(part);
        item
    })
}

/// What has been received and not been given out.
#[derive(Debug, Default)]
pub(super) enum Gathered {
    #[default]
    Nothing,
    /// A message that is not complete, and its length.
    Part(usize, BytesMut),
    Whole(Bytes),
}

impl Gathered {
    /// The length of the message that has begun.
    pub(super) fn length(&self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Part(length, _) => Some(*length),
            Self::Whole(message) => Some(message.len()),
        }
    }

    /// Takes the message, if it is complete.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::Whole(message) => Some(message),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Adds an item. One that begins a message ends what was not complete: its sender has given it up. `None` where
    /// the items do not make a message.
    pub(super) fn add(&mut self, mut item: Bytes) -> Option<()> {
        let flags = item.try_get_u8().ok()?;
        if flags & FIRST != 0 {
            *self = Self::Part(item.try_get_u32_le().ok()? as usize, BytesMut::new());
        }
        let Self::Part(length, bytes) = self else {
            return None;
        };
        if bytes.is_empty() && item.len() == *length {
            *self = Self::Whole(item); // without a copy
            return Some(());
        }
        bytes.extend_from_slice(&item);
        if bytes.len() > *length {
            *self = Self::Nothing; // or a sender could fill the memory
            return None;
        }
        if flags & LAST != 0 {
            let whole = bytes.len() == *length;
            let message = std::mem::take(bytes).freeze();
            *self = Self::Whole(message);
            return whole.then_some(());
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_grows_beyond_its_length_is_refused() {
        let mut gathered = Gathered::default();
        assert!(
            gathered
                .add(Bytes::from_static(&[FIRST, 3, 0, 0, 0, 7]))
                .is_some()
        );
        assert!(gathered.add(Bytes::from_static(&[0, 7])).is_some());
        assert!(gathered.add(Bytes::from_static(&[0, 7, 7])).is_none());
        assert_eq!(gathered.length(), None);
    }

    #[test]
    fn a_message_of_any_length_is_the_same_after_its_items() {
        for length in [0, 1, ITEM - 5, ITEM - 4, 2 * ITEM - 10, 3 * ITEM + 7] {
            let message: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut gathered = Gathered::default();
            for item in items(&message) {
                assert!(item.len() <= ITEM && gathered.take().is_none());
                gathered.add(item.into()).unwrap();
                assert_eq!(gathered.length(), Some(length));
            }
            assert_eq!(gathered.take().unwrap(), message);
            assert!(gathered.length().is_none());
        }
    }

    #[test]
    fn a_message_that_was_given_up_is_dropped_for_the_next() {
        let long = vec![7; 2 * ITEM];
        let mut gathered = Gathered::default();
        gathered.add(items(&long).next().unwrap().into()).unwrap();
        gathered.add(items(b"next").next().unwrap().into()).unwrap();
        assert_eq!(gathered.take().unwrap(), "next");
        assert!(gathered.add(Bytes::from_static(b"\0rest")).is_none());
        assert!(gathered.add(Bytes::from_static(b"\x03\x01")).is_none());
    }
}
