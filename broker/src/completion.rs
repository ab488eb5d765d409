//! How a task ended: the completion that a worker posts, or the broker itself.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::authkey::{KEY_ID, KeyId, MAC};
use crate::error::{Error, Result};
use crate::ids::TaskId;

/// What a completion begins with: it tells its form.
const PLAIN: u8 = 1;
pub(crate) const SIGNED: u8 = 2;
/// Signed, and report and body are encrypted.
pub(crate) const ENCRYPTED: u8 = 3;
/// Bytes that a task's record always keeps: outcome, exit code, digest, token.
pub(crate) const VERDICT: usize = 22;
/// Of a signed one the record also keeps what follows: the id of the key, and the verdict's MAC.
const SIGNED_VERDICT: usize = VERDICT + KEY_ID + MAC;
const OUTCOME: usize = 1;
const NO_EXIT: i32 = i32::MIN;

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did what it should.
    Ok,
    /// Its last attempt failed; it is kept as a dead letter.
    Failed,
    /// It came to no end of its own: its workers died, nobody could read or run it, or it expired. A dead letter.
    Dead,
    /// Somebody cancelled it.
    Cancelled,
}

impl Outcome {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ok, Self::Failed, Self::Dead, Self::Cancelled]
            .get(usize::from(byte))
            .copied()
    }

    /// The word for it, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ["ok", "failed", "dead", "cancelled"][self as usize]
    }
}

/// The part of a completion that is written as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// What went wrong, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many bytes of the body are standard output, where the task was a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<usize>,
    /// How many of the following bytes are standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<usize>,
    /// How many bytes went to the task's log or were meant to, where it was a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<u64>,
    /// The result's type, where it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// When the task was submitted, in ms since the epoch, where its id does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_ms: Option<u64>,
    /// The operating system's id of the process that it was, on `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The host that it ran on, where it was a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// How a task ended: outcome, result, worker, times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The task.
    pub id: TaskId,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code of a command, or its signal as a negative number; `None` for handlers.
    pub exit: Option<i32>,
    /// The digest of the task's content.
    pub digest: [u8; 8],
    /// The token of the run that ended it; 0 where the broker did.
    pub token: u64,
    /// Which run it was, 1 for the first; 0 where it never ran.
    pub attempt: u16,
    /// When the run began, in µs since the epoch by the broker's clock; 0 where it never ran.
    pub started_us: u64,
    /// When it ended, likewise.
    pub finished_us: u64,
    /// The worker's name; empty where the broker ended it.
    pub worker: String,
    /// What is written as JSON.
    pub report: Report,
    /// The result; of a command its standard output, then its standard error.
    pub body: Bytes,
}

impl Completion {
    /// When the task was submitted, in ms since the epoch, if that is known.
    #[must_use]
    pub fn queued_ms(&self) -> Option<u64> {
        self.report.queued_ms.or_else(|| self.id.made_ms())
    }

    /// Standard output and standard error of a command; empty for handlers.
    #[must_use]
    pub fn output(&self) -> (&[u8], &[u8]) {
        let (Some(out), Some(err)) = (self.report.stdout, self.report.stderr) else {
            return (&[], &[]);
        };
        let out = out.min(self.body.len());
        let end = out.saturating_add(err).min(self.body.len());
        (&self.body[..out], &self.body[out..end])
    }

    /// The result of a handler; `None` for commands.
    #[must_use]
    pub fn result(&self) -> Option<&[u8]> {
        self.report.stdout.is_none().then_some(&self.body[..])
    }

