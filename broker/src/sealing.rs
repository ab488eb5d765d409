//! Sealing: how tasks and completions of one queue are signed, verified, encrypted and read.
//!
//! Every MAC covers the namespace, the queue and the id, so that what was signed for one place is worth nothing at
//! another. It is verified before anything else is read. Without an authkey all of this does nothing.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{Tag, XNonce};

use crate::authkey::{Authkey, Key, KeyId, MAC, random};
use crate::completion::{self, Completion, Outcome};
use crate::envelope::{self, ENCRYPTED, SIGNED};
use crate::error::{Error, Result};
use crate::ids::{Name, TaskId};
use crate::task::{Due, Task};
use crate::wall_clock_ms;

/// How long a signed task is good for where it does not say, from when it is due: somebody who can write to Redis could
/// else have an old one run again at any time.
const GOOD_FOR_MS: u64 = 7 * 86_400_000;
/// Expiries end on whole minutes, so that the tasks of a claim share theirs.
const MINUTE_MS: u64 = 60_000;
/// How far this machine's clock may be ahead of the broker's before it decides that a task has expired.
const CLOCKS_DIFFER_MS: u64 = 3_600_000;

const TASK: &str = "pmq.task.1";
const TASK_DIGEST: &str = "pmq.task.digest.1";
const TASK_BODY: &str = "pmq.task.body.1";
const VERDICT: &str = "pmq.verdict.1";
const COMPLETION: &str = "pmq.completion.1";
const COMPLETION_BODY: &str = "pmq.completion.body.1";

const NONCE: usize = 24;
const TAG: usize = 16;

/// Why a task or a completion is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// It has no signature.
    Unsigned,
    /// Its key is not accepted here.
    UnknownKey(KeyId),
    /// Its signature does not fit.
    Forged(KeyId),
    /// Its time is over: it may be an old one that somebody has put back.
    Expired(KeyId),
}

impl Distrust {
    fn key(self) -> Option<KeyId> {
        match self {
            Self::Unsigned => None,
            Self::UnknownKey(key) | Self::Forged(key) | Self::Expired(key) => Some(key),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("it is not signed"),
            Self::UnknownKey(key) => write!(f, "it is signed with key {key}, which is not accepted here"),
            Self::Forged(_) => f.write_str(
                "its signature does not fit: it was changed, or made for another id, queue or namespace",
            ),
            Self::Expired(_) => f.write_str("it expired before it ran"),
        }
    }
}

/// How tasks and completions of one queue are signed and verified; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sealing(Option<Arc<Seal>>);

#[derive(Debug)]
struct Seal {
    authkey: Arc<Authkey>,
    encrypts: bool,
    namespace: Name,
    queue: Name,
}

impl Sealing {
    /// Signs and verifies with these keys; `encrypts` has bodies and results encrypted as well.
    #[must_use]
    pub fn new(authkey: Arc<Authkey>, encrypts: bool, namespace: &Name, queue: &Name) -> Self {
        Self(Some(Arc::new(Seal {
            authkey,
            encrypts,
            namespace: namespace.clone(),
            queue: queue.clone(),
        })))
    }

    /// Encodes a task. A signed one that names no expiry expires 7 days after it is due, by this machine's clock.
    pub fn seal_task(&self, task: &Task) -> Result<Bytes> {
        match &self.0 {
            None => envelope::encode(task),
            Some(seal) => seal.seal_task(task),
        }
    }

    /// Decodes the task of a claim at this time by the broker's clock, in ms since the epoch, if it can be trusted.
    pub fn open_task(&self, id: TaskId, envelope: &Bytes, now_ms: u64) -> Result<Task> {
        match &self.0 {
            None => envelope::decode(id, envelope),
            Some(seal) => seal
                .open_task(id, envelope, now_ms)
                .inspect_err(|error| seal.audit(id, error)),
        }
    }

    /// Encodes the completion of the task of this envelope. It is encrypted where the task is.
    #[must_use]
    pub fn seal_completion(&self, completion: &Completion, envelope: &[u8]) -> Bytes {
        match &self.0 {
            None => completion.encode(),
            Some(seal) => seal.seal_completion(completion, envelope::is_encrypted(envelope)),
        }
    }

