//! What a process printed and the broker does not have yet: in order, and bounded.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use pmq_broker::process::{Batch, Stream};

/// What waits in memory at most, of one process.
const LIMIT: usize = 1 << 20;
/// What a piece costs beside its bytes, so that very many small ones are bounded too.
const OVERHEAD: usize = 64;
/// Small writes to one stream become one piece up to this size, larger ones are cut at the other.
const PIECE: usize = 16 * 1024;
const LONGEST: usize = 64 * 1024;
/// Bytes and pieces that go with one call, but at least one piece.
const BATCH: usize = 256 * 1024;
const BATCH_PIECES: usize = 500;

/// Pieces of output without gaps; offsets count the bytes of both streams.
#[derive(Default)]
pub(crate) struct Backlog {
    pieces: VecDeque<(Stream, BytesMut)>,
    /// Where the first piece begins.
    start: u64,
    /// Where the last one ends.
    end: u64,
    /// How many bytes were dropped.
    pub(crate) dropped: u64,
}

impl Backlog {
    /// Adds what comes next.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        self.end += bytes.len() as u64;
        match self.pieces.back_mut() {
            Some((last, piece)) if *last == stream && piece.len() + bytes.len() <= PIECE => {
                piece.extend_from_slice(bytes);
            }
            _ => {
                let pieces = bytes.chunks(LONGEST).map(|piece| (stream, piece.into()));
                self.pieces.extend(pieces);
            }
        }
    }

    /// Whether it holds more than it should.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() + self.pieces.len() * OVERHEAD > LIMIT
    }

    /// Drops the oldest pieces until it holds no more than it should.
    pub(crate) fn shrink(&mut self) {
        while self.is_full()
            && let Some((_, piece)) = self.pieces.pop_front()
        {
            self.start += piece.len() as u64;
            self.dropped += piece.len() as u64;
        }
    }

    /// How many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// How many bytes were ever printed.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// What the next call takes. It stays here until it is [confirmed](Self::confirm).
    pub(crate) fn batch(&self) -> Batch {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        for (stream, piece) in self.pieces.iter().take(BATCH_PIECES) {
            bytes += piece.len();
            if bytes > BATCH && !pieces.is_empty() {
                break;
            }
            pieces.push((Some(*stream), Bytes::copy_from_slice(piece)));
        }
        Batch {
            offset: self.start,
            pieces,
        }
    }

    /// The broker has everything up to `end`. The last piece may have grown since it was sent.
    pub(crate) fn confirm(&mut self, end: u64) {
        while let Some((_, piece)) = self.pieces.front_mut()
            && self.start < end
        {
            let known = (end - self.start).min(piece.len() as u64);
            self.start += known;
            if known == piece.len() as u64 {
                self.pieces.pop_front();
            } else {
                let _ = piece.split_to(known as usize);
            }
        }
    }

    /// Earlier runs have printed this much already.
    pub(crate) fn begin_at(&mut self, offset: u64) {
        self.start += offset;
        self.end += offset;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(batch: &Batch) -> Vec<u8> {
        let pieces = batch.pieces.iter();
        pieces.flat_map(|(_, piece)| piece.to_vec()).collect()
    }

    #[test]
    fn small_writes_to_one_stream_go_as_one_piece() {
        let mut backlog = Backlog::default();
        for (stream, text) in [
            (Stream::Stdout, "a"),
            (Stream::Stdout, "b"),
            (Stream::Stderr, "c"),
            (Stream::Stdout, ""),
            (Stream::Stderr, "d"),
        ] {
            backlog.push(stream, text.as_bytes());
        }
        let piece = |stream, text: &'static str| (Some(stream), Bytes::from(text));
        let expected = Batch {
            offset: 0,
            pieces: vec![piece(Stream::Stdout, "ab"), piece(Stream::Stderr, "cd")],
        };
        assert_eq!(backlog.batch(), expected);
    }

    #[test]
    fn a_very_long_line_goes_in_pieces() {
        let mut backlog = Backlog::default();
        backlog.push(Stream::Stdout, &vec![7; 1_000_000]);
        let (mut got, mut calls) = (0, 0);
        while backlog.bytes() > 0 {
            let batch = backlog.batch();
            assert!(batch.pieces.iter().all(|(_, piece)| piece.len() <= LONGEST));
            got += flat(&batch).len() as u64;
            backlog.confirm(got);
            calls += 1;
        }
        assert_eq!((got, calls), (1_000_000, 4));
    }

    #[test]
    fn beyond_the_limit_the_oldest_go_and_are_counted() {
        let mut backlog = Backlog::default();
        for _ in 0..20 {
            backlog.push(Stream::Stdout, &vec![0; 64 * 1024]);
            backlog.shrink();
        }
        let kept = backlog.bytes() as u64;
        assert!(kept <= LIMIT as u64 && kept > LIMIT as u64 - 2 * 64 * 1024);
        assert_eq!(backlog.dropped + kept, 20 * 64 * 1024);
        assert_eq!(backlog.batch().offset, backlog.dropped);
    }

    #[test]
    fn a_great_many_tiny_pieces_are_bounded_too() {
        let mut backlog = Backlog::default();
        for _ in 0..LIMIT {
            backlog.push(Stream::Stdout, b"o");
            backlog.push(Stream::Stderr, b"e");
            backlog.shrink();
        }
        assert!(backlog.pieces.len() <= LIMIT / OVERHEAD);
    }

    proptest! {
        #[test]
        fn whatever_is_confirmed_when_nothing_is_sent_twice_or_left_out(
            writes in proptest::collection::vec((any::<bool>(), 0_usize..40_000, 0_u64..50_000), 0..40),
        ) {
            let (mut backlog, mut whole, mut got) = (Backlog::default(), Vec::new(), Vec::new());
            for (i, (out, size, confirmed)) in writes.into_iter().enumerate() {
                let bytes = vec![i as u8; size];
                backlog.push(if out { Stream::Stdout } else { Stream::Stderr }, &bytes);
                whole.extend_from_slice(&bytes);
                let batch = backlog.batch();
                prop_assert_eq!(batch.offset, got.len() as u64);
                let sent = flat(&batch);
                let taken = sent.len().min(confirmed as usize);
                got.extend_from_slice(&sent[..taken]);
                backlog.confirm(got.len() as u64);
            }
            while backlog.bytes() > 0 {
                let batch = backlog.batch();
                prop_assert_eq!(batch.offset, got.len() as u64);
                got.extend(flat(&batch));
                backlog.confirm(got.len() as u64);
            }
            prop_assert_eq!(got, whole);
        }
    }
}
