//! Signed tasks and completions: whatever is changed of them, and wherever they are moved, they are not trusted.

use std::sync::Arc;

use pmq_broker::authkey::Authkey;
use pmq_broker::sealing::Sealing;
use pmq_broker::{Name, Outcome, TaskId};
use pmq_tests::fuzz::{fuzz, splice};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::completion::completion;
use crate::task::{id, task};

const WORDS: [&str; 6] = [
    "\"name\":\"x\"",
    "\"timeout_ms\":1",
    ",",
    "{",
    "}",
    "\0\0\0\0",
];

fn sealing(encrypts: bool, namespace: &str, queue: &str) -> Sealing {
    let authkey = Arc::new(Authkey::parse(&"7f".repeat(32)).unwrap());
    let name = |text| Name::new(text).unwrap();
    Sealing::new(authkey, encrypts, &name(namespace), &name(queue))
}

#[test]
fn a_changed_or_moved_task_is_not_trusted() {
    let changes = vec(splice(&WORDS), 0..4);
    fuzz(
        (task(), any::<bool>(), changes, id()),
        |(mut task, encrypts, changes, other)| {
            task.expires_ms = task.expires_ms.map(|ms| ms.max(1));
            let here = sealing(encrypts, "ns", "queue");
            let sealed = here.seal_task(&task).unwrap();
            let opened = here.open_task(task.id, &sealed, 0).unwrap();
            prop_assert_eq!((&opened.work, &opened.body), (&task.work, &task.body));

            let mut changed = sealed.to_vec();
            for change in &changes {
                change.apply(&mut changed);
            }
            let is_changed = changed != sealed;
            let found = here.open_task(task.id, &changed.into(), 0);
            prop_assert_eq!(found.is_err(), is_changed, "{:?}", found);
            for elsewhere in [("ns", "other"), ("other", "queue"), ("n", "squeue")] {
                let elsewhere = sealing(encrypts, elsewhere.0, elsewhere.1);
                prop_assert!(elsewhere.open_task(task.id, &sealed, 0).is_err());
            }
            prop_assert!(other == task.id || here.open_task(other, &sealed, 0).is_err());
            Ok(())
        },
    );
}

/// What a broker without the key may say of a task: that it came to no end of its own.
fn says_nothing(found: &pmq_broker::Completion) -> bool {
    matches!(found.outcome, Outcome::Cancelled | Outcome::Dead) && found.body.is_empty()
}

/// What may become of a completion without its key: it loses everything but its verdict, as a record that outlives its
/// completion does, and a failure and a cancellation can't be told apart.
fn is_the_verdict(found: &pmq_broker::Completion, original: &pmq_broker::Completion) -> bool {
    let stopped = |outcome| matches!(outcome, Outcome::Failed | Outcome::Cancelled);
    let same =
        found.outcome == original.outcome || stopped(found.outcome) && stopped(original.outcome);
    same && found.token == original.token && (found.body.is_empty() || found.body == original.body)
}

#[test]
fn a_changed_or_moved_completion_is_not_trusted() {
    let changes = vec(splice(&WORDS), 0..4);
    let inputs = (completion(), task(), any::<bool>(), changes, id());
    fuzz(
        inputs,
        |(completion, task, encrypts, changes, other): (_, _, _, Vec<_>, TaskId)| {
            let here = sealing(encrypts, "ns", "queue");
            let envelope = here.seal_task(&task).unwrap();
            let sealed = here.seal_completion(&completion, &envelope);
            let opened = here.open_completion(completion.id, &sealed).unwrap();
            prop_assert_eq!(
                (opened.outcome, &opened.body),
                (completion.outcome, &completion.body)
            );

            let mut changed = sealed.to_vec();
            for change in &changes {
                change.apply(&mut changed);
            }
            if changed != sealed {
                let changed = changed.into();
                for found in [
                    here.open_completion(completion.id, &changed),
                    here.open_posted(&changed),
                ] {
                    let is_fine = |found| says_nothing(found) || is_the_verdict(found, &completion);
                    prop_assert!(found.as_ref().map_or(true, is_fine), "{:?}", found);
                }
            }
            let elsewhere = [
                sealing(encrypts, "ns", "other").open_completion(completion.id, &sealed),
                here.open_completion(other, &sealed),
            ];
            for found in elsewhere {
                let same = other == completion.id;
                prop_assert!(
                    same || found.as_ref().map_or(true, says_nothing),
                    "{:?}",
                    found
                );
            }
            Ok(())
        },
    );
}
