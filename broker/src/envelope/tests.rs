//! Envelopes as bytes: what is documented, what is refused.

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

/// Options that `encode` refuses were written by another program.
#[test]
fn a_task_that_could_not_be_submitted_is_unreadable() {
    let attempts = |bytes: &mut Vec<u8>| bytes[4..6].fill(0);
    let crashes = |bytes: &mut Vec<u8>| bytes[6] = 0;
    for spoil in [attempts, crashes] {
        let mut bytes = encode(&Task::handler("t", "")).unwrap().to_vec();
        spoil(&mut bytes);
        let error = decode(TaskId::new(), &bytes.into()).unwrap_err();
        assert!(error.to_string().contains("at least one"), "{error}");
    }
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
