//! How a task stands in Redis: a control part that Lua reads, a JSON header, the raw body.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::ids::{Incarnation, Name, TaskId};
use crate::task::{BODY_LIMIT, Details, Due, HEADER_LIMIT, Key, Retry, Task, Work};

/// The version that this program writes, and the newest that it reads.
pub const VERSION: u8 = 1;
/// Bytes of the control part before its optional fields.
const CONTROL: usize = 27;
const HAS_EXPIRY: u16 = 1;
const HAS_OWNER: u16 = 2;
const HAS_COMPLETIONS: u16 = 4;
const DISCARD: u16 = 8;
const PROCESS: u16 = 16;

/// The header's JSON: what the worker runs. An argument that is not UTF-8 is an array of its bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argv: Option<Vec<Argument>>,
    #[serde(flatten)]
    details: Details,
}

impl Header {
    fn parts(self) -> Result<(Work, Details)> {
        let work = match (self.name, self.argv) {
            (Some(name), None) => Work::Handler(name),
            (None, Some(argv)) => Work::Command(argv.into_iter().map(Into::into).collect()),
            _ => {
                return Err(unreadable(
                    "its header names neither one task nor one command",
                ));
            }
        };
        Ok((work, self.details))
    }
}

/// The usual header, which is read and written several times as fast as one that may have more.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NameOnly<'a> {
    #[serde(borrow)]
    name: &'a str,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Argument {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<&[u8]> for Argument {
    fn from(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes).map_or_else(
            |_| Self::Bytes(bytes.to_vec()),
            |text| Self::Text(text.to_owned()),
        )
    }
}

impl From<Argument> for Vec<u8> {
    fn from(argument: Argument) -> Self {
        match argument {
            Argument::Text(text) => text.into_bytes(),
            Argument::Bytes(bytes) => bytes,
        }
    }
}

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
    check_options(task)?;
    let header = header_json(task)?;
    let mut out = BytesMut::with_capacity(CONTROL + header.len() + task.body.len() + 96);
    out.put_u8(VERSION);
    out.put_u16_le(flags(task));
    out.put_u8(task.priority);
    out.put_u16_le(task.retry.attempts);
    out.put_u8(task.retry.crashes);
    out.put_u32_le(millis(task.retry.floor));
    out.put_u32_le(millis(task.retry.cap));
    out.put_slice(&digest(&task.work, &task.details.content_type, &task.body));
    out.put_u32_le(header.len() as u32);
    if let Some(expires) = task.expires_ms {
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
    Ok(out.freeze())
}

fn flags(task: &Task) -> u16 {
    let flag = |set: bool, bit: u16| if set { bit } else { 0 };
    flag(task.expires_ms.is_some(), HAS_EXPIRY)
        | flag(task.owner.is_some(), HAS_OWNER)
        | flag(task.completions.is_some(), HAS_COMPLETIONS)
        | flag(!task.keep, DISCARD)
        | flag(task.process, PROCESS)
}

/// Checks every limit.
pub fn check(task: &Task) -> Result<()> {
    check_options(task)?;
    if name_alone(task).is_some_and(|name| name.len() < HEADER_LIMIT / 8) {
        return Ok(()); // short enough, however it is escaped
    }
    header_json(task).map(drop)
}

/// The name of the handler, where the header says nothing else.
fn name_alone(task: &Task) -> Option<&str> {
    match &task.work {
        Work::Handler(name) if !needs_time(task) && task.details == Details::default() => {
            Some(name)
        }
        _ => None,
    }
}