    /// Decodes a completion, or a record of `id`, which may be the verdict alone, if it can be trusted.
    ///
    /// What the broker itself ends (cancelled, dead) is not signed, and says nothing but that.
    pub fn open_completion(&self, id: TaskId, bytes: &Bytes) -> Result<Completion> {
        match &self.0 {
            None => Completion::decode(id, bytes),
            Some(seal) => seal
                .open_completion(id, bytes)
                .inspect_err(|error| seal.audit(id, error)),
        }
    }

    /// Decodes a completion from a completion queue likewise.
    pub fn open_posted(&self, bytes: &Bytes) -> Result<Completion> {
        self.open_completion(completion::posted_id(bytes)?, bytes)
    }
}

impl Seal {
    fn seal_task(&self, task: &Task) -> Result<Bytes> {
        let key = self.authkey.signing();
        let expires_ms = task.expires_ms.unwrap_or_else(|| default_expiry(task.due));
        let mut out = envelope::write(task, Some(expires_ms))?;
        envelope::set_flag(&mut out, SIGNED);
        if self.encrypts {
            self.encrypt_task(key, task, &mut out);
        }
        out.put_slice(key.id.as_bytes());
        let mac = key.mac(TASK, &self.placed(&task.id, &[&out]));
        out.put_slice(&mac);
        Ok(out.freeze())
    }

    /// Encrypts the body. The digest, which would tell equal bodies, becomes one that only the key can tell.
    fn encrypt_task(&self, key: &Key, task: &Task, out: &mut BytesMut) {
        envelope::set_flag(out, ENCRYPTED);
        let plain = envelope::digest_of(out);
        let keyed = key.mac(TASK_DIGEST, &self.placed(&task.id, &[&plain]));
        let mut digest = [0; 8];
        digest.copy_from_slice(&keyed[..8]);
        envelope::set_digest(out, digest);
        let head = out.len() - task.body.len();
        let body = out.split_off(head);
        let about = self.about(TASK_BODY, &task.id, out);
        encrypt(key, &about, &body, out);
    }

    fn open_task(&self, id: TaskId, envelope: &Bytes, now_ms: u64) -> Result<Task> {
        let distrust = |why| Error::Untrusted { what: "task", why };
        let signature =
            envelope::signature(envelope).ok_or_else(|| distrust(Distrust::Unsigned))?;
        let key = self.authkey.accepted(signature.key);
        let key = key.ok_or_else(|| distrust(Distrust::UnknownKey(signature.key)))?;
        if !key.verify(TASK, &self.placed(&id, &[signature.signed]), signature.mac) {
            return Err(distrust(Distrust::Forged(key.id)));
        }
        let parts = envelope::Parts::of(envelope)?;
        // Who rules over Redis rules over its clock, but not over this one.
        let now_ms = now_ms.max(wall_clock_ms().saturating_sub(CLOCKS_DIFFER_MS));
        if parts.expires_ms().is_some_and(|expires| expires <= now_ms) {
            return Err(distrust(Distrust::Expired(key.id)));
        }
        if !parts.is_encrypted() {
            return parts.task(id, parts.body());
        }
        let about = self.about(TASK_BODY, &id, parts.head());
        let body = decrypt(key, &about, &parts.body());
        parts.task(id, body.ok_or_else(|| distrust(Distrust::Forged(key.id)))?)
    }

    fn seal_completion(&self, completion: &Completion, encrypts: bool) -> Bytes {
        let key = self.authkey.signing();
        let mut out = if self.encrypts || encrypts {
            self.encrypted_completion(key, completion)
        } else {
            let mut out = completion.write_head(completion::SIGNED);
            completion.write_payload(&mut out);
            out
        };
        let verdict = completion::signed_verdict(&out).unwrap_or_default();
        let mac = key.mac(VERDICT, &self.placed(&completion.id, &[&verdict]));
        completion::sign_verdict(&mut out, key.id, &mac);
        let rest = &out[verdict.len()..];
        let mac = key.mac(COMPLETION, &self.placed(&completion.id, &[&verdict, rest]));
        out.put_slice(&mac);
        out.freeze()
    }

