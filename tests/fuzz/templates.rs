//! `[tasks.NAME]`: whatever a producer sends, no value leaves its slot, begins an option or climbs out of its path.

use std::path::{Component, Path};

use pmq_cli::task_template::TaskTemplate;
use pmq_tests::fuzz::{fuzz, mutated};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

const WORDS: [&str; 16] = [
    "{a:path}",
    "{b:str}",
    "{a:int:dash}",
    "{{",
    "}}",
    "{",
    "}",
    "\"a\":",
    "\"-\"",
    "\"..\"",
    "\"./\"",
    "-",
    ".",
    "/",
    "\\u0000",
    "null",
];
/// What is written in the templates between slots, and what stands in slots.
const TEXTS: [&str; 9] = ["", "out", "in/", "-", "--x=", ".", "/", "..", "../"];
const SLOTS: [&str; 7] = [
    "{a:str}",
    "{a:path}",
    "{b:path}",
    "{b:str}",
    "{c:int}",
    "{c:float:dash}",
    "{d:bool}",
];

/// Of what the values are made.
const LETTERS: [char; 8] = ['-', '.', '/', 'a', ' ', '\0', 'ä', '{'];

/// A word as it is written, and without its slots.
#[derive(Clone, Debug)]
struct Word(Vec<&'static str>);

impl Word {
    fn is_open(&self) -> bool {
        self.0.iter().any(|piece| SLOTS.contains(piece))
    }

    /// The word with `x` in each slot.
    fn with_x(&self) -> String {
        let x = |piece: &&'static str| if SLOTS.contains(piece) { "x" } else { piece };
        self.0.iter().map(x).collect()
    }

    /// Whether the template itself lets it begin with a dash.
    fn may_begin_with_dash(&self) -> bool {
        let first = self.0.iter().find(|piece| !piece.is_empty());
        first.is_some_and(|piece| piece.starts_with('-') || piece.contains(":dash"))
    }

    fn has_path(&self) -> bool {
        self.0.iter().any(|piece| piece.contains(":path"))
    }
}

fn word() -> impl Strategy<Value = Word> {
    let piece = prop_oneof![select(&TEXTS[..]), select(&SLOTS[..])];
    vec(piece, 0..4).prop_map(Word)
}

fn arguments() -> impl Strategy<Value = Map<String, Value>> {
    let text = || {
        prop_oneof![
            3 => select(&TEXTS[..]).prop_map(str::to_owned),
            2 => vec(select(&LETTERS[..]), 0..5).prop_map(String::from_iter),
        ]
    };
    (text(), text(), -1..9i64, any::<bool>()).prop_map(|(a, b, c, d)| {
        let Value::Object(arguments) = json!({"a": a, "b": b, "c": c, "d": d}) else {
            unreachable!("it is an object");
        };
        arguments
    })
}

fn parents(word: &str) -> usize {
    let parts = Path::new(word).components();
    parts.filter(|part| *part == Component::ParentDir).count()
}

#[test]
fn values_stay_in_their_slots() {
    fuzz(
        (vec(word(), 0..4), arguments()),
        |(words, mut arguments)| {
            let written: Vec<String> = std::iter::once("program".to_owned())
                .chain(words.iter().map(|word| word.0.concat()))
                .collect();
            arguments.retain(|name, _| {
                written
                    .iter()
                    .any(|word| word.contains(&format!("{{{name}:")))
            });
            let template = TaskTemplate::try_from(written.clone()).unwrap();
            let Ok(argv) = template.expand(&serde_json::to_vec(&arguments).unwrap()) else {
                return Ok(());
            };
            prop_assert_eq!(argv.len(), written.len());
            prop_assert_eq!(&argv[0], "program");
            for (word, filled) in words.iter().zip(&argv[1..]) {
                if !word.is_open() {
                    prop_assert_eq!(&word.0.concat(), filled);
                }
                prop_assert!(!filled.contains('\0'));
                prop_assert!(
                    !filled.starts_with('-') || word.may_begin_with_dash(),
                    "an option: {}",
                    filled
                );
                if word.has_path() {
                    prop_assert!(
                        parents(filled) <= parents(&word.with_x()),
                        "climbs: {}",
                        filled
                    );
                }
            }
            Ok(())
        },
    );
}

#[test]
fn changed_templates_and_bodies_are_used_or_refused() {
    let template = Just(b"convert\n{a:path}\n--w={c:int}x{b:str}".to_vec());
    let body = Just(br#"{"a": "x/y", "b": "text", "c": 7}"#.to_vec());
    fuzz(
        (mutated(template, &WORDS), mutated(body, &WORDS)),
        |(template, body)| {
            let template = String::from_utf8_lossy(&template).into_owned();
            let words: Vec<String> = template.split('\n').map(str::to_owned).collect();
            let count = words.len();
            let Ok(template) = TaskTemplate::try_from(words) else {
                return Ok(());
            };
            if let Ok(argv) = template.expand(&body) {
                prop_assert_eq!(argv.len(), count);
            }
            Ok(())
        },
    );
}
