//! Whatever a runner writes, its lines are answers or are not; whatever it is sent is one line.

use std::collections::BTreeMap;

use bytes::Bytes;
use pmq_tests::fuzz::{fuzz, mutated, mutated_text};
use proptest::prelude::*;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::protocol::{Answer, Line, Request};

const WORDS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "\"error\":\"e\"",
    "\"retry\":1",
    "\"ready\":true",
    "\"tasks\":[]",
    "\\u0000",
    "\\ud800",
    "1e999",
];

#[test]
fn a_line_of_a_runner_is_an_answer_or_is_not() {
    let id = "00000000-0000-0000-0000-000000000007";
    let valid = prop_oneof![
        Just(r#"{"ready":true,"tasks":["square"]}"#.to_owned()),
        Just(format!(r#"{{"id":"{id}","result": {{"a": [1, null]}}}}"#)),
        Just(format!(r#"{{"id":"{id}","error":"no","retry":false}}"#)),
    ];
    let bytes = valid.prop_map(String::into_bytes);
    fuzz(mutated(bytes, &WORDS), |line| {
        if let Some(Line::Answer(_, Answer::Result(json))) = Line::parse(&line) {
            let result: Result<&RawValue, _> = serde_json::from_slice(&json);
            prop_assert!(result.is_ok(), "no JSON: {:?}", json);
        }
        Ok(())
    });
}

#[test]
fn a_request_is_one_line_that_can_be_read() {
    let content_type = mutated_text(
        Just("application/json".to_owned()),
        &["+json", ";", "\n", "text/x"],
    );
    let body = mutated(Just(br#"{"a": [1, "b\n"], "c": null}"#.to_vec()), &WORDS);
    fuzz((".*", content_type, body), |(name, content_type, body)| {
        let request = Request {
            id: Uuid::from_u128(1),
            name: name.clone(),
            attempt: 1,
            queue: "default".into(),
            content_type,
            body: Bytes::from(body),
        };
        let Ok(line) = request.to_line() else {
            return Ok(());
        };
        let newlines = line.iter().filter(|byte| b"\n\r".contains(byte)).count();
        prop_assert!(newlines == 1 && line.ends_with(b"\n"));
        // What it is sent as JSON was checked to be some, but half a surrogate pair would not become a string of ours.
        let read: BTreeMap<String, &RawValue> = serde_json::from_slice(&line).unwrap();
        let read: String = serde_json::from_str(read["name"].get()).unwrap();
        prop_assert_eq!(read, name);
        Ok(())
    });
}
