//! A completion as it is printed: a JSON object with fixed fields, or a line for people.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pmq_broker::{Completion, Outcome};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::duration;
use crate::output::{Mood, Output};
use crate::when;

/// The JSON of a completion. The names of its fields are part of the command's interface.
#[derive(Debug, Serialize)]
pub(crate) struct CompletionRecord<'a> {
    id: String,
    outcome: &'static str,
    attempt: Option<u16>,
    worker: Option<&'a str>,
    /// The exit code; minus the signal where one ended it.
    exit: Option<i32>,
    stdout: Option<String>,
    stderr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_base64: Option<String>,
    error: Option<&'a str>,
    queued: Option<String>,
    started: Option<String>,
    finished: Option<String>,
}

impl<'a> CompletionRecord<'a> {
    pub(crate) fn new(completion: &'a Completion) -> Self {
        let (stdout, stderr) = completion.output();
        // Where the completion was posted, only its verdict is kept by id: what it does not tell is null.
        let whole = completion.finished_us > 0;
        let text = |bytes| whole.then(|| String::from_utf8_lossy(bytes).into_owned());
        let body = completion.result().filter(|body| !body.is_empty());
        Self {
            id: completion.id.to_string(),
            outcome: completion.outcome.as_str(),
            attempt: whole.then_some(completion.attempt),
            worker: Some(completion.worker.as_str()).filter(|name| !name.is_empty()),
            exit: completion.exit,
            stdout: text(stdout),
            stderr: text(stderr),
            stdout_base64: unless_text(stdout),
            stderr_base64: unless_text(stderr),
            result: body.map(|body| result(completion, body)),
            result_base64: body.and_then(unless_text),
            error: completion.report.error.as_deref(),
            queued: completion.queued_ms().and_then(when::iso),
            started: when::iso_us(completion.started_us),
            finished: when::iso_us(completion.finished_us),
        }
    }
}

/// The exact bytes, where a text would lose some.
pub(crate) fn unless_text(bytes: &[u8]) -> Option<String> {
    let is_text = std::str::from_utf8(bytes).is_ok();
    (!is_text).then(|| BASE64_STANDARD.encode(bytes))
}

/// The result as it came if it is JSON, else as a JSON string.
fn result(completion: &Completion, body: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(body);
    let declared = completion.report.content_type.as_deref();
    let is_json = declared.is_none_or(|kind| kind == pmq_broker::task::JSON);
    // A raw value keeps numbers that no f64 holds; a line break in it would break JSON lines.
    if is_json && !text.contains(['\n', '\r']) {
        if let Ok(value) = RawValue::from_string(text.trim().to_owned()) {
            return value;
        }
    } else if is_json
        && let Ok(value) = serde_json::from_str::<serde_json::Value>(&text)
        && let Ok(value) = serde_json::value::to_raw_value(&value)
    {
        return value;
    }
    serde_json::value::to_raw_value(&text).expect("a text is always JSON")
}

/// A completion in one line for people.
pub(crate) fn line(completion: &Completion, output: Output) -> String {
    let mood = match completion.outcome {
        Outcome::Ok => Mood::Good,
        Outcome::Cancelled => Mood::Doubtful,
        Outcome::Failed | Outcome::Dead => Mood::Bad,
    };
    let outcome = output.colored(completion.outcome.as_str(), mood);
    let mut line = format!("{}  {outcome}", completion.id);
    if completion.attempt > 1 {
        let _ = write!(line, ", attempt {}", completion.attempt);
    }
    match completion.exit {
        None | Some(0) => {}
        Some(signal) if signal < 0 => {
            let _ = write!(line, ", signal {}", signal.unsigned_abs());
        }
        Some(code) => {
            let _ = write!(line, ", exit code {code}");
        }
    }
    if completion.started_us > 0 {
        let took = completion.finished_us.saturating_sub(completion.started_us);
        let _ = write!(line, ", {}", duration::show(Duration::from_micros(took)));
    }
    if !completion.worker.is_empty() {
        let _ = write!(line, ", {}", completion.worker);
    }
    let said = said(completion);
    if !said.is_empty() {
        let _ = write!(line, "  {said}");
    }
    line
}

