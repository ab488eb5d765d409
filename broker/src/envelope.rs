//! How a task stands in Redis: a control part that Lua reads, a JSON header, the raw body.

mod header;

use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::authkey::{KEY_ID, KeyId, MAC};
use crate::error::{Error, Result};
use crate::ids::{Incarnation, Name, TaskId};
use crate::task::{BODY_LIMIT, Details, Due, Fresh, HEADER_LIMIT, Key, Retry, Task, Work};
use header::name_alone;

/// The version that this program writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// Bytes of the control part before its optional fields.
const CONTROL: usize = 27;
/// Where the digest stands.
const DIGEST: Range<usize> = 15..23;
const HAS_EXPIRY: u16 = 1;
const HAS_OWNER: u16 = 2;
const HAS_COMPLETIONS: u16 = 4;
const DISCARD: u16 = 8;
const PROCESS: u16 = 16;
/// It ends with the id of a key, and a MAC.
pub(crate) const SIGNED: u16 = 32;
/// Its body is encrypted.
pub(crate) const ENCRYPTED: u16 = 64;
/// Bytes of the trailer of one that is signed.
const TRAILER: usize = KEY_ID + MAC;

/// What tells two tasks of one id apart: the first 8 bytes of a SHA-256 over name or argv, content type and body.
///
/// Each part is preceded by its length (u32, little endian); a command's parts begin with an empty one.
#[must_use]
pub fn digest(work: &Work, content_type: &str, body: &[u8]) -> [u8; 8] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u32).to_le_bytes());
        hash.update(bytes);
    };
    match work {
        Work::Handler(name) => part(name.as_bytes()),
        Work::Command(argv) => {
            part(b"");
            for argument in argv {
                part(argument);
            }
        }
    }
    part(content_type.as_bytes());
    part(body);
    let mut digest = [0; 8];
    digest.copy_from_slice(&hash.finalize()[..8]);
    digest
}

/// Encodes a task, after checking every limit.
pub fn encode(task: &Task) -> Result<Bytes> {
    write(task, task.expires_ms).map(BytesMut::freeze)
}

/// Likewise with this expiry in place of its own, as bytes that can be added to.
pub(crate) fn write(task: &Task, expires_ms: Option<u64>) -> Result<BytesMut> {
    check_options(task)?;
    let header = header::write(task)?;
    let mut out = BytesMut::with_capacity(CONTROL + header.len() + task.body.len() + 160);
    out.put_u8(VERSION);
    out.put_u16_le(flags(task, expires_ms));
    out.put_u8(task.priority);
    out.put_u16_le(task.retry.attempts);
    out.put_u8(task.retry.crashes);
    out.put_u32_le(millis(task.retry.floor));
    out.put_u32_le(millis(task.retry.cap));
    out.put_slice(&digest(&task.work, &task.details.content_type, &task.body));
    out.put_u32_le(header.len() as u32);
    if let Some(expires) = expires_ms {
        out.put_u64_le(expires);
    }
    if let Some(owner) = &task.owner {
        out.put_slice(owner.as_bytes());
    }
    if let Some(name) = &task.completions {
        out.put_u8(name.as_str().len() as u8);
        out.put_slice(name.as_str().as_bytes());
    }
    out.put_slice(&header);
    out.put_slice(&task.body);
    Ok(out)
}

fn flags(task: &Task, expires_ms: Option<u64>) -> u16 {
    let flag = |set: bool, bit: u16| if set { bit } else { 0 };
    flag(expires_ms.is_some(), HAS_EXPIRY)
        | flag(task.owner.is_some(), HAS_OWNER)
        | flag(task.completions.is_some(), HAS_COMPLETIONS)
        | flag(!task.keep, DISCARD)
        | flag(task.process, PROCESS)
}

/// Sets a flag of an envelope.
pub(crate) fn set_flag(envelope: &mut [u8], flag: u16) {
    let [low, high] = flag.to_le_bytes();
    envelope[1] |= low;
    envelope[2] |= high;
}

/// Puts another digest into an envelope.
pub(crate) fn set_digest(envelope: &mut [u8], digest: [u8; 8]) {
    envelope[DIGEST].copy_from_slice(&digest);
}

