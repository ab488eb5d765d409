//! Envelopes: from any bytes a task is read that could have been submitted, or none.

use bytes::Bytes;
use pmq_broker::envelope::{self, decode, decode_head, digest, encode};
use pmq_broker::{Error, Task, TaskId};
use pmq_tests::fuzz::{fuzz, mutated, splice};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::task::task;

/// Where the digest stands, then the header's length.
const DIGEST: std::ops::Range<usize> = 15..23;
const CONTROL: usize = 27;
const WORDS: [&str; 14] = [
    "\"name\":\"x\"",
    "\"argv\":",
    "[[0]]",
    "[[],\"\"]",
    "\"env\":[[\"A\",\"b\"]]",
    "\"timeout_ms\":-1",
    "\"chunk\":{\"size\":4294967295}",
    "\"process\":{}",
    "null",
    ",",
    "{",
    "}",
    "\\u0000",
    "1e999",
];

/// Everything that reads an envelope reads these bytes; what is a task is the same after a round trip.
fn read(bytes: &Bytes) -> Result<Option<Task>, TestCaseError> {
    let id = TaskId::new();
    let head = decode_head(bytes);
    let _ = (envelope::is_newer(bytes), envelope::digest_of(bytes));
    let task = match decode(id, bytes) {
        Ok(task) => task,
        Err(error) => {
            let refused = matches!(error, Error::Unreadable { .. } | Error::Encrypted { .. });
            prop_assert!(refused, "{}", error);
            return Ok(None);
        }
    };
    prop_assert!(!envelope::is_newer(bytes));
    let (work, details) = head.expect("the head of a task can be read");
    prop_assert_eq!((&work, &details), (&task.work, &task.details));
    prop_assert!(bytes.ends_with(&task.body));
    let again = encode(&task).expect("what was read could have been submitted");
    prop_assert_eq!(&decode(id, &again).unwrap(), &task);
    Ok(Some(task))
}

#[test]
fn any_task_survives_its_envelope() {
    fuzz(task(), |task| {
        let found = decode(task.id, &encode(&task).unwrap()).unwrap();
        prop_assert_eq!(found, task);
        Ok(())
    });
}

#[test]
fn changed_envelopes_are_read_or_refused() {
    let valid = task().prop_map(|task| encode(&task).unwrap().to_vec());
    fuzz(mutated(valid, &WORDS), |bytes| {
        read(&bytes.into()).map(drop)
    });
}

/// A changed header under a digest that fits, without optional fields.
fn sealed(control: &[u8], header: &[u8], body: &[u8]) -> Bytes {
    let length = (header.len() as u32).to_le_bytes();
    let mut bytes = [&[1], control, &[0; 8], &length, header, body].concat();
    if let Ok((work, details)) = decode_head(&bytes.clone().into()) {
        bytes[DIGEST].copy_from_slice(&digest(&work, &details.content_type, body));
    }
    bytes.into()
}

#[test]
fn changed_headers_under_a_right_digest_are_read_or_refused() {
    let parts = task().prop_map(|mut task| {
        (task.expires_ms, task.owner, task.completions) = (None, None, None);
        let bytes = encode(&task).unwrap();
        let header = bytes.len() - task.body.len();
        (
            bytes[1..DIGEST.start].to_vec(),
            bytes[CONTROL..header].to_vec(),
            task.body.to_vec(),
        )
    });
    let changes = || vec(splice(&WORDS), 0..3);
    fuzz((parts, changes(), changes()), |(parts, first, second)| {
        let (mut control, mut header, body) = parts;
        for change in &first {
            change.apply(&mut control);
        }
        control.resize(DIGEST.start - 1, 0);
        for change in &second {
            change.apply(&mut header);
        }
        read(&sealed(&control, &header, &body)).map(drop)
    });
}