/// Whether the id does not tell when it was submitted.
fn needs_time(task: &Task) -> bool {
    task.given_id && task.id.made_ms().is_none()
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

fn header_json(task: &Task) -> Result<Vec<u8>> {
    if let Some(name) = name_alone(task) {
        return limited(serde_json::to_vec(&NameOnly { name }));
    }
    let mut header = Header {
        name: None,
        argv: None,
        details: task.details.clone(),
    };
    match &task.work {
        Work::Handler(name) => header.name = Some(name.clone()),
        Work::Command(argv) => {
            header.argv = Some(argv.iter().map(|a| Argument::from(a.as_slice())).collect());
        }
    }
    if needs_time(task) && header.details.queued_ms == 0 {
        header.details.queued_ms = crate::wall_clock_ms();
    }
    limited(serde_json::to_vec(&header))
}

fn limited(json: serde_json::Result<Vec<u8>>) -> Result<Vec<u8>> {
    let json = json.map_err(|e| Error::BadOption(e.to_string()))?;
    if json.len() > HEADER_LIMIT {
        return Err(Error::TooLarge {
            what: "the header (name or argv, environment, labels)",
            size: json.len(),
            limit: HEADER_LIMIT,
        });
    }
    Ok(json)
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

/// Decodes a task. The body is a slice of `envelope`, not a copy.
pub fn decode(id: TaskId, envelope: &Bytes) -> Result<Task> {
    let mut reader = Reader(envelope);
    let [version] = reader.array()?;
    if version == 0 || version > VERSION {
        return Err(unreadable(format!("version {version} is not known here")));
    }
    let control = read_control(&mut reader)?;
    let (work, details) = read_header(reader.take(control.header)?)?;
    let body = envelope.slice(envelope.len() - reader.0.len()..);
    if digest(&work, &details.content_type, &body) != control.digest {
        return Err(unreadable("its digest does not fit its content"));
    }
    Ok(Task {
        id,
        given_id: false,
        key: None,
        work,
        body,
        priority: control.priority,
        due: Due::Now,
        retry: control.retry,
        expires_ms: control.expires_ms,
        owner: control.owner,
        completions: control.completions,
        keep: control.flags & DISCARD == 0,
        process: control.flags & PROCESS != 0,
        details,
    })
}

/// What an envelope says that it runs, and how; its body may be missing.
pub fn decode_head(envelope: &Bytes) -> Result<(Work, Details)> {
    let mut reader = Reader(envelope);
    reader.take(1)?;
    let control = read_control(&mut reader)?;
    read_header(reader.take(control.header)?)
}

/// Whether the envelope is of a version newer than this program, which another worker may know. Bytes without a
/// readable control part are no envelope of any version.
#[must_use]
pub fn is_newer(envelope: &[u8]) -> bool {
    envelope.split_first().is_some_and(|(version, rest)| {
        *version > VERSION && read_control(&mut Reader(rest)).is_ok()
    })
}

/// The digest in an envelope's control part; zeros where it has none.
#[must_use]
pub fn digest_of(envelope: &[u8]) -> [u8; 8] {
    envelope
        .get(15..23)
        .and_then(|d| d.try_into().ok())
        .unwrap_or_default()
}

fn read_header(json: &[u8]) -> Result<(Work, Details)> {
    if let Ok(NameOnly { name }) = serde_json::from_slice(json) {
        return Ok((Work::Handler(name.to_owned()), Details::default()));
    }
    let header: Header =
        serde_json::from_slice(json).map_err(|e| unreadable(format!("its header: {e}")))?;
    header.parts()
}

fn read_name(reader: &mut Reader<'_>) -> Result<Name> {
    let [length] = reader.array()?;
    let text = std::str::from_utf8(reader.take(usize::from(length))?)
        .map_err(|_| unreadable("its completion queue is no name"))?;
    Name::new(text).map_err(|_| unreadable("its completion queue is no name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_handler_task_costs_at_most_56_bytes() {
        let task = Task::handler("thumbnail-of-one-large-image", "x".repeat(100));
        assert!(encode(&task).unwrap().len() - 100 <= 56 + 13);
        assert!(encode(&Task::handler("resize", "")).unwrap().len() <= 56);
    }

    /// The vector of `docs/protocol.md`.
    #[test]
    fn the_envelope_is_as_documented() {
        let envelope = encode(&Task::handler("square", "7")).unwrap();
        let control = [1, 0, 0, 5, 4, 0, 3, 0xe8, 3, 0, 0, 0xc0, 0x27, 9, 0];
        let digest = [0x27, 0x7c, 0xfe, 0xf1, 0xa4, 0xff, 0x77, 0xd7];
        let rest = b"\x11\0\0\0{\"name\":\"square\"}7";
        assert_eq!(envelope, [&control[..], &digest, rest].concat());
    }

    #[test]
    fn limits_are_named_before_anything_is_sent() {
        let large = Task::handler("t", vec![0; BODY_LIMIT + 1]);
        assert!(encode(&large).unwrap_err().to_string().contains("16777216"));
        let mut long = Task::handler("t", "");
        long.details.labels = vec![("k".into(), "v".repeat(HEADER_LIMIT))];
        assert!(encode(&long).unwrap_err().to_string().contains("65536"));
    }

    #[test]
    fn arguments_need_not_be_utf8() {
        let task = Task::command([b"gzip".to_vec(), vec![b'a', 0xff, b'b']]);
        assert_eq!(
            decode(task.id, &encode(&task).unwrap()).unwrap().work,
            task.work
        );
    }

    #[test]
    fn a_changed_body_is_unreadable() {
        let mut bytes = encode(&Task::handler("t", "body")).unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(
            decode(TaskId::new(), &bytes.into())
                .unwrap_err()
                .to_string()
                .contains("digest")
        );
    }

    #[test]
    fn a_newer_version_is_told_from_garbage() {
        let mut envelope = encode(&Task::handler("t", "body")).unwrap().to_vec();
        assert!(!is_newer(&envelope));
        envelope[0] = VERSION + 1;
        assert!(is_newer(&envelope));
        envelope[3] = 10;
        assert!(!is_newer(&envelope), "there is no priority 10");
        assert!(!is_newer(&[0xff; 20]) && !is_newer(b""));
    }

    proptest! {
        #[test]
        fn a_task_survives_its_envelope(
            name in "[a-z]{1,20}", body: Vec<u8>, priority in 0u8..10, attempts in 1u16.., keep: bool, process: bool,
            expires: Option<u64>, owned: bool, completions in proptest::option::of("[a-z]{1,64}"),
        ) {
            let mut task = Task::handler(name, body);
            (task.priority, task.retry.attempts, task.keep, task.expires_ms) = (priority, attempts, keep, expires);
            task.process = process;
            task.owner = owned.then(Incarnation::new);
            task.completions = completions.map(|n| Name::new(n).unwrap());
            prop_assert_eq!(decode(task.id, &encode(&task).unwrap()).unwrap(), task);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(TaskId::new(), &bytes.into());
        }
    }
}
