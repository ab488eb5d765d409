//! Runs the checker, and tells what it finds in plain words.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

/// Looks at every state; fails with the shortest path to one that breaks a property, and where an example is missing.
pub(crate) fn assert_holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + PartialEq + Send + Sync,
    M::Action: Display + Clone + PartialEq,
{
    let began = Instant::now();
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, up to {} steps deep, in {:.1} s",
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32()
    );
    for property in checker.model().properties() {
        match (property.expectation, checker.discovery(property.name)) {
            (Expectation::Sometimes, None) => panic!("{name}: never seen: {}", property.name),
            (Expectation::Always, Some(path)) => {
                panic!("{name}: does not hold: {}\n{}", property.name, tell(path))
            }
            _ => {}
        }
    }
}

/// Looks for the shortest path that breaks this property, and tells it; fails where there is none.
pub(crate) fn assert_breaks<M>(name: &str, property: &'static str, model: &M)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Hash + Clone + PartialEq + Send + Sync,
    M::Action: Display + Clone + PartialEq,
{
    // The checker tells the last path that it has found, so it is let go one step deeper each time.
    for depth in 2.. {
        let checker = model
            .clone()
            .checker()
            .finish_when(HasDiscoveries::AllOf(BTreeSet::from([property])))
            .target_max_depth(depth)
            .spawn_bfs()
            .join();
        let states = checker.unique_state_count();
        if let Some(path) = checker.discovery(property) {
            return println!(
                "{name} breaks \"{property}\" ({states} states):\n{}",
                tell(path)
            );
        }
        let over = checker.max_depth() < depth;
        assert!(
            !over,
            "{name}: nothing breaks \"{property}\" in {states} states"
        );
    }
}

fn tell<S, A: Display>(path: Path<S, A>) -> String {
    let mut lines = String::new();
    for (i, action) in (1..).zip(path.into_actions()) {
        let _ = writeln!(lines, "  {i:2}. {action}");
    }
    lines
}
