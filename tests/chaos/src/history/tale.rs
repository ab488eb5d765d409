//! The shortest history that shows what happened to one task, lock or queue.

use std::collections::BTreeSet;

use super::{Event, History, What};

/// Faults from so long before the first event of the subject on may have to do with it, in ns.
const BEFORE: u64 = 5_000_000_000;
/// And until so long after its last one.
const AFTER: u64 = 1_000_000_000;

impl History {
    /// The events that mention `subject`, and the faults of that time that hit the broker or somebody who takes part, one
    /// line each; times are from the first event of the whole history on. What is said again and again is told once.
    #[must_use]
    pub fn tale(&self, subject: &str) -> Vec<String> {
        let about: Vec<usize> = (0..self.events.len())
            .filter(|i| mentions(&self.events[*i], subject))
            .collect();
        let (Some(first), Some(last)) = (about.first(), about.last()) else {
            return Vec::new();
        };
        let from = self.events[*first].t.saturating_sub(BEFORE);
        let to = self.events[*last].t + AFTER;
        let begin = self.events[0].t;
        let actors: BTreeSet<&str> = about.iter().map(|i| &*self.events[*i].actor).collect();
        let (mut lines, mut said) = (Vec::new(), String::new());
        for (i, event) in self.events.iter().enumerate() {
            let is_near = (from..=to).contains(&event.t);
            if !(about.binary_search(&i).is_ok() || is_near && sets_the_scene(event, &actors)) {
                continue;
            }
            let what = serde_json::to_string(&without_others(event, subject)).unwrap_or_default();
            if what == said && matches!(event.what, What::Snapshot { .. }) {
                continue;
            }
            let s = (event.t - begin) as f64 / 1e9;
            lines.push(format!("{s:8.3} s  {:14} {what}", event.actor));
            said = what;
        }
        lines
    }
}

fn mentions(event: &Event, subject: &str) -> bool {
    serde_json::to_string(&event.what).is_ok_and(|line| line.contains(subject))
}

/// Whether an event changes what these actors can do.
fn sets_the_scene(event: &Event, actors: &BTreeSet<&str>) -> bool {
    match &event.what {
        What::Fault { target, .. } => {
            target == "broker" || target == "*" || actors.contains(&**target)
        }
        What::Stall { .. } => actors.contains(&*event.actor),
        What::Phase { .. } => true,
        _ => false,
    }
}

/// The event without what it says of other tasks.
fn without_others(event: &Event, subject: &str) -> What {
    let mut what = event.what.clone();
    match &mut what {
        What::Submit { tasks, .. } => tasks.retain(|task| task.id.to_string() == subject),
        What::Claimed { ids, .. } | What::Junk { ids } => {
            ids.retain(|id| id.to_string() == subject);
        }
        What::Snapshot {
            tasks,
            ready,
            scheduled,
            running,
            completions,
            wrong,
            ..
        } => {
            // What else happens in the queue does not matter.
            (*tasks, *ready, *scheduled, *running, *completions) = (0, 0, 0, 0, 0);
            wrong.retain(|problem| problem.contains(subject));
        }
        _ => {}
    }
    what
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Effects;

    fn event(t: u64, what: What) -> Event {
        Event {
            t: t * 1_000_000_000,
            wall: 0,
            actor: "w".to_owned(),
            pid: 1,
            what,
        }
    }

    fn put(seq: u64) -> What {
        let queue = format!("queue-{seq}");
        What::Put { queue, seq }
    }

    fn kill(target: &str) -> What {
        What::Fault {
            name: "kill".to_owned(),
            target: target.to_owned(),
            on: true,
            effects: Effects::default(),
        }
    }

    fn phase() -> What {
        let name = "heal".to_owned();
        What::Phase { name }
    }

    #[test]
    fn a_tale_has_its_subject_and_the_scene_alone() {
        let events = vec![
            event(1, phase()),
            event(20, put(1)),
            event(21, phase()),
            event(21, kill("somebody else")),
            event(21, kill("w")),
            event(22, put(2)),
        ];
        let tale = History::of(events).tale("queue-1");
        assert_eq!(tale.len(), 3, "{tale:?}");
        assert!(tale[0].contains("19.000 s") && tale[0].contains("queue-1"));
        assert!(tale[1].contains("heal"));
    }
}
