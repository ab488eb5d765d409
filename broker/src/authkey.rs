//! The authkey: the secret by which those who share it know each other's tasks and completions. The name is Python's.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::XChaCha20Poly1305;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::error::{Error, Result};

/// Bytes of a key.
const SECRET: usize = 32;
/// Bytes of a key's id.
pub(crate) const KEY_ID: usize = 4;
/// Bytes of a MAC.
pub(crate) const MAC: usize = 32;
/// How many keys may be in use at once: the one that signs, and the one before or after it.
const ACTIVE: usize = 2;

/// Where the authkey comes from. `Debug` shows no secret.
#[derive(Clone, Default)]
pub enum AuthkeySource {
    /// There is none: nothing is signed or verified.
    #[default]
    None,
    /// This text.
    Text(String),
    /// A file with such a text. It is read once, when the process connects.
    File(PathBuf),
}

impl AuthkeySource {
    /// Reads the keys, where there are any.
    pub(crate) fn read(&self) -> Result<Option<Authkey>> {
        match self {
            Self::None => Ok(None),
            Self::Text(text) => Authkey::parse(text).map(Some),
            Self::File(path) => {
                let bad = |why: &dyn fmt::Display| {
                    Error::BadOption(format!("the authkey file {}: {why}", path.display()))
                };
                let text = std::fs::read_to_string(path).map_err(|e| bad(&e))?;
                warn_of_readers(path);
                Authkey::parse(&text).map(Some).map_err(|e| bad(&e))
            }
        }
    }
}

/// Where files of secrets are mounted for all to read, as in some containers, there may be nobody else to read them.
fn warn_of_readers(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if mode & 0o004 != 0 {
        tracing::warn!(target: "pmq", "every user of this machine can read the authkey in {0}; `chmod 600 {0}`", path.display());
    }
}

impl fmt::Debug for AuthkeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Text(_) => f.write_str("Text(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// One key or two: the first signs, each is accepted. In Python's multiprocessing this is `Process.authkey`.
pub struct Authkey(Vec<Key>);

impl Authkey {
    /// Reads keys: one or two of 64 hexadecimal digits, each a word of its own; a `#` begins a comment.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Err(Error::BadOption(why.to_owned()));
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let keys: Option<Vec<Key>> = lines
            .flat_map(str::split_whitespace)
            .map(Key::parse)
            .collect();
        let Some(keys) = keys else {
            return bad("an authkey is 64 hexadecimal digits; `pmq authkey new FILE` makes one");
        };
        match keys.len() {
            0 => bad("it holds no authkey; `pmq authkey new FILE` makes one"),
            1..=ACTIVE => Ok(Self(keys)),
            _ => bad("it holds more than two authkeys; remove those that are not in use any more"),
        }
    }

    /// A new key, from the system's source of randomness, as [`Authkey::parse`] reads it.
    #[must_use]
    pub fn generate() -> String {
        let mut secret = [0; SECRET];
        random(&mut secret);
        hex(&secret)
    }

    /// The ids of its keys, the one that signs first. An id tells nothing about its key.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.0.iter().map(|key| key.id).collect()
    }

    /// The key that signs.
    pub(crate) fn signing(&self) -> &Key {
        &self.0[0]
    }

    /// The key with this id, where it is accepted.
    pub(crate) fn accepted(&self, id: KeyId) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

impl fmt::Debug for Authkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Authkey").field(&self.ids()).finish()
    }
}

/// What a key is called in envelopes, completions and logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID]);

impl KeyId {
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; KEY_ID] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One key, ready for use. Everything that is made of its secret is a MAC under a label of its own.
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) cipher: XChaCha20Poly1305,
    keyed: Hmac<Sha256>,
}

impl Key {
    fn parse(digits: &str) -> Option<Self> {
        let digits = digits.as_bytes();
        if digits.len() != 2 * SECRET {
            return None;
        }
        let mut secret = [0; SECRET];
        for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self::new(&secret))
    }

    fn new(secret: &[u8; SECRET]) -> Self {
        let keyed = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        let derive = |label| mac(&keyed, label, &[]).finalize().into_bytes();
        let mut id = KeyId([0; KEY_ID]);
        id.0.copy_from_slice(&derive("pmq.id.1")[..KEY_ID]);
        Self {
            id,
            cipher: XChaCha20Poly1305::new(&derive("pmq.encrypt.1")),
            keyed,
        }
    }

    /// HMAC-SHA256 over a label and parts, each preceded by its length (u32, little endian).
    pub(crate) fn mac(&self, label: &str, parts: &[&[u8]]) -> [u8; MAC] {
        mac(&self.keyed, label, parts)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Whether this is that MAC, in a time that tells nothing about where they differ.
    pub(crate) fn verify(&self, label: &str, parts: &[&[u8]], expected: &[u8]) -> bool {
        mac(&self.keyed, label, parts)
            .verify_slice(expected)
            .is_ok()
    }
}

fn mac(keyed: &Hmac<Sha256>, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = keyed.clone();
    for part in [label.as_bytes()].iter().chain(parts) {
        mac.update(&(part.len() as u32).to_le_bytes());
        mac.update(part);
    }
    mac
}

/// Fills bytes from the system's source of randomness.
pub(crate) fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("a system that runs has random bytes");
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_key_or_two_and_comments() {
        let (a, b) = (Authkey::generate(), Authkey::generate());
        assert_ne!(a, b);
        let both = Authkey::parse(&format!("# mine\n{a} # signs\n\n{b}\n")).unwrap();
        let alone = Authkey::parse(&b).unwrap();
        assert_eq!(both.ids()[1..], alone.ids());
        assert!(both.accepted(alone.signing().id).is_some());
        assert!(alone.accepted(both.signing().id).is_none());
    }

    #[test]
    fn what_is_no_key_is_told_without_being_shown() {
        let key = Authkey::generate();
        let three = [key.as_str(); 3].join("\n");
        for (text, why) in [
            ("", "no authkey"),
            ("# nothing", "no authkey"),
            ("hunter2", "64 hexadecimal digits"),
            (&key[..63], "64 hexadecimal digits"),
            (&three, "more than two"),
        ] {
            let error = Authkey::parse(text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let text = Authkey::generate();
        let source = AuthkeySource::Text(text.clone());
        let shown = format!("{source:?} {:?}", Authkey::parse(&text).unwrap());
        assert!(!shown.contains(&text[..8]), "{shown}");
    }

    /// The vector of `docs/protocol.md`.
    #[test]
    fn an_id_follows_from_its_key() {
        let key = Authkey::parse(&"0b".repeat(32)).unwrap();
        assert_eq!(key.signing().id.to_string(), "a54a8629");
    }
}
