//! The header of an envelope: JSON that says what the worker runs, and how.

use serde::{Deserialize, Serialize};

use super::unreadable;
use crate::error::{Error, Result};
use crate::task::{Details, HEADER_LIMIT, Task, Work};

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

/// The name of the handler, where the header says nothing else.
pub(super) fn name_alone(task: &Task) -> Option<&str> {
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

/// The header of a task, after checking its limit.
pub(super) fn write(task: &Task) -> Result<Vec<u8>> {
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

/// What a header says.
pub(super) fn read(json: &[u8]) -> Result<(Work, Details)> {
    if let Ok(NameOnly { name }) = serde_json::from_slice(json) {
        return Ok((Work::Handler(name.to_owned()), Details::default()));
    }
    let header: Header =
        serde_json::from_slice(json).map_err(|e| unreadable(format!("its header: {e}")))?;
    header.parts()
}