    /// Encodes it, as `docs/protocol.md` says, without a signature.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = self.write_head(PLAIN);
        self.write_payload(&mut out);
        out.freeze()
    }

    /// What stands before the report. In a signed one there is room for the verdict's signature.
    pub(crate) fn write_head(&self, form: u8) -> BytesMut {
        let worker = &self.worker.as_bytes()[..self.worker.len().min(255)];
        let mut out = BytesMut::with_capacity(256 + worker.len() + self.body.len());
        out.put_u8(form);
        out.put_u8(self.outcome as u8);
        out.put_i32_le(self.exit.unwrap_or(NO_EXIT));
        out.put_slice(&self.digest);
        out.put_u64_le(self.token);
        if form != PLAIN {
            out.put_bytes(0, SIGNED_VERDICT - VERDICT);
        }
        out.put_u16_le(self.attempt);
        out.put_u64_le(self.started_us);
        out.put_u64_le(self.finished_us);
        out.put_slice(self.id.as_bytes());
        out.put_u8(worker.len() as u8);
        out.put_slice(worker);
        out
    }

    /// The report and the body.
    pub(crate) fn write_payload(&self, out: &mut BytesMut) {
        let report = if self.report == Report::default() {
            Vec::new()
        } else {
            serde_json::to_vec(&self.report).unwrap_or_default()
        };
        out.reserve(4 + report.len() + self.body.len());
        out.put_u32_le(report.len() as u32);
        out.put_slice(&report);
        out.put_slice(&self.body);
    }

    /// Decodes a completion, or a record of `id`, which may be the verdict alone; a signature is not verified.
    pub fn decode(id: TaskId, bytes: &Bytes) -> Result<Self> {
        let parts = Parts::of(bytes)?;
        if parts.is_encrypted() {
            return Err(Error::Encrypted { what: "completion" });
        }
        parts.completion(id, &parts.payload())
    }

    /// Decodes a completion from a completion queue likewise.
    pub fn decode_posted(bytes: &Bytes) -> Result<Self> {
        Self::decode(posted_id(bytes)?, bytes)
    }

    /// Reads report and body.
    fn read_payload(&mut self, payload: &Bytes) -> Option<()> {
        let end = 4_usize.checked_add(u32::from_le_bytes(field(payload, 0)?) as usize)?;
        let report = payload.get(4..end)?;
        if !report.is_empty() {
            self.report = serde_json::from_slice(report).ok()?;
        }
        self.body = payload.slice(end..);
        Some(())
    }
}

/// The id in a completion from a completion queue.
pub(crate) fn posted_id(bytes: &[u8]) -> Result<TaskId> {
    let at = 18
        + if bytes.first() == Some(&PLAIN) {
            VERDICT
        } else {
            SIGNED_VERDICT
        };
    bytes
        .get(at..at + 16)
        .and_then(TaskId::from_slice)
        .ok_or_else(|| unreadable("it ends too early"))
}

/// A completion or a record that is cut into its parts.
pub(crate) struct Parts<'a> {
    bytes: &'a Bytes,
    /// Where report and body stand; nothing where it is the verdict alone.
    payload: Option<Range<usize>>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(bytes: &'a Bytes) -> Result<Self> {
        let early = || unreadable("it ends too early");
        let (verdict, trailer) = match *bytes.first().ok_or_else(early)? {
            PLAIN => (VERDICT, 0),
            SIGNED | ENCRYPTED => (SIGNED_VERDICT, MAC),
            _ => return Err(unreadable("its version is not known here")),
        };
        if bytes.len() <= verdict {
            let whole = bytes.len() == verdict;
            return whole
                .then_some(Self {
                    bytes,
                    payload: None,
                })
                .ok_or_else(early);
        }
        let worker = usize::from(*bytes.get(verdict + 34).ok_or_else(early)?);
        let payload = verdict + 35 + worker..bytes.len().saturating_sub(trailer);
        if payload.start > payload.end {
            return Err(early());
        }
        Ok(Self {
            bytes,
            payload: Some(payload),
        })
    }

    /// Whether it has a signature.
    pub(crate) fn is_signed(&self) -> bool {
        self.bytes[0] != PLAIN
    }

    /// Whether report and body are there, and encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.bytes[0] == ENCRYPTED && self.payload.is_some()
    }

    /// The id of the key that signed it.
    pub(crate) fn key(&self) -> Option<KeyId> {
        KeyId::from_slice(self.bytes.get(VERDICT..VERDICT + KEY_ID)?)
    }

    /// The verdict's MAC, where the verdict is all there is; else the MAC of the whole, and what it covers behind the verdict.
    pub(crate) fn signature(&self) -> (&'a [u8], &'a [u8]) {
        match &self.payload {
            None => (&self.bytes[VERDICT + KEY_ID..], &[]),
            Some(payload) => (
                &self.bytes[payload.end..],
                &self.bytes[VERDICT..payload.end],
            ),
        }
    }

    /// Report and body as they stand there.
    pub(crate) fn payload(&self) -> Bytes {
        self.payload
            .clone()
            .map_or_else(Bytes::new, |range| self.bytes.slice(range))
    }

    /// The completion, with this report and body.
    pub(crate) fn completion(&self, id: TaskId, payload: &Bytes) -> Result<Completion> {
        let mut completion = self.verdict(id)?;
        if self.payload.is_some() {
            self.read_run(&mut completion)
                .and_then(|()| completion.read_payload(payload))
                .ok_or_else(|| unreadable("it ends too early"))?;
        }
        Ok(completion)
    }

    fn verdict(&self, id: TaskId) -> Result<Completion> {
        let bytes = self.bytes;
        let outcome = Outcome::from_byte(bytes[OUTCOME])
            .ok_or_else(|| unreadable("its outcome is not known here"))?;
        let exit = i32::from_le_bytes(field(bytes, 2).unwrap_or_default());
        Ok(Completion {
            id,
            outcome,
            exit: (exit != NO_EXIT).then_some(exit),
            digest: field(bytes, 6).unwrap_or_default(),
            token: u64::from_le_bytes(field(bytes, 14).unwrap_or_default()),
            attempt: 0,
            started_us: 0,
            finished_us: 0,
            worker: String::new(),
            report: Report::default(),
            body: Bytes::new(),
        })
    }

    fn read_run(&self, completion: &mut Completion) -> Option<()> {
        let at = if self.is_signed() {
            SIGNED_VERDICT
        } else {
            VERDICT
        };
        completion.attempt = u16::from_le_bytes(field(self.bytes, at)?);
        completion.started_us = u64::from_le_bytes(field(self.bytes, at + 2)?);
        completion.finished_us = u64::from_le_bytes(field(self.bytes, at + 10)?);
        let worker = at + 35..self.payload.as_ref()?.start;
        completion.worker = String::from_utf8_lossy(self.bytes.get(worker)?).into_owned();
        Some(())
    }
}

