//! The contract headers of the library, which docs and other clients are written from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pmq_broker::functions::{LIBRARY, SOURCE};
use pmq_tests::RedisServer;

use crate::scenario::SCENARIOS;
use crate::shard::Shard;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The verbs that the library registers.
fn registered() -> BTreeSet<String> {
    let words = ["\nregister(\"", "step(\""]; // a kind may have a step of its own
    let calls = words.iter().flat_map(|word| SOURCE.split(word).skip(1));
    calls
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

/// The verbs of objects, whose steps the model tests in `tests/e2e/model` walk; the others are those of task queues.
fn is_of_an_object(verb: &str) -> bool {
    let kinds = [
        "sem_", "cond_", "event_", "barrier_", "queue_", "pipe_", "list_", "dict_", "cell_",
        "array_",
    ];
    let shared = ["renew", "attach", "detach", "unlink", "refs"];
    let tasks = ["list_dead"];
    !tasks.contains(&verb)
        && (shared.contains(&verb) || kinds.iter().any(|kind| verb.starts_with(kind)))
}

/// The header of each verb: the comment that begins `-- verb: ` and everything up to its end.
fn headers() -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    let mut lines = SOURCE.lines().peekable();
    while let Some(line) = lines.next() {
        let first = line.strip_prefix("-- ").and_then(|l| l.split_once(": "));
        let Some((verb, _)) = first.filter(|(verb, _)| registered().contains(*verb)) else {
            continue;
        };
        let mut header = line.to_owned();
        while let Some(next) = lines.next_if(|next| next.starts_with("--")) {
            header = format!("{header}\n{next}");
        }
        headers.insert(verb.to_owned(), header);
    }
    headers
}

#[test]
fn the_library_loads_and_registers_every_verb_under_its_number() {
    drop(Shard::new());
    let list: Vec<redis::Value> = redis::cmd("FUNCTION")
        .arg(&["LIST", "LIBRARYNAME", LIBRARY])
        .query(&mut RedisServer::shared().connection())
        .unwrap();
    let listed = format!("{list:?}");
    for verb in registered() {
        assert!(
            listed.contains(&format!("{LIBRARY}_{verb}\"")),
            "{verb} is not in {listed}"
        );
    }
}

#[test]
fn every_verb_has_a_header_that_names_keys_arguments_and_answer() {
    let headers = headers();
    for verb in registered() {
        let header = headers
            .get(&verb)
            .unwrap_or_else(|| panic!("{verb} has no header"));
        assert!(header.contains("\n-- KEYS"), "{header}");
        assert!(header.contains("\n-- Returns "), "{header}");
    }
}

#[test]
fn a_header_names_every_argument_that_its_function_reads() {
    let headers = headers();
    for (verb, header) in &headers {
        let registers = ["\nregister", "step"].map(|word| format!("{word}(\"{verb}\""));
        let body = registers
            .iter()
            .find_map(|register| SOURCE.split(register).nth(1))
            .unwrap();
        let body = &body[..body.find("\nend)").unwrap()];
        let numbered = (1..10).filter(|n| body.contains(&format!("args[{n}]")));
        for n in numbered {
            let named = [
                format!("ARGV[{n}]"),
                "ARGV      ".to_owned(),
                "KEYS, ARGV".to_owned(),
            ];
            assert!(
                named.iter().any(|name| header.contains(name)),
                "{verb} does not name argument {n}"
            );
        }
    }
}

#[test]
fn every_verb_says_what_its_arguments_have_to_be() {
    for verb in registered() {
        assert!(
            SOURCE.contains(&format!(" {verb} = \"")),
            "{verb} has no shape in shapes.lua"
        );
    }
}

#[test]
fn every_verb_has_a_scenario_and_a_file_of_tests() {
    let mut tested: BTreeSet<String> = SCENARIOS.iter().map(|s| s.verb.to_owned()).collect();
    // They have keys of their own, and tests in mark.rs, fleet.rs and wake.rs.
    tested.extend(["mark", "present", "fleet", "wake"].map(str::to_owned));
    tested.extend(
        registered()
            .into_iter()
            .filter(|verb| is_of_an_object(verb)),
    );
    assert_eq!(tested, registered());
}

#[test]
fn the_protocol_lists_every_verb() {
    let Ok(protocol) = fs::read_to_string(root().join("docs/protocol.md")) else {
        return; // it is not written yet
    };
    for verb in registered() {
        assert!(
            protocol.contains(&format!("`{verb}`")),
            "docs/protocol.md does not list `{verb}`"
        );
    }
}