    fn open_completion(&self, id: TaskId, bytes: &Bytes) -> Result<Completion> {
        let distrust = |why| Error::Untrusted {
            what: "completion",
            why,
        };
        let parts = completion::Parts::of(bytes)?;
        if !parts.is_signed() {
            let completion = parts.completion(id, &parts.payload())?;
            return is_brokers_own(&completion)
                .then_some(completion)
                .ok_or_else(|| distrust(Distrust::Unsigned));
        }
        let signed = parts.key().zip(completion::signed_verdict(bytes));
        let (key, verdict) = signed.ok_or_else(|| distrust(Distrust::Unsigned))?;
        let key = self
            .authkey
            .accepted(key)
            .ok_or_else(|| distrust(Distrust::UnknownKey(key)))?;
        let (mac, rest) = parts.signature();
        let fits = if rest.is_empty() {
            key.verify(VERDICT, &self.placed(&id, &[&verdict]), mac)
        } else {
            key.verify(COMPLETION, &self.placed(&id, &[&verdict, rest]), mac)
        };
        let forged = || distrust(Distrust::Forged(key.id));
        if !fits {
            return Err(forged());
        }
        if !parts.is_encrypted() {
            return parts.completion(id, &parts.payload());
        }
        let about = self.about(COMPLETION_BODY, &id, &verdict);
        let payload = decrypt(key, &about, &parts.payload()).ok_or_else(forged)?;
        parts.completion(id, &payload)
    }

    /// The completion with report and body encrypted.
    fn encrypted_completion(&self, key: &Key, completion: &Completion) -> BytesMut {
        let mut out = completion.write_head(completion::ENCRYPTED);
        let mut payload = BytesMut::new();
        completion.write_payload(&mut payload);
        let verdict = completion::signed_verdict(&out).unwrap_or_default();
        let about = self.about(COMPLETION_BODY, &completion.id, &verdict);
        encrypt(key, &about, &payload, &mut out);
        out
    }

    /// What a MAC covers: first where it belongs.
    fn placed<'a>(&'a self, id: &'a TaskId, parts: &[&'a [u8]]) -> Vec<&'a [u8]> {
        let names = [&self.namespace, &self.queue].map(|name| name.as_str().as_bytes());
        let place = [names[0], names[1], id.as_bytes()];
        place.iter().chain(parts).copied().collect()
    }

    /// What encrypted bytes belong to, which is authenticated with them.
    fn about(&self, label: &str, id: &TaskId, head: &[u8]) -> Vec<u8> {
        let mut about = Vec::new();
        for part in [label.as_bytes()].iter().chain(&self.placed(id, &[head])) {
            about.extend_from_slice(&(part.len() as u32).to_le_bytes());
            about.extend_from_slice(part);
        }
        about
    }

    /// Tells the operator of what was not trusted; not what it said.
    fn audit(&self, id: TaskId, error: &Error) {
        if let Error::Untrusted { what, why } = error {
            let key = why
                .key()
                .map_or_else(|| "none".to_owned(), |key| key.to_string());
            tracing::warn!(target: "pmq::audit", queue = %self.queue, task = %id, key, reason = %why, "rejected a {what}");
        }
    }
}

/// When a task expires that does not say: on a whole minute, 7 days after it is due.
fn default_expiry(due: Due) -> u64 {
    let now = wall_clock_ms();
    let due = match due {
        Due::Now => now,
        Due::After(delay) => now.saturating_add(delay.as_millis() as u64),
        Due::At(ms) => now.max(ms),
    };
    let end = due.saturating_add(GOOD_FOR_MS);
    end.next_multiple_of(MINUTE_MS)
}

/// Whether it is one that the broker may have written: it says that a task ended without a result, and why.
fn is_brokers_own(completion: &Completion) -> bool {
    matches!(completion.outcome, Outcome::Dead | Outcome::Cancelled)
        && completion.token == 0
        && completion.body.is_empty()
}

/// Adds a nonce, the encrypted bytes, and the tag that authenticates them with what they are about.
fn encrypt(key: &Key, about: &[u8], plain: &[u8], out: &mut BytesMut) {
    let mut nonce = [0; NONCE];
    random(&mut nonce);
    out.reserve(NONCE + plain.len() + TAG + MAC);
    out.put_slice(&nonce);
    let start = out.len();
    out.put_slice(plain);
    let tag = key
        .cipher
        .encrypt_inout_detached(&nonce.into(), about, (&mut out[start..]).into())
        .expect("it is far from the cipher's limit of 256 GiB");
    out.put_slice(&tag);
}

/// What was encrypted, if it belongs here.
fn decrypt(key: &Key, about: &[u8], sealed: &[u8]) -> Option<Bytes> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
    let (encrypted, tag) = rest.split_last_chunk::<TAG>()?;
    let mut plain = encrypted.to_vec();
    key.cipher
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            about,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .ok()?;
    Some(plain.into())
}

#[cfg(test)]
mod tests;
