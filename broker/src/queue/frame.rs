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

/// The items of a run of frames, as parts of its bytes; nothing where it is none.
pub(super) fn decode(mut run: Bytes) -> Option<Vec<Bytes>> {
    let mut items = Vec::new();
    while !run.is_empty() {
        let count = run.try_get_u16_le().ok()?;
        for _ in 0..count {
            let length = run.try_get_u32_le().ok()? as usize;
            if length > run.len() {
                return None;
            }
            items.push(run.split_to(length));
        }
    }
    Some(items)
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
            for frame in &frames {
                prop_assert!(frame.len() <= LIMIT || decode(frame.clone()).unwrap().len() == 1);
            }
            let run = Bytes::from(frames.concat());
            if !run.is_empty() {
                prop_assert!(decode(run.slice(..run.len() - 1)).is_none());
            }
            prop_assert_eq!(decode(run), Some(items));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            decode(Bytes::from(bytes));
        }
    }
}
