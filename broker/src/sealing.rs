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
mod tests {
    use super::*;
    use crate::completion::Report;
    use crate::task::Work;
    use proptest::prelude::*;

    const NOW: u64 = 1;

    fn key(byte: u8) -> String {
        format!("{byte:02x}").repeat(32)
    }

    fn sealing(keys: &str, encrypts: bool) -> Sealing {
        let [namespace, queue] = ["pmq", "default"].map(|name| Name::new(name).unwrap());
        let authkey = Arc::new(Authkey::parse(keys).unwrap());
        Sealing::new(authkey, encrypts, &namespace, &queue)
    }

    fn distrust<T: fmt::Debug>(result: Result<T>) -> Distrust {
        match result.unwrap_err() {
            Error::Untrusted { why, .. } => why,
            other => panic!("{other}"),
        }
    }

    fn completion(task: &Task, outcome: Outcome) -> Completion {
        Completion {
            id: task.id,
            outcome,
            exit: None,
            digest: *b"digested",
            token: 42,
            attempt: 1,
            started_us: 1,
            finished_us: 2,
            worker: "w".into(),
            report: Report {
                error: Some("why".into()),
                ..Report::default()
            },
            body: Bytes::from_static(b"secret"),
        }
    }

    fn task() -> Task {
        Task::handler("square", "secret")
    }

    #[test]
    fn what_one_key_signs_is_opened_by_who_accepts_it() {
        let (one, both) = (key(1), format!("{} {}", key(2), key(1)));
        for encrypts in [false, true] {
            let mut task = task();
            let sealed = sealing(&one, encrypts).seal_task(&task).unwrap();
            let opened = sealing(&both, false)
                .open_task(task.id, &sealed, NOW)
                .unwrap();
            task.expires_ms = opened.expires_ms;
            assert_eq!(opened, task);
            let completion = completion(&task, Outcome::Ok);
            let sealed = sealing(&one, encrypts).seal_completion(&completion, b"");
            assert_eq!(
                sealing(&both, false).open_posted(&sealed).unwrap(),
                completion
            );
        }
    }

    /// The vectors of `docs/protocol.md`.
    #[test]
    fn signatures_are_as_documented() {
        let mut task = Task::handler("square", "7");
        task.id = TaskId::from_slice(&(0..16).collect::<Vec<u8>>()).unwrap();
        task.expires_ms = Some(2_000_000_000_000);
        let mine = sealing(&key(0x0b), false);
        let sealed = mine.seal_task(&task).unwrap();
        let completion = Completion {
            outcome: Outcome::Ok,
            digest: envelope::digest_of(&sealed),
            token: 1,
            started_us: 2,
            finished_us: 3,
            worker: String::new(),
            report: Report::default(),
            body: "49".into(),
            ..completion(&task, Outcome::Ok)
        };
        let done = mine.seal_completion(&completion, &sealed);
        let document = include_str!("../../docs/protocol.md");
        let document: String = document.split_whitespace().collect();
        for bytes in [sealed, done] {
            assert!(document.contains(&format!("{bytes:x}")), "{bytes:x}");
        }
    }

    #[test]
    fn a_signed_task_expires_a_week_after_it_is_due() {
        let open = |task: &Task| {
            let sealed = sealing(&key(1), false).seal_task(task).unwrap();
            sealing(&key(1), false).open_task(task.id, &sealed, NOW)
        };
        let mut task = task();
        let week = open(&task).unwrap().expires_ms.unwrap() - wall_clock_ms();
        assert!((GOOD_FOR_MS - MINUTE_MS..=GOOD_FOR_MS + MINUTE_MS).contains(&week));
        task.due = Due::After(std::time::Duration::from_millis(GOOD_FOR_MS));
        assert!(
            open(&task).unwrap().expires_ms.unwrap()
                >= wall_clock_ms() + 2 * GOOD_FOR_MS - MINUTE_MS
        );
        task.expires_ms = Some(wall_clock_ms() - CLOCKS_DIFFER_MS - 1);
        assert!(
            matches!(distrust(open(&task)), Distrust::Expired(_)),
            "by the clock here"
        );
        task.expires_ms = Some(NOW);
        assert!(matches!(distrust(open(&task)), Distrust::Expired(_)));
    }

    #[test]
    fn what_is_not_signed_for_here_is_not_trusted() {
        let (task, mine) = (task(), sealing(&key(1), false));
        let sealed = mine.seal_task(&task).unwrap();
        let open =
            |sealing: &Sealing, id, bytes: &Bytes| distrust(sealing.open_task(id, bytes, NOW));
        assert_eq!(
            open(&mine, task.id, &envelope::encode(&task).unwrap()),
            Distrust::Unsigned
        );
        assert!(matches!(
            open(&sealing(&key(2), false), task.id, &sealed),
            Distrust::UnknownKey(_)
        ));
        assert!(matches!(
            open(&mine, TaskId::new(), &sealed),
            Distrust::Forged(_)
        ));
        for (namespace, queue) in [("pmq", "other"), ("other", "default")] {
            let [namespace, queue] = [namespace, queue].map(|name| Name::new(name).unwrap());
            let keys = Arc::new(Authkey::parse(&key(1)).unwrap());
            let elsewhere = Sealing::new(keys, false, &namespace, &queue);
            assert!(matches!(
                open(&elsewhere, task.id, &sealed),
                Distrust::Forged(_)
            ));
        }
    }

