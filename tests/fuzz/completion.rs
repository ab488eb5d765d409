//! Completions: from any bytes one is read or none, and its output stays within its body.

use bytes::Bytes;
use pmq_broker::{Completion, Error, Outcome, Report};
use pmq_tests::fuzz::{fuzz, mutated};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::task::id;

const OUTCOMES: [Outcome; 4] = [
    Outcome::Ok,
    Outcome::Failed,
    Outcome::Dead,
    Outcome::Cancelled,
];
const WORDS: [&str; 8] = [
    "\"stdout\":18446744073709551615",
    "\"stderr\":18446744073709551615",
    "\"error\":\"x\"",
    "\"pid\":-1",
    "null",
    ",",
    "{",
    "}",
];

fn report() -> impl Strategy<Value = Report> {
    let small = || option::of(0..50usize);
    (
        any::<Option<String>>(),
        small(),
        small(),
        option::of("text/[a-z]{1,9}"),
        any::<Option<u32>>(),
    )
        .prop_map(|(error, stdout, stderr, content_type, pid)| Report {
            error,
            stdout,
            stderr,
            content_type,
            pid,
            ..Report::default()
        })
}

/// A completion with any content.
pub(crate) fn completion() -> impl Strategy<Value = Completion> {
    let run = (any::<[u8; 8]>(), any::<[u64; 3]>(), any::<u16>());
    let exit = any::<Option<i32>>().prop_map(|exit| exit.filter(|code| *code != i32::MIN));
    let body = vec(any::<u8>(), 0..40);
    let how = (select(&OUTCOMES[..]), exit, "[a-z0-9:.-]{0,60}");
    (id(), run, how, report(), body).prop_map(|(id, run, how, report, body)| {
        let (digest, [token, started_us, finished_us], attempt) = run;
        let (outcome, exit, worker) = how;
        Completion {
            id,
            outcome,
            exit,
            digest,
            token,
            attempt,
            started_us,
            finished_us,
            worker,
            report,
            body: body.into(),
        }
    })
}

#[test]
fn any_completion_survives_its_bytes() {
    fuzz(completion(), |completion| {
        let bytes = completion.encode();
        prop_assert_eq!(&Completion::decode_posted(&bytes).unwrap(), &completion);
        prop_assert_eq!(
            Completion::decode(completion.id, &bytes).unwrap(),
            completion
        );
        Ok(())
    });
}

#[test]
fn changed_completions_are_read_or_refused() {
    let valid = completion().prop_map(|completion| completion.encode().to_vec());
    fuzz((mutated(valid, &WORDS), id()), |(bytes, id)| {
        let bytes = Bytes::from(bytes);
        for read in [
            Completion::decode_posted(&bytes),
            Completion::decode(id, &bytes),
        ] {
            match read {
                Ok(completion) => {
                    let (out, err) = completion.output();
                    prop_assert!(out.len() + err.len() <= completion.body.len());
                    prop_assert!(bytes.ends_with(&completion.body));
                    let _ = (completion.queued_ms(), completion.result());
                }
                Err(error) => {
                    let refused =
                        matches!(error, Error::Unreadable { .. } | Error::Encrypted { .. });
                    prop_assert!(refused, "{}", error);
                }
            }
        }
        Ok(())
    });
}
