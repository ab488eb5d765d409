//! `pmq map`'s command: any bytes may be arguments, and each arrives whole, by argv and by a shell alike.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use pmq_cli::map::halt::Policy;
use pmq_cli::map::input::Job;
use pmq_cli::map::quote;
use pmq_cli::map::template::Template;
use pmq_tests::fuzz::{fuzz, mutated, mutated_text};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const WORDS: [&str; 20] = [
    "{}",
    "{.}",
    "{/}",
    "{//}",
    "{/.}",
    "{#}",
    "{1}",
    "{2}",
    "{2/.}",
    "{0}",
    "{%}",
    "{18446744073709551616}",
    "{",
    "}",
    "/",
    ".",
    "'",
    "\"",
    "$'",
    "\\",
];

fn argument() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![select(b"'\"\\$`!\n\t *a{}/.\xff".to_vec()), 1u8..],
        0..12,
    )
}

fn os(words: Vec<Vec<u8>>) -> Vec<OsString> {
    words.into_iter().map(OsString::from_vec).collect()
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.retain(|byte| *byte != 0);
    bytes
}

fn job() -> impl Strategy<Value = Job> {
    (any::<u64>(), vec(argument(), 0..4)).prop_map(|(seq, args)| Job {
        seq,
        args: os(args),
    })
}

#[test]
fn any_command_is_filled_in_or_refused() {
    let command = vec(mutated(argument(), &WORDS).prop_map(without_nul), 0..4);
    fuzz((command, job(), 0..4usize), |(command, job, sources)| {
        let command = os(command);
        let Ok(template) = Template::argv(&command) else {
            return Ok(());
        };
        let argv = template.expand(&job);
        let braces = command
            .iter()
            .any(|word| word.as_encoded_bytes().contains(&b'{'));
        if !braces {
            prop_assert_eq!(&argv[..command.len()], &command[..]);
            prop_assert!(job.args.is_empty() || argv[command.len()..] == job.args[..]);
        }
        let _ = template.check_sources(sources);
        Ok(())
    });
}

#[test]
fn a_shell_is_given_the_same_words_as_argv() {
    let plain = "[a-z/.]{1,4}";
    let word =
        (plain, select(&WORDS[..10])).prop_map(|(text, slot)| format!("{text}{slot}").into());
    fuzz(
        (vec(word, 1..4), job()),
        |(command, job): (Vec<OsString>, Job)| {
            // A shell drops a word of which nothing is left; the words here have text of their own.
            let by_argv = Template::argv(&command).unwrap().expand(&job);
            let by_shell = Template::shell("sh".into(), &command).unwrap().expand(&job);
            prop_assert_eq!(&by_shell[..2], ["sh", "-c"]);
            let line = by_shell[2].as_encoded_bytes();
            prop_assume!(!line.contains(&b'{')); // braces that are text need a shell to be read
            prop_assert_eq!(quote::words(line), Ok(by_argv));
            Ok(())
        },
    );
}

#[test]
fn a_line_of_words_is_read_or_refused() {
    let valid = vec(argument(), 0..4).prop_map(|words| quote::line(&os(words)));
    fuzz(mutated(valid, &WORDS), |line| {
        if let Ok(words) = quote::words(&line) {
            prop_assert_eq!(quote::words(&quote::line(&words)), Ok(words));
        }
        Ok(())
    });
}

#[test]
fn a_halt_policy_is_read_or_refused() {
    const WORDS: [&str; 10] = [
        "now",
        "soon",
        ",",
        "fail",
        "success",
        "done",
        "=",
        "%",
        "18446744073709551616",
        "0",
    ];
    let valid = select(&["never", "now,fail=1", "soon,success=50%", "now,done=100"][..]);
    fuzz(
        mutated_text(valid.prop_map(str::to_owned), &WORDS),
        |text| {
            let _ = text.parse::<Policy>();
            Ok(())
        },
    );
}