    #[test]
    fn only_the_broker_may_end_a_task_without_a_signature_and_without_a_result() {
        let mine = sealing(&key(1), false);
        let mut own = completion(&task(), Outcome::Cancelled);
        (own.token, own.body) = (0, Bytes::new());
        for outcome in [Outcome::Cancelled, Outcome::Dead] {
            own.outcome = outcome;
            assert_eq!(mine.open_posted(&own.encode()).unwrap(), own);
        }
        own.body = Bytes::from_static(b"7");
        assert_eq!(
            distrust(mine.open_posted(&own.encode())),
            Distrust::Unsigned
        );
        for outcome in [Outcome::Ok, Outcome::Failed] {
            (own.outcome, own.body) = (outcome, Bytes::new());
            assert_eq!(
                distrust(mine.open_posted(&own.encode())),
                Distrust::Unsigned
            );
        }
    }

    #[test]
    fn a_verdict_alone_is_verified_and_the_broker_may_make_a_failure_a_cancellation() {
        let (task, mine) = (task(), sealing(&key(1), false));
        let sealed = mine.seal_completion(&completion(&task, Outcome::Failed), b"");
        let verdict = sealed.slice(..58);
        assert_eq!(
            mine.open_completion(task.id, &verdict).unwrap().outcome,
            Outcome::Failed
        );
        for whole in [&sealed, &verdict] {
            let mut bytes = whole.to_vec();
            bytes[1] = Outcome::Cancelled as u8;
            let cancelled = mine
                .open_completion(task.id, &bytes.clone().into())
                .unwrap();
            assert_eq!(cancelled.outcome, Outcome::Cancelled);
            bytes[1] = Outcome::Ok as u8;
            assert!(matches!(
                distrust(mine.open_completion(task.id, &bytes.into())),
                Distrust::Forged(_)
            ));
        }
    }

    #[test]
    fn what_is_encrypted_tells_nothing_of_the_body_and_needs_the_key() {
        let (task, mine) = (task(), sealing(&key(1), true));
        let sealed = mine.seal_task(&task).unwrap();
        let done = mine.seal_completion(&completion(&task, Outcome::Ok), &sealed);
        for bytes in [&sealed, &done] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains("secret") && !text.contains("why"), "{text}");
        }
        let twin = Task {
            id: TaskId::new(),
            ..task.clone()
        };
        let digests =
            [&task, &task, &twin].map(|task| envelope::digest_of(&mine.seal_task(task).unwrap()));
        assert_eq!(digests[0], digests[1], "the same task again is no conflict");
        assert_ne!(digests[0], digests[2], "equal bodies do not show");
        assert!(matches!(
            envelope::decode(task.id, &sealed),
            Err(Error::Encrypted { .. })
        ));
        assert!(matches!(
            Completion::decode(task.id, &done),
            Err(Error::Encrypted { .. })
        ));
    }

    #[test]
    fn a_program_without_a_key_reads_what_is_signed() {
        let (task, mine) = (task(), sealing(&key(1), false));
        let opened = envelope::decode(task.id, &mine.seal_task(&task).unwrap()).unwrap();
        assert_eq!(
            (opened.body, opened.work),
            (task.body.clone(), Work::Handler("square".into()))
        );
        let completion = completion(&task, Outcome::Ok);
        let sealed = mine.seal_completion(&completion, b"");
        assert_eq!(Completion::decode_posted(&sealed).unwrap(), completion);
    }

    proptest! {
        #[test]
        fn no_changed_bit_goes_unnoticed(bit: prop::sample::Index, encrypts: bool, cut: prop::sample::Index) {
            let (task, mine) = (task(), sealing(&key(1), encrypts));
            let sealed = mine.seal_task(&task).unwrap();
            let done = mine.seal_completion(&completion(&task, Outcome::Ok), b"");
            for bytes in [sealed, done] {
                let mut changed = bytes.to_vec();
                let at = bit.index(bytes.len() * 8);
                changed[at / 8] ^= 1 << (at % 8);
                let cut = bytes.slice(..cut.index(bytes.len()));
                for bytes in [changed.into(), cut] {
                    prop_assert!(mine.open_task(task.id, &bytes, NOW).is_err());
                    // The verdict alone is what a record may be.
                    prop_assert!(bytes.len() == 58 || mine.open_completion(task.id, &bytes).is_err());
                }
            }
        }
    }
}