/// What a signature stands for: the id of its key, and the MAC, each behind what it covers.
pub(crate) struct Signature<'a> {
    pub(crate) key: KeyId,
    /// All that stands before the MAC.
    pub(crate) signed: &'a [u8],
    pub(crate) mac: &'a [u8],
}

/// The signature of an envelope, where it says that it has one.
pub(crate) fn signature(envelope: &[u8]) -> Option<Signature<'_>> {
    if flags_of(envelope) & SIGNED == 0 || envelope.len() < CONTROL + TRAILER {
        return None;
    }
    let (signed, mac) = envelope.split_at(envelope.len() - MAC);
    let key = KeyId::from_slice(&signed[signed.len() - KEY_ID..])?;
    Some(Signature { key, signed, mac })
}

/// Checks every limit.
pub fn check(task: &Task) -> Result<()> {
    check_options(task)?;
    if name_alone(task).is_some_and(|name| name.len() < HEADER_LIMIT / 8) {
        return Ok(()); // short enough, however it is escaped
    }
    header::write(task).map(drop)
}

fn check_options(task: &Task) -> Result<()> {
    let bad = |what: &str| Err(Error::BadOption(what.to_owned()));
    if task.body.len() > BODY_LIMIT {
        return Err(Error::TooLarge {
            what: "the body",
            size: task.body.len(),
            limit: BODY_LIMIT,
        });
    }
    if task.priority > 9 {
        return bad("a priority is 0 to 9");
    }
    if let Some(Key(deal)) = task.key
        && deal != task.id.deal()
    {
        return bad(&format!(
            "task id {} and the task's key are of two shards: with this key an id ends in {deal:04x}",
            task.id
        ));
    }
    if task.retry.attempts == 0 || task.retry.crashes == 0 {
        return bad("a task needs at least one attempt and one crash");
    }
    match &task.work {
        Work::Handler(name) if name.is_empty() => bad("a task's name is not empty"),
        Work::Command(argv) if argv.first().is_none_or(Vec::is_empty) => {
            bad("the command is empty; name a program")
        }
        Work::Command(argv) if argv.iter().any(|a| a.contains(&0)) => {
            bad("an argument of a command has no NUL byte")
        }
        _ => Ok(()),
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// Reads fixed-width fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(n)
            .ok_or_else(|| unreadable("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}

fn unreadable(why: impl Into<String>) -> Error {
    Error::Unreadable {
        what: "envelope",
        why: why.into(),
    }
}

/// What stands before the header, in every version.
struct Control {
    flags: u16,
    priority: u8,
    retry: Retry,
    digest: [u8; 8],
    header: usize,
    expires_ms: Option<u64>,
    owner: Option<Incarnation>,
    completions: Option<Name>,
}

fn read_control(reader: &mut Reader<'_>) -> Result<Control> {
    let flags = u16::from_le_bytes(reader.array()?);
    let [priority] = reader.array()?;
    if priority > 9 {
        return Err(unreadable("its priority is not 0 to 9"));
    }
    let retry = Retry {
        attempts: u16::from_le_bytes(reader.array()?),
        crashes: u8::from_le_bytes(reader.array()?),
        floor: Duration::from_millis(u64::from(u32::from_le_bytes(reader.array()?))),
        cap: Duration::from_millis(u64::from(u32::from_le_bytes(reader.array()?))),
    };
    let (digest, header) = (
        reader.array()?,
        u32::from_le_bytes(reader.array()?) as usize,
    );
    let optional = |bit| flags & bit != 0;
    let expires_ms = if optional(HAS_EXPIRY) {
        Some(u64::from_le_bytes(reader.array()?))
    } else {
        None
    };
    let owner = if optional(HAS_OWNER) {
        Incarnation::from_slice(reader.take(16)?)
    } else {
        None
    };
    let completions = if optional(HAS_COMPLETIONS) {
        Some(read_name(reader)?)
    } else {
        None
    };
    Ok(Control {
        flags,
        priority,
        retry,
        digest,
        header,
        expires_ms,
        owner,
        completions,
    })
}

/// An envelope that is cut into its parts.
pub(crate) struct Parts<'a> {
    envelope: &'a Bytes,
    control: Control,
    header: Range<usize>,
    body: Range<usize>,
}

impl<'a> Parts<'a> {
    /// Reads the control part, and nothing else.
    pub(crate) fn of(envelope: &'a Bytes) -> Result<Self> {
        let mut reader = Reader(envelope);
        let [version] = reader.array()?;
        if version == 0 || version > VERSION {
            return Err(unreadable(format!("version {version} is not known here")));
        }
        let control = read_control(&mut reader)?;
        let start = envelope.len() - reader.0.len();
        reader.take(control.header)?;
        let body = start + control.header;
        let is_signed = control.flags & SIGNED != 0;
        let end = envelope.len()
            - if is_signed {
                TRAILER.min(envelope.len())
            } else {
                0
            };
        if end < body {
            return Err(unreadable("it ends too early"));
        }
        Ok(Self {
            envelope,
            control,
            header: start..body,
            body: body..end,
        })
    }

    /// When it is not worth running any more, in ms since the epoch.
    pub(crate) fn expires_ms(&self) -> Option<u64> {
        self.control.expires_ms
    }

    /// Whether its body is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.control.flags & ENCRYPTED != 0
    }

    /// All that stands before the body.
    pub(crate) fn head(&self) -> &'a [u8] {
        &self.envelope[..self.body.start]
    }

    /// The body as it stands there. It is a slice of the envelope, not a copy.
    pub(crate) fn body(&self) -> Bytes {
        self.envelope.slice(self.body.clone())
    }

    /// The task, with this body.
    pub(crate) fn task(&self, id: TaskId, body: Bytes) -> Result<Task> {
        let (work, details) = header::read(&self.envelope[self.header.clone()])?;
        let control = &self.control;
        let task = Task {
            id,
            given_id: false,
            fresh: Fresh::known(),
            key: None,
            work,
            body,
            priority: control.priority,
            due: Due::Now,
            retry: control.retry,
            expires_ms: control.expires_ms,
            owner: control.owner,
            completions: control.completions.clone(),
            keep: control.flags & DISCARD == 0,
            process: control.flags & PROCESS != 0,
            details,
        };
        // Whoever wrote it may have checked nothing.
        check_options(&task).map_err(|error| unreadable(error.to_string()))?;
        Ok(task)
    }
}

/// Decodes a task; a signature is not verified. The body is a slice of `envelope`, not a copy.
pub fn decode(id: TaskId, envelope: &Bytes) -> Result<Task> {
    let parts = Parts::of(envelope)?;
    if parts.is_encrypted() {
        return Err(Error::Encrypted { what: "task" });
    }
    let task = parts.task(id, parts.body())?;
    if digest(&task.work, &task.details.content_type, &task.body) != parts.control.digest {
        return Err(unreadable("its digest does not fit its content"));
    }
    Ok(task)
}

/// What an envelope says that it runs, and how; its body may be missing.
pub fn decode_head(envelope: &Bytes) -> Result<(Work, Details)> {
    let mut reader = Reader(envelope);
    reader.take(1)?;
    let control = read_control(&mut reader)?;
    header::read(reader.take(control.header)?)
}

/// Whether the envelope is of a version newer than this program, which another worker may know. Bytes without a
/// readable control part are no envelope of any version.
#[must_use]
pub fn is_newer(envelope: &[u8]) -> bool {
    envelope.split_first().is_some_and(|(version, rest)| {
        *version > VERSION && read_control(&mut Reader(rest)).is_ok()
    })
}

/// Whether the envelope says that its body is encrypted.
pub(crate) fn is_encrypted(envelope: &[u8]) -> bool {
    flags_of(envelope) & ENCRYPTED != 0
}

fn flags_of(envelope: &[u8]) -> u16 {
    let flags = envelope.get(1..3).and_then(|f| f.try_into().ok());
    flags.map_or(0, u16::from_le_bytes)
}

/// The digest in an envelope's control part; zeros where it has none.
#[must_use]
pub fn digest_of(envelope: &[u8]) -> [u8; 8] {
    envelope
        .get(DIGEST)
        .and_then(|d| d.try_into().ok())
        .unwrap_or_default()
}

fn read_name(reader: &mut Reader<'_>) -> Result<Name> {
    let [length] = reader.array()?;
    let text = std::str::from_utf8(reader.take(usize::from(length))?)
        .map_err(|_| unreadable("its completion queue is no name"))?;
    Name::new(text).map_err(|_| unreadable("its completion queue is no name"))
}

#[cfg(test)]
mod tests;