/// What it has to say: the error, else the result, else the first line of its output.
fn said(completion: &Completion) -> String {
    const WIDTH: usize = 120;
    let (stdout, stderr) = completion.output();
    let text = match (&completion.report.error, completion.result()) {
        (Some(error), _) => error.clone().into_bytes(),
        (None, Some(result)) => result.to_vec(),
        (None, None) if stdout.is_empty() => stderr.to_vec(),
        (None, None) => stdout.to_vec(),
    };
    let text = String::from_utf8_lossy(&text);
    let first = text.lines().next().unwrap_or_default();
    // Control characters of a task must not drive the reader's terminal.
    let shown: String = first
        .chars()
        .filter(|c| !c.is_control())
        .take(WIDTH)
        .collect();
    if shown.len() < text.trim_end().len() {
        shown + " ..."
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pmq_broker::{Report, TaskId};
    use serde_json::{Value, json};

    use super::*;
    use crate::output::Colors;

    fn completion(body: &'static [u8], report: Report) -> Completion {
        Completion {
            id: TaskId::new(),
            outcome: Outcome::Ok,
            exit: None,
            digest: [0; 8],
            token: 1,
            attempt: 1,
            started_us: 1_785_585_600_000_000,
            finished_us: 1_785_585_601_500_000,
            worker: "w-1".into(),
            report,
            body: Bytes::from_static(body),
        }
    }

    fn record(completion: &Completion) -> Value {
        let text = serde_json::to_string(&CompletionRecord::new(completion)).unwrap();
        assert!(!text.contains('\n'));
        serde_json::from_str(&text).unwrap()
    }

    fn command(body: &'static [u8], stdout: usize) -> Completion {
        let stderr = body.len() - stdout;
        let report = Report {
            stdout: Some(stdout),
            stderr: Some(stderr),
            ..Report::default()
        };
        completion(body, report)
    }

    #[test]
    fn the_fields_are_those_of_the_interface() {
        let mut done = command(b"out\nerr\n", 4);
        done.exit = Some(0);
        let queued = done.queued_ms().and_then(when::iso);
        let expected = json!({
            "id": done.id.to_string(), "outcome": "ok", "attempt": 1, "worker": "w-1", "exit": 0,
            "stdout": "out\n", "stderr": "err\n", "result": null, "error": null, "queued": queued,
            "started": "2026-08-01T12:00:00.000Z", "finished": "2026-08-01T12:00:01.500Z",
        });
        assert_eq!(record(&done), expected);
    }

    #[test]
    fn what_a_verdict_alone_does_not_tell_is_null() {
        let mut verdict = completion(b"", Report::default());
        (verdict.attempt, verdict.started_us, verdict.finished_us) = (0, 0, 0);
        verdict.worker.clear();
        let record = record(&verdict);
        for field in [
            "attempt", "worker", "stdout", "stderr", "started", "finished",
        ] {
            assert_eq!(record[field], Value::Null, "{field}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_beside_it() {
        let record = record(&command(b"a\xff", 2));
        assert_eq!(record["stdout"], "a\u{fffd}");
        assert_eq!(record["stdout_base64"], "Yf8=");
        assert!(record.get("stderr_base64").is_none());
    }

    #[test]
    fn a_result_is_json_or_text() {
        let result = |body| record(&completion(body, Report::default()))["result"].clone();
        assert_eq!(result(b"[1, {\"a\": null}]"), json!([1, {"a": null}]));
        assert_eq!(result(b"{\n \"a\": 1\n}\n"), json!({"a": 1}));
        assert_eq!(result(b"plain"), json!("plain"));
        assert_eq!(result(b""), Value::Null);
        let typed = Report {
            content_type: Some("text/plain".into()),
            ..Report::default()
        };
        assert_eq!(record(&completion(b"12", typed))["result"], json!("12"));
        let huge = completion(b"123456789012345678901234567890", Report::default());
        let text = serde_json::to_string(&CompletionRecord::new(&huge)).unwrap();
        assert!(text.contains(":123456789012345678901234567890,"), "{text}");
    }

    #[test]
    fn a_line_is_one_line_and_harmless() {
        let output = Output::new(false, Colors::Never);
        let mut done = command(b"\x1b[31mfirst\nsecond\n", 18);
        assert!(line(&done, output).ends_with("ok, 1.5s, w-1  [31mfirst ..."));
        done.report.error = Some("timed out".into());
        (done.outcome, done.exit, done.attempt) = (Outcome::Failed, Some(-9), 3);
        let line = line(&done, output);
        assert!(
            line.contains("failed, attempt 3, signal 9, 1.5s, w-1  timed out"),
            "{line}"
        );
    }
}
