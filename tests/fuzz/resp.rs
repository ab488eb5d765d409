//! Redis's protocol, as far as it takes to change what is said in it.

use std::io::{self, BufRead};

/// A request, a reply or a part of one, of either version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resp {
    /// A type and what stands behind it on its line: a status, an error, a number.
    Line(u8, Vec<u8>),
    /// Bytes; `None` is nil.
    Bulk(Option<Vec<u8>>),
    /// A type (`*` for an array) and its items; those of a map are keys and values in turn.
    List(u8, Vec<Resp>),
}

impl Resp {
    /// Reads one from a connection; an error where that has ended.
    pub(crate) fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut line = Vec::new();
        from.read_until(b'\n', &mut line)?;
        let [kind, rest @ .., b'\r', b'\n'] = line.as_slice() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let length = || -> i64 {
            let text = std::str::from_utf8(rest).unwrap();
            text.parse().unwrap()
        };
        Ok(match kind {
            b'$' | b'=' if length() >= 0 => {
                let mut bytes = vec![0; length() as usize + 2];
                from.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Self::Bulk(Some(bytes))
            }
            b'*' | b'~' | b'>' | b'%' if length() >= 0 => {
                let count = length() * if *kind == b'%' { 2 } else { 1 };
                let items = (0..count).map(|_| Self::read(from));
                Self::List(*kind, items.collect::<io::Result<_>>()?)
            }
            b'$' | b'*' => Self::Bulk(None),
            _ => Self::Line(*kind, rest.to_vec()),
        })
    }

    /// Writes it as it is sent.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Line(kind, text) => {
                out.push(*kind);
                out.extend(text.iter().filter(|byte| !b"\r\n".contains(byte)));
                out.extend(b"\r\n");
            }
            Self::Bulk(None) => out.extend(b"$-1\r\n"),
            Self::Bulk(Some(bytes)) => {
                out.extend(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend(bytes);
                out.extend(b"\r\n");
            }
            Self::List(kind, items) => {
                let count = items.len() / if *kind == b'%' { 2 } else { 1 };
                out.push(*kind);
                out.extend(format!("{count}\r\n").as_bytes());
                let whole = &items[..count * if *kind == b'%' { 2 } else { 1 }];
                for item in whole {
                    item.write(out);
                }
            }
        }
    }

    /// How many parts it has, itself included.
    pub(crate) fn parts(&self) -> usize {
        match self {
            Self::List(_, items) => 1 + items.iter().map(Self::parts).sum::<usize>(),
            _ => 1,
        }
    }

    /// The part of this number, counted from the outside in.
    pub(crate) fn part(&mut self, number: usize) -> &mut Self {
        let mut left = number;
        let mut here = self;
        while left > 0 {
            let Self::List(_, items) = here else {
                break;
            };
            left -= 1;
            let mut at = 0;
            while left >= items[at].parts() {
                left -= items[at].parts();
                at += 1;
            }
            here = &mut items[at];
        }
        here
    }

    /// The words of a request.
    pub(crate) fn words(&self) -> Vec<Vec<u8>> {
        let Self::List(_, items) = self else {
            return Vec::new();
        };
        let word = |item: &Self| match item {
            Self::Bulk(Some(bytes)) => bytes.clone(),
            _ => Vec::new(),
        };
        items.iter().map(word).collect()
    }
}
