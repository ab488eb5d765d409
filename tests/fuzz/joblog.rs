//! Joblogs: a file is gone on with, or is left as it is.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use pmq_cli::map::exit::Exit;
use pmq_cli::map::joblog::{Entry, Joblog};
use pmq_tests::Scratch;
use pmq_tests::fuzz::{fuzz, splice};
use proptest::collection::vec;
use proptest::prelude::*;

const WORDS: [&str; 10] = [
    "\n",
    "\t",
    "-1",
    "18446744073709551616",
    "Seq",
    "'",
    "$'",
    "\\",
    "\0",
    ":",
];

fn job() -> impl Strategy<Value = (u64, [u64; 2], i32, Vec<Vec<u8>>)> {
    let command = vec(vec(1u8.., 0..6), 1..3);
    (0..5u64, any::<[u64; 2]>(), -1..3i32, command)
}

fn entry(seq: u64, times: [u64; 2], code: i32, command: &[OsString]) -> Entry<'_> {
    Entry {
        seq,
        host: ":",
        started_ms: times[0],
        runtime_ms: times[1],
        sent: 0,
        received: 3,
        exit: Exit { code, signal: 0 },
        command,
    }
}

#[test]
fn a_joblog_is_gone_on_with_or_left_alone() {
    let changes = vec(splice(&WORDS), 0..4);
    fuzz((vec(job(), 0..4), changes), |(jobs, changes)| {
        let directory = Scratch::new();
        let path = directory.join("joblog");
        let mut joblog = Joblog::create(&path).unwrap();
        for (seq, times, code, command) in jobs {
            let command: Vec<_> = command.into_iter().map(OsString::from_vec).collect();
            joblog.append(&entry(seq, times, code, &command)).unwrap();
        }
        drop(joblog);
        let mut content = fs::read(&path).unwrap();
        for change in &changes {
            change.apply(&mut content);
        }
        fs::write(&path, &content).unwrap();

        let Ok((mut joblog, past)) = Joblog::resume(&path) else {
            prop_assert_eq!(
                fs::read(&path).unwrap(),
                content,
                "a refused file was changed"
            );
            return Ok(());
        };
        let ended = past.ended();
        past.failed().for_each(drop);
        let command = [OsString::from("new")];
        joblog
            .append(&entry(u64::MAX - 1, [0, 0], 1, &command))
            .unwrap();
        drop(joblog);
        let (_, past) = Joblog::resume(&path).unwrap();
        prop_assert!((ended..=ended + 1).contains(&past.ended()));
        let last = past.failed().last().unwrap().unwrap();
        prop_assert_eq!((last.seq, &last.command[..]), (u64::MAX - 1, &command[..]));
        Ok(())
    });
}
