//! Shell quoting: of single arguments for a shell, and of whole commands for logs, and back.
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Appends `arg` to `out` so that a POSIX shell reads it back as one word, as GNU parallel quotes.
///
/// An argument that needs no quotes is left bare. A newline stays a newline.
pub fn push_quoted(arg: &[u8], out: &mut Vec<u8>) {
    if arg.is_empty() {
        out.extend_from_slice(b"''");
    } else if arg.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(arg);
    } else {
        let mut parts = arg.split(|&byte| byte == b'\'').peekable();
        let mut first = true;
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            // An empty part at either end needs no quotes of its own.
            if !part.is_empty() || !(first || last) {
                out.push(b'\'');
                out.extend_from_slice(part);
                out.push(b'\'');
            }
            if !last {
                out.extend_from_slice(b"\"'\"");
            }
            first = false;
        }
    }
}

/// The command as one line that a shell would read back as the same words.
///
/// Words with control characters are written as `$'...'`, which bash, zsh and ksh know, so that the
/// line has neither newlines nor tabs in its words. Bytes that are not UTF-8 stay as they are.
#[must_use]
pub fn line(argv: &[OsString]) -> Vec<u8> {
    let mut line = Vec::new();
    for (index, word) in argv.iter().enumerate() {
        if index > 0 {
            line.push(b' ');
        }
        let word = word.as_bytes();
        if word.iter().any(u8::is_ascii_control) {
            push_escaped(word, &mut line);
        } else {
            push_quoted(word, &mut line);
        }
    }
    line
}

/// Why a line could not be read back as a command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnquoteError {
    /// A quote is not closed.
    #[error("a quote is not closed")]
    Unclosed,
    /// The line holds something that only a shell can read.
    #[error("{0:?} is not quoted: only a shell can read this; run the line with --shell")]
    NeedsShell(char),
    /// `$'...'` holds an escape that is never written.
    #[error("an escape in $'...' is not known")]
    UnknownEscape,
}

/// The words of a line that [`line()`] wrote. Lines that need a shell to read them are refused.
pub fn words(line: &[u8]) -> Result<Vec<OsString>, UnquoteError> {
    let mut words = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let mut word = Vec::new();
        rest = read_word(rest, &mut word)?;
        words.push(OsString::from_vec(word));
    }
    Ok(words)
}

/// What GNU parallel leaves without quotes.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.+/".contains(&byte)
}

fn push_escaped(word: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"$'");
    for &byte in word {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\'' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            // Always three digits, so that a digit which follows is not read as part of it.
            byte if byte.is_ascii_control() => {
                out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            byte => out.push(byte),
        }
    }
    out.push(b'\'');
}

/// Reads one word and the space after it; returns what follows.
fn read_word<'a>(line: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnquoteError> {
    let mut rest = line;
    loop {
        rest = match rest {
            [] => return Ok(rest),
            [b' ', tail @ ..] => return Ok(tail),
            [b'$', b'\'', tail @ ..] => read_escaped(tail, word)?,
            [quote @ (b'\'' | b'"'), tail @ ..] => read_quoted(*quote, tail, word)?,
            [byte, tail @ ..] if is_plain(*byte) => {
                word.push(*byte);
                tail
            }
            [byte, ..] => return Err(UnquoteError::NeedsShell(char::from(*byte))),
        }
    }
}

fn read_quoted<'a>(
    quote: u8,
    text: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], UnquoteError> {
    let end = text
        .iter()
        .position(|&byte| byte == quote)
        .ok_or(UnquoteError::Unclosed)?;
    let expands = |byte: &&u8| quote == b'"' && b"$`\\".contains(byte);
    if let Some(&byte) = text[..end].iter().find(expands) {
        return Err(UnquoteError::NeedsShell(char::from(byte)));
    }
    word.extend_from_slice(&text[..end]);
    Ok(&text[end + 1..])
}

fn read_escaped<'a>(text: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnquoteError> {
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Err(UnquoteError::Unclosed),
            [b'\'', tail @ ..] => return Ok(tail),
            [b'\\', tail @ ..] => {
                let (byte, tail) = read_escape(tail)?;
                word.push(byte);
                tail
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
        }
    }
}