/// The verdict as it is signed: there a cancellation stands as a failure, as the broker makes the one of the other
/// where the run was told to stop.
pub(crate) fn signed_verdict(bytes: &[u8]) -> Option<[u8; VERDICT]> {
    let mut verdict: [u8; VERDICT] = bytes.get(..VERDICT)?.try_into().ok()?;
    if verdict[OUTCOME] == Outcome::Cancelled as u8 {
        verdict[OUTCOME] = Outcome::Failed as u8;
    }
    Some(verdict)
}

/// Writes a key's id and the verdict's MAC into their room.
pub(crate) fn sign_verdict(bytes: &mut [u8], key: KeyId, mac: &[u8; MAC]) {
    bytes[VERDICT..VERDICT + KEY_ID].copy_from_slice(key.as_bytes());
    bytes[VERDICT + KEY_ID..SIGNED_VERDICT].copy_from_slice(mac);
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn unreadable(why: &str) -> Error {
    Error::Unreadable {
        what: "completion",
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(body: &[u8], worker: &str) -> Completion {
        Completion {
            id: TaskId::new(),
            outcome: Outcome::Failed,
            exit: Some(-9),
            digest: *b"digested",
            token: 42,
            attempt: 3,
            started_us: 1,
            finished_us: 2,
            worker: worker.to_owned(),
            report: Report {
                error: Some("killed".into()),
                stdout: Some(2),
                stderr: Some(1),
                ..Report::default()
            },
            body: Bytes::copy_from_slice(body),
        }
    }

    #[test]
    fn the_output_of_a_command_is_told_apart() {
        let completion = sample(b"oue", "w");
        assert_eq!(completion.output(), (&b"ou"[..], &b"e"[..]));
        assert_eq!(completion.result(), None);
    }

    #[test]
    fn a_record_may_be_the_verdict_alone() {
        let completion = sample(b"", "w");
        let verdict =
            Completion::decode(completion.id, &completion.encode().slice(..VERDICT)).unwrap();
        assert_eq!(
            (verdict.outcome, verdict.exit, verdict.token),
            (Outcome::Failed, Some(-9), 42)
        );
    }

    proptest! {
        #[test]
        fn a_completion_survives_its_bytes(body: Vec<u8>, worker in "[a-z0-9:.-]{0,60}") {
            let completion = sample(&body, &worker);
            prop_assert_eq!(Completion::decode_posted(&completion.encode()).unwrap(), completion);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Completion::decode_posted(&bytes.into());
        }
    }
}
