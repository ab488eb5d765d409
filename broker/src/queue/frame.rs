//! Frames: several items as one string, which the functions move whole. How many (2 bytes, little endian), then each
//! behind its length (4 bytes).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most bytes of a frame with more than one item: what a get of few of its items has to copy.
const LIMIT: usize = 65_536;
const COUNT: usize = 2;
const LENGTH: usize = 4;

/// The frames of these items, which are at most 500.
pub(super) fn encode(items: &[Bytes]) -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        let mut bytes = COUNT;
        let fit = rest.iter().take_while(|item| {
            bytes += LENGTH + item.len();
            bytes <= LIMIT
        });
        let (frame, others) = rest.split_at(fit.count().max(1));
        frames.push(encode_one(frame));
        rest = others;
    }
    frames
}

fn encode_one(items: &[Bytes]) -> Bytes {
    let length = items.iter().map(|item| LENGTH + item.len()).sum::<usize>();
    let mut frame = BytesMut::with_capacity(COUNT + length);
    frame.put_u16_le(items.len() as u16);
    for item in items {
        frame.put_u32_le(item.len() as u32);
        frame.put_slice(item);
    }
    frame.freeze()
}

/// Adds the items of a frame, as parts of its bytes; nothing where it is none.
pub(super) fn decode(frame: &Bytes, items: &mut Vec<Bytes>) -> Option<()> {
    let mut rest = frame.clone();
    let count = rest.try_get_u16_le().ok()?;
    for _ in 0..count {
        let length = rest.try_get_u32_le().ok()? as usize;
        if length > rest.len() {
            return None;
        }
        items.push(rest.split_to(length));
    }
    rest.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn items_come_back_and_few_large_ones_make_a_frame_of_their_own(
            sizes in proptest::collection::vec(0usize..40_000, 0..30),
        ) {
            let items: Vec<_> = sizes.iter().map(|size| Bytes::from(vec![7; *size])).collect();
            let frames = encode(&items);
            let mut decoded = Vec::new();
            for frame in &frames {
                let before = decoded.len();
                prop_assert!(decode(frame, &mut decoded).is_some());
                prop_assert!(frame.len() <= LIMIT || decoded.len() == before + 1);
            }
            prop_assert_eq!(decoded, items);
        }

        #[test]
        fn what_is_no_frame_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut items = Vec::new();
            if decode(&Bytes::from(bytes.clone()), &mut items).is_some() && !items.is_empty() {
                prop_assert_eq!(encode(&items), [Bytes::from(bytes)]);
            }
        }
    }
}
