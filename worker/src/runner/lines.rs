//! A stream of bytes, cut into lines.

use bytes::{Bytes, BytesMut};

/// How much room a read finds at least, in bytes.
const CHUNK: usize = 16 * 1024;

/// Bytes that were read and not yet taken as lines. It grows to `limit` and one read, no further,
/// if its owner stops reading once it [is full](Lines::is_full).
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How many of the first bytes hold no newline, so that a long line is searched only once.
    searched: usize,
    limit: usize,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            limit,
        }
    }

    /// Where the next read goes.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        self.buffer.reserve(CHUNK);
        &mut self.buffer
    }

    /// Takes the first whole line, without its newline.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let Some(end) = self.buffer[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + end + 1);
        line.truncate(line.len() - 1);
        self.searched = 0;
        Some(line.freeze())
    }

    /// Whether the line that has begun is longer than the limit already.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() > self.limit
    }

    /// Takes what there is, though no newline has come.
    pub(super) fn rest(&mut self) -> Bytes {
        self.searched = 0;
        self.buffer.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let text = b"one\n\ntwo and\r\nthree";
        for size in 1..=text.len() {
            let mut lines = Lines::new(100);
            let mut seen = Vec::new();
            for chunk in text.chunks(size) {
                lines.space().extend_from_slice(chunk);
                seen.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(
                seen,
                ["one".as_bytes(), b"", b"two and\r"],
                "in pieces of {size}"
            );
            assert_eq!(lines.rest(), "three");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_noticed_before_its_end() {
        let mut lines = Lines::new(4);
        lines.space().extend_from_slice(b"1234");
        assert_eq!(lines.next(), None);
        assert!(!lines.is_full());
        lines.space().extend_from_slice(b"5");
        assert!(lines.is_full());
    }
}
