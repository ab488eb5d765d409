//! Whatever is wrong with a key or a slot: a call does all that it should, or fails and changes nothing.

use std::collections::BTreeSet;

use pmq_tests::Cluster;

use crate::call::Call;
use crate::scenario::{SCENARIOS, Scenario};
use crate::shard::{Shard, load};

/// What only looks.
const VIEWS: [&str; 4] = ["inspect", "find", "list_dead", "list_started"];

/// Every key that a shard in the usual state has or may get, by the part of its name.
fn parts(shard: &Shard) -> Vec<String> {
    let fixed = shard.keys.fixed().iter();
    let mut parts: BTreeSet<String> = fixed
        .map(|key| key[shard.key("").len()..].to_owned())
        .collect();
    parts.extend(shard.state().0.keys().cloned());
    for queue in ["done", "private", "elsewhere"] {
        parts.insert(format!("done:{queue}"));
        parts.insert(format!("wake.done:{queue}"));
    }
    parts.into_iter().collect()
}

/// Makes the call after a key was spoiled, and checks that it failed without a trace or left that key alone.
fn check_spoiled(scenario: &Scenario, part: &str) -> bool {
    let shard = Shard::new();
    let call = (scenario.prepare)(&shard);
    let part = current_part(&shard, part);
    shard.redis("DEL", &[shard.key(&part)]);
    if part.starts_with("results:") || part == "meta" {
        shard.redis("RPUSH", &[shard.key(&part), "spoiled".to_owned()]);
    } else {
        shard.redis("SET", &[shard.key(&part), "spoiled".to_owned()]);
    }
    let before = shard.state();
    let answer = shard.try_call(&call);
    let after = shard.state();
    shard.clear();
    let verb = scenario.verb;
    let Err(error) = answer else {
        assert_eq!(before.0[&part], after.0[&part], "{verb} wrote {part}");
        return false;
    };
    assert!(
        error.to_string().contains("WRONGTYPE"),
        "{verb}: {part}: {error}"
    );
    assert_eq!(before, after, "{verb} failed at {part}, half done");
    true
}

/// A bucket has another name in each shard.
fn current_part(shard: &Shard, part: &str) -> String {
    if !part.starts_with("results:") {
        return part.to_owned();
    }
    format!("results:{}", shard.state().meta("buckets").unwrap())
}

#[test]
fn a_key_of_a_wrong_type_is_not_touched_or_the_call_changes_nothing() {
    for scenario in &SCENARIOS {
        let shard = Shard::new();
        (scenario.prepare)(&shard);
        let refused = parts(&shard)
            .iter()
            .filter(|part| check_spoiled(scenario, part))
            .count();
        assert!(refused > 0, "{} reads no key", scenario.verb);
    }
}

#[test]
fn the_usual_calls_succeed_and_change_something() {
    for scenario in &SCENARIOS {
        let shard = Shard::new();
        let call = (scenario.prepare)(&shard);
        let before = shard.state();
        shard.call(&call);
        let is_view = VIEWS.contains(&scenario.verb);
        assert_eq!(before == shard.state(), is_view, "{}", scenario.verb);
    }
}

#[test]
fn a_newer_data_layout_is_refused() {
    for scenario in &SCENARIOS {
        let shard = Shard::new();
        let call = (scenario.prepare)(&shard);
        shard.set_meta("layout", 2);
        if VIEWS.contains(&scenario.verb) {
            shard.expect_nothing(&call);
        } else {
            shard.expect_error(&call, "PMQLAYOUT");
        }
    }
}

/// Brings one shard of the cluster into the scenario's state, moves `part` away, calls, and ends the migration.
fn check_migrating(cluster: &Cluster, scenario: &Scenario, index: usize) {
    let name = format!("m-{}-{index}", scenario.verb.replace('_', "-"));
    let slot = cluster.slot_of(&format!("{{{name}/0}}"));
    let source = &cluster.nodes()[cluster.owner_of(slot)];
    let shard = Shard::named(&name, source);
    let call: Call = (scenario.prepare)(&shard);
    let all: Vec<String> = shard.state().0.keys().cloned().collect();
    let Some(part) = all.get(index) else {
        return;
    };
    let migration = cluster.begin_migration(slot);
    assert!(migration.move_key(shard.key(part)));
    let before = shard.state();
    let error = shard
        .try_call(&call)
        .expect_err("the slot moves")
        .to_string();
    assert!(
        error.contains("TryAgain"),
        "{} without {part}: {error}",
        scenario.verb
    );
    assert_eq!(
        before,
        shard.state(),
        "{} failed without {part}, half done",
        scenario.verb
    );
    let target = migration.target();
    migration.finish();
    shard.reconnect(target);
    shard.call(&call);
}

#[test]
fn while_its_slot_moves_a_call_changes_nothing_and_after_that_it_succeeds() {
    let cluster = Cluster::start(2);
    cluster.nodes().iter().for_each(load);
    for scenario in &SCENARIOS {
        for index in (0..40).step_by(7) {
            check_migrating(&cluster, scenario, index);
        }
    }
}
