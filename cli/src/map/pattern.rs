//! Text with GNU parallel's replacement strings, parsed once and filled in for each job.
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;

use super::input::Job;
use super::path;

/// The longest text between braces that can be a replacement string: a position and `/.`.
const MAX_NAME: usize = 22;

/// Text with replacement strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) pieces: Vec<Piece>,
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Vec<u8>),
    Seq,
    Argument(Argument),
}

/// A part of a pattern that was filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// What stood in the pattern.
    Text(&'a [u8]),
    /// An argument, or the part of it that was asked for.
    Value(&'a [u8]),
    /// Stands between the values of one replacement string, where there are several.
    Gap,
}

/// A replacement string that stands for arguments of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Argument {
    /// Which source, counted from 1; `None` for all of them.
    pub(super) position: Option<NonZeroUsize>,
    view: View,
}

/// Which part of an argument is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Whole,
    WithoutExtension,
    Basename,
    Dirname,
    BasenameWithoutExtension,
}

/// `{%}` stands in a pattern: which slot runs a job is not known when its command is made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlotIsUnknown;

impl Argument {
    /// `{}`.
    pub(super) const ALL: Self = Self {
        position: None,
        view: View::Whole,
    };

    fn fill(self, job: &Job, take: &mut impl FnMut(Part)) {
        let args = match self.position {
            None => &job.args[..],
            Some(position) => job
                .args
                .get(position.get() - 1..position.get())
                .unwrap_or_default(),
        };
        for (index, arg) in args.iter().enumerate() {
            if index > 0 {
                take(Part::Gap);
            }
            take(Part::Value(self.view.of(arg.as_bytes())));
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, view) = name.split_at(digits);
        let position = match number {
            b"" => None,
            number => Some(std::str::from_utf8(number).ok()?.parse().ok()?),
        };
        Some(Self {
            position,
            view: View::named(view)?,
        })
    }
}

impl View {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"" => Self::Whole,
            b"." => Self::WithoutExtension,
            b"/" => Self::Basename,
            b"//" => Self::Dirname,
            b"/." => Self::BasenameWithoutExtension,
            _ => return None,
        })
    }

    fn of(self, arg: &[u8]) -> &[u8] {
        match self {
            Self::Whole => arg,
            Self::WithoutExtension => path::without_extension(arg),
            Self::Basename => path::basename(arg),
            Self::Dirname => path::dirname(arg),
            Self::BasenameWithoutExtension => path::without_extension(path::basename(arg)),
        }
    }
}

impl Pattern {
    /// Parses `text`. Braces around anything but a replacement string are text.
    pub(super) fn parse(text: &[u8]) -> Result<Self, SlotIsUnknown> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some((&byte, tail)) = rest.split_first() {
            let found = if byte == b'{' {
                replacement(tail)?
            } else {
                None
            };
            if let Some((piece, after)) = found {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(piece);
                rest = after;
            } else {
                literal.push(byte);
                rest = tail;
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self { pieces })
    }

    /// Whether there is any replacement string.
    pub(super) fn is_filled(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// Hands the parts of the pattern to `take`, filled in for `job`.
    pub(super) fn fill(&self, job: &Job, mut take: impl FnMut(Part)) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => take(Part::Text(text)),
                Piece::Seq => take(Part::Text(job.seq.to_string().as_bytes())),
                Piece::Argument(argument) => argument.fill(job, &mut take),
            }
        }
    }
}

/// The replacement string at the start of `text`, after its `{`, and what follows it.
fn replacement(text: &[u8]) -> Result<Option<(Piece, &[u8])>, SlotIsUnknown> {
    let window = &text[..text.len().min(MAX_NAME + 1)];
    let Some(close) = window.iter().position(|&byte| byte == b'}') else {
        return Ok(None);
    };
    let piece = match &text[..close] {
        b"#" => Some(Piece::Seq),
        b"%" => return Err(SlotIsUnknown),
        name => Argument::named(name).map(Piece::Argument),
    };
    Ok(piece.map(|piece| (piece, &text[close + 1..])))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn filled(pattern: &str, args: &[&str]) -> String {
        let job = Job {
            seq: 7,
            args: args.iter().map(OsString::from).collect(),
        };
        let pattern = Pattern::parse(pattern.as_bytes()).unwrap();
        let mut filled = Vec::new();
        pattern.fill(&job, |part| match part {
            Part::Text(bytes) | Part::Value(bytes) => filled.extend_from_slice(bytes),
            Part::Gap => filled.push(b' '),
        });
        String::from_utf8(filled).unwrap()
    }

    #[test]
    fn each_replacement_string_is_known() {
        let args = ["d/a.x", "e/c.y"];
        let cases = [
            ("{}", "d/a.x e/c.y"),
            ("{.}", "d/a e/c"),
            ("{/}", "a.x c.y"),
            ("{//}", "d e"),
            ("{/.}", "a c"),
            ("{#}", "7"),
            ("{2}-{1}", "e/c.y-d/a.x"),
            ("{1.}|{1/}|{1//}|{1/.}", "d/a|a.x|d|a"),
            ("{01}", "d/a.x"),
            ("x{/}{//}y", "xa.x c.yd ey"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(filled(pattern, &args), expected, "{pattern}");
        }
    }

    #[test]
    fn other_braces_are_text() {
        for text in [
            "{", "}", "{foo}", "{ }", "{+/}", "{..}", "{1", "{0}", "{-1}", "{1x}", "",
        ] {
            assert_eq!(filled(text, &["a"]), text);
            assert!(
                !Pattern::parse(text.as_bytes()).unwrap().is_filled(),
                "{text}"
            );
        }
        assert_eq!(filled("{{}}", &["a"]), "{a}");
        let long = format!("{{{}}}", "9".repeat(30));
        assert_eq!(filled(&long, &["a"]), long);
        assert_eq!(
            filled("{18446744073709551616}", &["a"]),
            "{18446744073709551616}"
        );
    }

    #[test]
    fn values_are_not_expanded_again() {
        assert_eq!(filled("{}{}", &["{}"]), "{}{}");
        assert_eq!(filled("{1}", &["{#}"]), "{#}");
    }

    #[test]
    fn the_slot_is_refused() {
        assert_eq!(Pattern::parse(b"a{%}b"), Err(SlotIsUnknown));
    }
}
