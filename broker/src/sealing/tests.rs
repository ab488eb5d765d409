//! What is signed is opened as it was, and nothing else is.

use super::*;
use crate::completion::Report;
use crate::task::Work;
use proptest::prelude::*;

const NOW: u64 = 1;

fn key(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

fn sealing(keys: &str, encrypts: bool) -> Sealing {
    let [namespace, queue] = ["pmq", "default"].map(|name| Name::new(name).unwrap());
    let authkey = Arc::new(Authkey::parse(keys).unwrap());
    Sealing::new(authkey, encrypts, &namespace, &queue)
}

fn distrust<T: fmt::Debug>(result: Result<T>) -> Distrust {
    match result.unwrap_err() {
        Error::Untrusted { why, .. } => why,
        other => panic!("{other}"),
    }
}

fn completion(task: &Task, outcome: Outcome) -> Completion {
    Completion {
        id: task.id,
        outcome,
        exit: None,
        digest: *b"digested",
        token: 42,
        attempt: 1,
        started_us: 1,
        finished_us: 2,
        worker: "w".into(),
        report: Report {
            error: Some("why".into()),
            ..Report::default()
        },
        body: Bytes::from_static(b"secret"),
    }
}

fn task() -> Task {
    Task::handler("square", "secret")
}

#[test]
fn what_one_key_signs_is_opened_by_who_accepts_it() {
    let (one, both) = (key(1), format!("{} {}", key(2), key(1)));
    for encrypts in [false, true] {
        let mut task = task();
        let sealed = sealing(&one, encrypts).seal_task(&task).unwrap();
        let opened = sealing(&both, false)
            .open_task(task.id, &sealed, NOW)
            .unwrap();
        task.expires_ms = opened.expires_ms;
        assert_eq!(opened, task);
        let completion = completion(&task, Outcome::Ok);
        let sealed = sealing(&one, encrypts).seal_completion(&completion, b"");
        assert_eq!(
            sealing(&both, false).open_posted(&sealed).unwrap(),
            completion
        );
    }
}

/// The vectors of `docs/protocol.md`.
#[test]
fn signatures_are_as_documented() {
    let mut task = Task::handler("square", "7");
    task.id = TaskId::from_slice(&(0..16).collect::<Vec<u8>>()).unwrap();
    task.expires_ms = Some(2_000_000_000_000);
    let mine = sealing(&key(0x0b), false);
    let sealed = mine.seal_task(&task).unwrap();
    let completion = Completion {
        outcome: Outcome::Ok,
        digest: envelope::digest_of(&sealed),
        token: 1,
        started_us: 2,
        finished_us: 3,
        worker: String::new(),
        report: Report::default(),
        body: "49".into(),
        ..completion(&task, Outcome::Ok)
    };
    let done = mine.seal_completion(&completion, &sealed);
    let document = include_str!("../../../docs/protocol.md");
    let document: String = document.split_whitespace().collect();
    for bytes in [sealed, done] {
        assert!(document.contains(&format!("{bytes:x}")), "{bytes:x}");
    }
}

#[test]
fn a_signed_task_expires_a_week_after_it_is_due() {
    let open = |task: &Task| {
        let sealed = sealing(&key(1), false).seal_task(task).unwrap();
        sealing(&key(1), false).open_task(task.id, &sealed, NOW)
    };
    let mut task = task();
    let week = open(&task).unwrap().expires_ms.unwrap() - wall_clock_ms();
    assert!((GOOD_FOR_MS - MINUTE_MS..=GOOD_FOR_MS + MINUTE_MS).contains(&week));
    task.due = Due::After(std::time::Duration::from_millis(GOOD_FOR_MS));
    assert!(
        open(&task).unwrap().expires_ms.unwrap() >= wall_clock_ms() + 2 * GOOD_FOR_MS - MINUTE_MS
    );
    task.expires_ms = Some(wall_clock_ms() - CLOCKS_DIFFER_MS - 1);
    assert!(
        matches!(distrust(open(&task)), Distrust::Expired(_)),
        "by the clock here"
    );
    task.expires_ms = Some(NOW);
    assert!(matches!(distrust(open(&task)), Distrust::Expired(_)));
}

#[test]
fn what_is_not_signed_for_here_is_not_trusted() {
    let (task, mine) = (task(), sealing(&key(1), false));
    let sealed = mine.seal_task(&task).unwrap();
    let open = |sealing: &Sealing, id, bytes: &Bytes| distrust(sealing.open_task(id, bytes, NOW));
    assert_eq!(
        open(&mine, task.id, &envelope::encode(&task).unwrap()),
        Distrust::Unsigned
    );
    assert!(matches!(
        open(&sealing(&key(2), false), task.id, &sealed),
        Distrust::UnknownKey(_)
    ));
    assert!(matches!(
        open(&mine, TaskId::new(), &sealed),
        Distrust::Forged(_)
    ));
    for (namespace, queue) in [("pmq", "other"), ("other", "default")] {
        let [namespace, queue] = [namespace, queue].map(|name| Name::new(name).unwrap());
        let keys = Arc::new(Authkey::parse(&key(1)).unwrap());
        let elsewhere = Sealing::new(keys, false, &namespace, &queue);
        assert!(matches!(
            open(&elsewhere, task.id, &sealed),
            Distrust::Forged(_)
        ));
    }
}

#[test]
fn only_the_broker_may_end_a_task_without_a_signature_and_without_a_result() {
    let mine = sealing(&key(1), false);
    let mut own = completion(&task(), Outcome::Cancelled);
    (own.token, own.body) = (0, Bytes::new());
    for outcome in [Outcome::Cancelled, Outcome::Dead] {
        own.outcome = outcome;
        assert_eq!(mine.open_posted(&own.encode()).unwrap(), own);
    }
    own.body = Bytes::from_static(b"7");
    assert_eq!(
        distrust(mine.open_posted(&own.encode())),
        Distrust::Unsigned
    );
    for outcome in [Outcome::Ok, Outcome::Failed] {
        (own.outcome, own.body) = (outcome, Bytes::new());
        assert_eq!(
            distrust(mine.open_posted(&own.encode())),
            Distrust::Unsigned
        );
    }
}

#[test]
fn a_verdict_alone_is_verified_and_the_broker_may_make_a_failure_a_cancellation() {
    let (task, mine) = (task(), sealing(&key(1), false));
    let sealed = mine.seal_completion(&completion(&task, Outcome::Failed), b"");
    let verdict = sealed.slice(..58);
    assert_eq!(
        mine.open_completion(task.id, &verdict).unwrap().outcome,
        Outcome::Failed
    );
    for whole in [&sealed, &verdict] {
        let mut bytes = whole.to_vec();
        bytes[1] = Outcome::Cancelled as u8;
        let cancelled = mine
            .open_completion(task.id, &bytes.clone().into())
            .unwrap();
        assert_eq!(cancelled.outcome, Outcome::Cancelled);
        bytes[1] = Outcome::Ok as u8;
        assert!(matches!(
            distrust(mine.open_completion(task.id, &bytes.into())),
            Distrust::Forged(_)
        ));
    }
}

#[test]
fn what_is_encrypted_tells_nothing_of_the_body_and_needs_the_key() {
    let (task, mine) = (task(), sealing(&key(1), true));
    let sealed = mine.seal_task(&task).unwrap();
    let done = mine.seal_completion(&completion(&task, Outcome::Ok), &sealed);
    for bytes in [&sealed, &done] {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("secret") && !text.contains("why"), "{text}");
    }
    let twin = Task {
        id: TaskId::new(),
        ..task.clone()
    };
    let digests =
        [&task, &task, &twin].map(|task| envelope::digest_of(&mine.seal_task(task).unwrap()));
    assert_eq!(digests[0], digests[1], "the same task again is no conflict");
    assert_ne!(digests[0], digests[2], "equal bodies do not show");
    assert!(matches!(
        envelope::decode(task.id, &sealed),
        Err(Error::Encrypted { .. })
    ));
    assert!(matches!(
        Completion::decode(task.id, &done),
        Err(Error::Encrypted { .. })
    ));
}

