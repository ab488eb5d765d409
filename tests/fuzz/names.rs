//! Names and the keys that are made of them: no name reaches beyond its own prefix and slot.

use pmq_broker::keys::{FleetKeys, Kind, ObjectKeys, ShardKeys, client_channel};
use pmq_broker::{Name, TaskId};
use pmq_tests::fuzz::{fuzz, mutated_text};
use proptest::prelude::*;

use crate::task::{id, name};

const WORDS: [&str; 12] = [
    "{", "}", "/", ":", "*", "\0", "\r\n", " ", "-", ".", "A", "ä",
];
/// Two names, the namespace and the longest part.
const LONGEST_KEY: usize = 3 * 64 + 64;

fn text() -> impl Strategy<Value = String> {
    mutated_text(name().prop_map(String::from), &WORDS)
}

/// What Redis hashes to find the slot of a key: what stands in its first braces, where they are not empty.
fn hashed(key: &str) -> &str {
    let Some((_, rest)) = key.split_once('{') else {
        return key;
    };
    match rest.split_once('}') {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    }
}

fn shard_keys(namespace: &Name, queue: &Name, extra: (&Name, TaskId)) -> Vec<String> {
    let keys = ShardKeys::new(namespace, queue);
    let (completions, id) = extra;
    let more = [
        keys.done(completions),
        keys.wake_done(completions),
        keys.log(id),
        keys.ended(),
        keys.stop(),
    ];
    keys.fixed().iter().cloned().chain(more).collect()
}

fn object_keys(namespace: &Name, name: &Name) -> Vec<String> {
    let kind = Kind {
        word: "queue",
        parts: &["meta", "members", "log"],
    };
    ObjectKeys::new(namespace, kind, name).fixed().to_vec()
}

#[test]
fn a_text_is_a_name_or_is_refused_and_shown_short() {
    fuzz(text(), |text| {
        match Name::new(text.clone()) {
            Ok(name) => {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!((1..=64).contains(&text.len()));
                let allowed =
                    |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
                prop_assert!(text.bytes().all(allowed));
            }
            Err(error) => prop_assert!(error.to_string().chars().count() < 250),
        }
        prop_assert_eq!(
            text.parse::<Name>().is_ok(),
            Name::new(text.clone()).is_ok()
        );
        let _ = text.parse::<TaskId>();
        Ok(())
    });
}

#[test]
fn keys_stay_in_their_prefix_and_slot() {
    fuzz(
        (name(), name(), name(), id()),
        |(namespace, queue, other, id)| {
            let prefix = format!("{namespace}:{{{queue}/0}}:");
            for key in shard_keys(&namespace, &queue, (&other, id)) {
                prop_assert!(key.starts_with(&prefix), "{}", key);
                prop_assert_eq!(hashed(&key), format!("{queue}/0"));
                prop_assert!(key.len() <= LONGEST_KEY, "{} bytes", key.len());
            }
            for key in object_keys(&namespace, &queue) {
                prop_assert_eq!(hashed(&key), queue.as_str());
                prop_assert!(key.len() <= LONGEST_KEY, "{} bytes", key.len());
            }
            Ok(())
        },
    );
}

#[test]
fn what_has_another_name_has_other_keys() {
    fuzz(
        (name(), name(), name(), id()),
        |(namespace, queue, other, id)| {
            let mut all = shard_keys(&namespace, &queue, (&other, id));
            all.extend(object_keys(&namespace, &queue));
            if other != queue {
                all.extend(shard_keys(&namespace, &other, (&queue, id)));
                all.extend(object_keys(&namespace, &other));
            }
            if other != namespace {
                all.extend(shard_keys(&other, &queue, (&queue, id)));
                all.extend(object_keys(&other, &queue));
            }
            let fleet = FleetKeys::new(&namespace);
            all.extend(fleet.presence);
            all.push(fleet.queues);
            all.push(client_channel(&namespace, &id.to_string()));
            let count = all.len();
            all.sort();
            all.dedup();
            prop_assert_eq!(all.len(), count);
            Ok(())
        },
    );
}
