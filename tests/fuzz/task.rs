//! Valid tasks with any of their options.

use std::time::Duration;

use pmq_broker::{Details, Incarnation, Name, Retry, Task, TaskId, Work};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,63}".prop_map(|text| Name::new(text).unwrap())
}

pub(crate) fn id() -> impl Strategy<Value = TaskId> {
    any::<[u8; 16]>().prop_map(|bytes| TaskId::from_slice(&bytes).unwrap())
}

fn work() -> impl Strategy<Value = Work> {
    let argument = vec(1u8.., 0..20);
    prop_oneof![
        "[a-zA-Zä. \"\\\\]{1,30}".prop_map(Work::Handler),
        (vec(1u8.., 1..10), vec(argument, 0..5)).prop_map(|(program, rest)| {
            Work::Command([program].into_iter().chain(rest).collect())
        }),
    ]
}

fn retry() -> impl Strategy<Value = Retry> {
    let wait = || any::<u32>().prop_map(|ms| Duration::from_millis(u64::from(ms)));
    (1u16.., 1u8.., wait(), wait()).prop_map(|(attempts, crashes, floor, cap)| Retry {
        attempts,
        crashes,
        floor,
        cap,
    })
}

pub(crate) fn details() -> impl Strategy<Value = Details> {
    let pairs = || vec(("[a-zA-Z]{1,8}", ".{0,8}"), 0..3);
    (
        any::<u64>(),
        "(text/[a-z]{1,9})?",
        "(/[a-z]{1,5})?",
        pairs(),
        pairs(),
    )
        .prop_map(|(timeout_ms, content_type, cwd, env, labels)| Details {
            timeout_ms,
            content_type,
            cwd,
            env,
            labels,
            ..Details::default()
        })
}

type Options = (u8, Retry, Option<u64>, Option<[u8; 16]>, Option<Name>);

fn options() -> impl Strategy<Value = Options> {
    (
        0..10u8,
        retry(),
        any::<Option<u64>>(),
        any::<Option<[u8; 16]>>(),
        option::of(name()),
    )
}

/// A task that may be submitted.
pub(crate) fn task() -> impl Strategy<Value = Task> {
    let body = vec(any::<u8>(), 0..40);
    let flags = any::<[bool; 3]>();
    (work(), body, options(), flags, details()).prop_map(
        |(work, body, (priority, retry, expires_ms, owner, completions), flags, details)| {
            let [keep, process, plain] = flags;
            let mut task = Task::handler("", body);
            task.work = work;
            if !plain {
                task.details = details;
                (task.priority, task.retry, task.keep, task.process) =
                    (priority, retry, keep, process);
                task.owner = owner.and_then(|bytes| Incarnation::from_slice(&bytes));
                (task.expires_ms, task.completions) = (expires_ms, completions);
            }
            task
        },
    )
}