fn read_escape(text: &[u8]) -> Result<(u8, &[u8]), UnquoteError> {
    match text {
        [b'n', tail @ ..] => Ok((b'\n', tail)),
        [b't', tail @ ..] => Ok((b'\t', tail)),
        [b'r', tail @ ..] => Ok((b'\r', tail)),
        [byte @ (b'\'' | b'\\'), tail @ ..] => Ok((*byte, tail)),
        [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
            Ok(((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'), tail))
        }
        _ => Err(UnquoteError::UnknownEscape),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn quoted(arg: &str) -> String {
        let mut out = Vec::new();
        push_quoted(arg.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn quotes_are_those_of_gnu_parallel() {
        let cases = [
            ("a b", "'a b'"),
            ("", "''"),
            ("it's", r#"'it'"'"'s'"#),
            ("'", r#""'""#),
            ("'a", r#""'"'a'"#),
            ("a'", r#"'a'"'""#),
            ("a''b", r#"'a'"'"''"'"'b'"#),
            ("''", r#""'"''"'""#),
            (r"a\b", r"'a\b'"),
            ("x\"y", "'x\"y'"),
            ("-x", "-x"),
            ("a_b/c.d+e-9", "a_b/c.d+e-9"),
            ("a=b", "'a=b'"),
            ("~x", "'~x'"),
            ("a:b", "'a:b'"),
            ("#", "'#'"),
            ("é", "'é'"),
            ("a\nb", "'a\nb'"),
        ];
        for (arg, expected) in cases {
            assert_eq!(quoted(arg), expected, "{arg:?}");
        }
    }

    #[test]
    fn a_line_is_one_line_and_keeps_invalid_utf8() {
        assert_eq!(line(&argv(&["gzip", "-9", "a b"])), b"gzip -9 'a b'");
        let odd = argv(&["echo", "a\nb\tc\r'\\", "\x1b1\x7f"]);
        assert_eq!(line(&odd), br"echo $'a\nb\tc\r\'\\' $'\0331\177'");
        assert_eq!(words(&line(&odd)), Ok(odd));
        let invalid = OsStr::from_bytes(b"\xff\xfe").to_owned();
        assert_eq!(line(std::slice::from_ref(&invalid)), b"'\xff\xfe'");
        assert_eq!(words(b"'\xff\xfe'"), Ok(vec![invalid]));
    }

    #[test]
    fn lines_that_need_a_shell_are_refused() {
        let cases = [
            ("echo a; exit 1", UnquoteError::NeedsShell(';')),
            ("echo $HOME", UnquoteError::NeedsShell('$')),
            ("echo \"$HOME\"", UnquoteError::NeedsShell('$')),
            ("echo a\\ b", UnquoteError::NeedsShell('\\')),
            ("ls *", UnquoteError::NeedsShell('*')),
            ("echo 'a", UnquoteError::Unclosed),
            ("echo $'a", UnquoteError::Unclosed),
            (r"echo $'a\q'", UnquoteError::UnknownEscape),
            (r"echo $'\77'", UnquoteError::UnknownEscape),
        ];
        for (line, error) in cases {
            assert_eq!(words(line.as_bytes()), Err(error), "{line}");
        }
    }

    fn arg() -> impl Strategy<Value = Vec<u8>> {
        let odd = prop::sample::select(b"'\"\\$`!\n\t *a{}\xff".to_vec());
        prop::collection::vec(prop_oneof![odd, 1u8..], 0..12)
    }

    proptest! {
        #[test]
        fn a_line_reads_back_as_its_words(argv in prop::collection::vec(arg(), 1..5)) {
            let argv: Vec<_> = argv.into_iter().map(OsString::from_vec).collect();
            let line = line(&argv);
            prop_assert!(!line.iter().any(u8::is_ascii_control));
            prop_assert_eq!(words(&line), Ok(argv));
        }
    }

    proptest! {
        // Each case starts a shell.
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_reads_back_what_was_quoted(args in prop::collection::vec(arg(), 1..8)) {
            let mut script = b"printf '%s\\0'".to_vec();
            for arg in &args {
                script.push(b' ');
                push_quoted(arg, &mut script);
            }
            let printed = Command::new("sh").arg("-c").arg(OsString::from_vec(script)).output().unwrap();
            let mut expected = args.join(&b'\0');
            expected.push(b'\0');
            prop_assert_eq!(printed.stdout, expected);
        }
    }
}
