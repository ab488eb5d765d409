//! Bounded capture of what a command prints: the first half of the limit and the last half.

use std::collections::VecDeque;

use bytes::Bytes;
pub use pmq_broker::process::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

/// How much is read at once at first: most commands print little, and large memory is dear to get and give back.
const FIRST: usize = 4 * 1024;
/// How much is read at once at most: what a pipe holds on Linux.
const CHUNK: usize = 64 * 1024;

/// What a command printed on one stream; any bytes. Where it printed more than the limit, the middle is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// The first bytes, up to half of the limit.
    pub head: Vec<u8>,
    /// The last bytes after the head, up to half of the limit.
    pub tail: Vec<u8>,
    /// How many bytes between the two were dropped.
    pub dropped: u64,
}

impl Captured {
    /// Joins head and tail, with a line that counts the missing bytes if any are.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        if self.dropped > 0 {
            bytes.extend_from_slice(
                format!("\n[... {} bytes dropped ...]\n", self.dropped).as_bytes(),
            );
        }
        bytes.extend_from_slice(&self.tail);
        bytes
    }
}

/// A stream on its way into a [`Captured`].
pub(super) struct Capture {
    half: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
    live: Option<(Stream, mpsc::Sender<(Stream, Bytes)>)>,
}

impl Capture {
    /// Keeps at most `limit` bytes, and also sends every chunk to `live`.
    pub(super) fn new(limit: usize, live: Option<(Stream, mpsc::Sender<(Stream, Bytes)>)>) -> Self {
        Self {
            half: limit / 2,
            head: Vec::new(),
            tail: VecDeque::new(),
            dropped: 0,
            live,
        }
    }

    /// Reads `pipe` to its end. Cancelling keeps what was read until then.
    pub(super) async fn fill(&mut self, mut pipe: impl AsyncRead + Unpin) {
        let mut chunk = Vec::with_capacity(FIRST);
        // A pipe that fails has no more to say, just as one at its end.
        while let Ok(1..) = pipe.read_buf(&mut chunk).await {
            self.push(&chunk);
            if let Some((stream, live)) = &self.live {
                // A listener that has gone is no reason to disturb the command.
                let _ = live.send((*stream, Bytes::copy_from_slice(&chunk))).await;
            }
            let full = chunk.len() == chunk.capacity();
            chunk.clear();
            if full {
                chunk.reserve_exact((2 * chunk.capacity()).min(CHUNK));
            }
        }
    }

    pub(super) fn finish(self) -> Captured {
        Captured {
            head: self.head,
            tail: self.tail.into(),
            dropped: self.dropped,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        let skipped = rest.len().saturating_sub(self.half);
        let overflow = (self.tail.len() + rest.len() - skipped).saturating_sub(self.half);
        self.tail.drain(..overflow);
        self.tail.extend(&rest[skipped..]);
        self.dropped += (skipped + overflow) as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn captured(limit: usize, chunks: &[Vec<u8>]) -> Captured {
        let mut capture = Capture::new(limit, None);
        for chunk in chunks {
            capture.push(chunk);
        }
        capture.finish()
    }

    #[test]
    fn output_within_the_limit_is_whole() {
        let captured = captured(8, &[b"abc".to_vec(), b"defgh".to_vec()]);
        assert_eq!(captured.dropped, 0);
        assert_eq!(captured.into_bytes(), b"abcdefgh");
    }

    #[test]
    fn a_gap_is_counted_in_a_line_of_its_own() {
        let captured = captured(4, &[b"abcdefgh".to_vec()]);
        assert_eq!(captured.into_bytes(), b"ab\n[... 4 bytes dropped ...]\ngh");
    }

    proptest! {
        #[test]
        fn head_and_tail_are_the_ends_of_the_output(limit in 0_usize..40, chunks: Vec<Vec<u8>>) {
            let whole = chunks.concat();
            let captured = captured(limit, &chunks);
            prop_assert!(whole.starts_with(&captured.head) && whole.ends_with(&captured.tail));
            prop_assert!(captured.head.len().max(captured.tail.len()) <= limit / 2);
            let kept = captured.head.len() + captured.tail.len();
            prop_assert_eq!(kept as u64 + captured.dropped, whole.len() as u64);
            prop_assert_eq!(captured.dropped > 0, whole.len() > limit / 2 * 2);
        }
    }
}
