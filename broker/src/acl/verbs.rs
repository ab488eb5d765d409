//! Who calls which function. A function that is new belongs into one of these tables, as a test says.

use super::Role::{self, Producer, Viewer, Worker};

const MARK: &str = "mark";

/// The functions of task queues and of the fleet, each with the roles that call it. An admin calls all.
const OF_TASKS: &[(&str, &[Role])] = &[
    ("open", &[Producer, Worker]),
    // On a Redis Cluster whoever made tasks ready tells the workers.
    ("wake", &[Producer, Worker]),
    ("submit", &[Producer]),
    ("claim", &[Worker]),
    ("start", &[Worker]),
    ("finish", &[Worker]),
    ("release", &[Worker]),
    ("refuse", &[Worker]),
    ("log_append", &[Worker]),
    ("log_read", &[Producer, Worker]),
    // Clients have leases as well, and whoever waits takes back what dead workers held.
    ("heartbeat", &[Producer, Worker]),
    ("reclaim", &[Producer, Worker]),
    ("join", &[Producer]),
    ("leave", &[Producer]),
    ("take", &[Producer]),
    ("watch", &[Producer]),
    ("cancel", &[Producer]),
    // Pools and maps keep no dead letters of their own tasks.
    ("purge_dead", &[Producer]),
    ("requeue", &[]),
    ("configure", &[]),
    ("purge", &[]),
    ("inspect", &[Producer, Worker, Viewer]),
    ("find", &[Producer, Viewer]),
    ("list_dead", &[Viewer]),
    ("list_started", &[Producer, Viewer]),
    ("present", &[Worker]),
    // Behind what must outlive its primary.
    (MARK, &[Producer, Worker]),
    ("fleet", &[Producer, Worker, Viewer]),
];

/// The kinds of objects, each with what its functions begin with.
const OF_OBJECTS: &[(&str, &[&str])] = &[
    ("lock", &["sem_", "cond_"]),
    ("semaphore", &["sem_"]),
    ("event", &["event_"]),
    ("barrier", &["barrier_"]),
    ("queue", &["queue_"]),
    ("pipe", &["pipe_"]),
    ("list", &["list_"]),
    ("dict", &["dict_"]),
    ("namespace", &["dict_"]),
    ("array", &["array_"]),
    ("value", &["array_"]),
];
/// The kinds whose changes outlive their primary where that is asked for, and so have the function for it.
const LASTING: &[&str] = &["queue"];
/// The functions of objects of any kind.
const OF_ANY: &[&str] = &["attach", "detach", "renew", "unlink", "refs"];

/// The verbs of the task system that a role calls.
pub(super) fn of_role(role: Role) -> impl Iterator<Item = &'static str> {
    let calls = move |roles: &[Role]| role == Role::Admin || roles.contains(&role);
    let of_tasks = OF_TASKS.iter().filter(move |(_, roles)| calls(roles));
    let of_objects =
        super::inner::verbs().filter(move |verb| role == Role::Admin && is_of_objects(verb));
    of_tasks.map(|(verb, _)| *verb).chain(of_objects)
}

/// The verbs of a kind of objects.
pub(super) fn of_kind(kind: &'static str) -> impl Iterator<Item = &'static str> {
    let prefixes = OF_OBJECTS
        .iter()
        .filter(move |(word, _)| *word == kind)
        .flat_map(|(_, prefixes)| *prefixes);
    let prefixes: Vec<&str> = prefixes.copied().collect();
    super::inner::verbs().filter(move |verb| {
        let has_prefix = || prefixes.iter().any(|prefix| verb.starts_with(prefix));
        (*verb == MARK && LASTING.contains(&kind))
            || (is_of_objects(verb) && (OF_ANY.contains(verb) || has_prefix()))
    })
}

/// The words for the kinds of objects.
pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
    OF_OBJECTS.iter().map(|(word, _)| *word)
}

fn is_of_tasks(verb: &str) -> bool {
    OF_TASKS.iter().any(|(known, _)| *known == verb)
}

fn is_of_objects(verb: &str) -> bool {
    let mut prefixes = OF_OBJECTS.iter().flat_map(|(_, prefixes)| *prefixes);
    !is_of_tasks(verb)
        && (OF_ANY.contains(&verb) || prefixes.any(|prefix| verb.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_belongs_to_a_role_or_to_a_kind_of_objects() {
        for verb in crate::acl::inner::verbs() {
            assert!(
                is_of_tasks(verb) || is_of_objects(verb),
                "{verb} is in no table: who may call it?"
            );
        }
        for (verb, _) in OF_TASKS {
            assert!(
                crate::acl::inner::verbs().any(|known| known == *verb),
                "{verb} is gone"
            );
        }
    }
}
