//! The lines of the runner protocol: a request to the child, an answer from it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::RunnerError;

/// A task for a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The task's id, which the answer repeats.
    pub id: Uuid,
    /// Which task to run.
    pub name: String,
    /// Which run of the task this is, from 1.
    pub attempt: u32,
    /// The task queue that it came from.
    pub queue: String,
    /// What the body is. JSON is sent as it is, anything else in base64.
    pub content_type: String,
    /// The arguments. No bytes at all are sent as `null` where the content type is JSON.
    pub body: Bytes,
}

/// What a runner answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The task succeeded with this result, which is JSON.
    Result(Bytes),
    /// The task failed.
    Error {
        /// What the runner says about it.
        message: String,
        /// Whether another attempt may succeed.
        retry: bool,
    },
}

/// A line from the child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Ready(Vec<String>),
    Answer(Uuid, Answer),
}

#[derive(Serialize)]
struct Outgoing<'a> {
    id: Uuid,
    name: &'a str,
    attempt: u32,
    queue: &'a str,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    tasks: Vec<String>,
    id: Option<Uuid>,
    #[serde(default, borrow, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    error: Option<String>,
    retry: Option<bool>,
}

/// Tells a result of `null` from none at all, which `Option` alone would not.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(value).map(Some)
}

impl Request {
    /// The request as one line, with its newline.
    pub(super) fn to_line(&self) -> Result<Vec<u8>, RunnerError> {
        let is_json = is_json(&self.content_type);
        let args: &[u8] = if self.body.is_empty() {
            b"null"
        } else {
            &self.body
        };
        let args = is_json.then(|| serde_json::from_slice(args)).transpose();
        let outgoing = Outgoing {
            id: self.id,
            name: &self.name,
            attempt: self.attempt,
            queue: &self.queue,
            content_type: &self.content_type,
            args: args.map_err(|source| RunnerError::Body { source })?,
            body: (!is_json).then(|| STANDARD.encode(&self.body)),
        };
        let mut line =
            serde_json::to_vec(&outgoing).map_err(|source| RunnerError::Body { source })?;
        // Within strings JSON writes line breaks as escapes, so these stand between tokens.
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        Ok(line)
    }
}

impl Line {
    /// Reads a line of the child; `None` if it is not of the protocol.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: Incoming<'_> = serde_json::from_slice(line).ok()?;
        let answer = match (line.result, line.error) {
            (_, Some(message)) => Answer::Error {
                message,
                retry: line.retry.unwrap_or(true),
            },
            (Some(result), None) => Answer::Result(Bytes::copy_from_slice(result.get().as_bytes())),
            (None, None) if line.ready => return Some(Self::Ready(line.tasks)),
            (None, None) => return None,
        };
        Some(Self::Answer(line.id?, answer))
    }
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content_type: &str, body: &'static [u8]) -> Request {
        Request {
            id: Uuid::from_u128(1),
            name: "square".into(),
            attempt: 2,
            queue: "default".into(),
            content_type: content_type.into(),
            body: Bytes::from_static(body),
        }
    }

    fn line(content_type: &str, body: &'static [u8]) -> String {
        String::from_utf8(request(content_type, body).to_line().unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_one_line_whatever_its_arguments_look_like() {
        let id = Uuid::from_u128(1);
        assert_eq!(
            line("application/json", b"[1,\r\n \"a\\nb\"]"),
            format!(
                r#"{{"id":"{id}","name":"square","attempt":2,"queue":"default","content_type":"application/json","args":[1,   "a\nb"]}}"#
            ) + "\n"
        );
    }

    #[test]
    fn other_bodies_go_in_base64_and_no_body_is_null() {
        assert!(line("image/png", b"\xff\0").ends_with("\"body\":\"/wA=\"}\n"));
        assert!(line("application/vnd.x+json; charset=utf-8", b"").ends_with("\"args\":null}\n"));
    }

    #[test]
    fn a_body_that_is_not_the_json_it_claims_to_be_is_not_sent() {
        for body in [b"[1" as &[u8], b"\xff", b"1 2"] {
            assert!(matches!(
                request("application/json", body).to_line(),
                Err(RunnerError::Body { .. })
            ));
        }
    }

    #[test]
    fn answers_are_read_and_other_lines_are_not() {
        let id = Uuid::from_u128(7);
        let parse = |rest: &str| Line::parse(format!(r#"{{"id":"{id}",{rest}}}"#).as_bytes());
        let result = |json| Some(Line::Answer(id, Answer::Result(Bytes::from_static(json))));
        let error = |retry| {
            Some(Line::Answer(
                id,
                Answer::Error {
                    message: "no".into(),
                    retry,
                },
            ))
        };
        assert_eq!(
            parse(r#""result": {"a": [1, null]}"#),
            result(br#"{"a": [1, null]}"#)
        );
        assert_eq!(parse(r#""result":null"#), result(b"null"));
        assert_eq!(parse(r#""error":"no""#), error(true));
        assert_eq!(
            parse(r#""error":"no","retry":false,"result":null"#),
            error(false)
        );
        assert_eq!(parse(r#""other":1"#), None);
        for garbage in [
            "",
            "hello",
            "{}",
            "17",
            r#"{"result":1}"#,
            r#"{"id":"x","result":1}"#,
        ] {
            assert_eq!(Line::parse(garbage.as_bytes()), None, "{garbage}");
        }
        let ready = Line::parse(br#"{"ready":true,"tasks":["square"]}"#);
        assert_eq!(ready, Some(Line::Ready(vec!["square".into()])));
    }
}