#[test]
fn a_program_without_a_key_reads_what_is_signed() {
    let (task, mine) = (task(), sealing(&key(1), false));
    let opened = envelope::decode(task.id, &mine.seal_task(&task).unwrap()).unwrap();
    assert_eq!(
        (opened.body, opened.work),
        (task.body.clone(), Work::Handler("square".into()))
    );
    let completion = completion(&task, Outcome::Ok);
    let sealed = mine.seal_completion(&completion, b"");
    assert_eq!(Completion::decode_posted(&sealed).unwrap(), completion);
}

proptest! {
    #[test]
    fn no_changed_bit_goes_unnoticed(bit: prop::sample::Index, encrypts: bool, cut: prop::sample::Index) {
        let (task, mine) = (task(), sealing(&key(1), encrypts));
        let sealed = mine.seal_task(&task).unwrap();
        let done = mine.seal_completion(&completion(&task, Outcome::Ok), b"");
        for bytes in [sealed, done] {
            let mut changed = bytes.to_vec();
            let at = bit.index(bytes.len() * 8);
            changed[at / 8] ^= 1 << (at % 8);
            let cut = bytes.slice(..cut.index(bytes.len()));
            for bytes in [changed.into(), cut] {
                prop_assert!(mine.open_task(task.id, &bytes, NOW).is_err());
                // The verdict alone is what a record may be.
                prop_assert!(bytes.len() == 58 || mine.open_completion(task.id, &bytes).is_err());
            }
        }
    }
}
