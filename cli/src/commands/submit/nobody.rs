//! The warning that nobody is there to run a task. The task waits for whoever comes.

use pmq_broker::{TaskQueue, Work};

use crate::fleet;
use crate::output::note;

/// Says so where no live worker serves the queue, or none runs such work.
pub(super) async fn warn(queue: &TaskQueue, work: Option<&Work>) {
    // The tasks are in already or will be: a look that fails must not make this call fail.
    let Ok(mut workers) = fleet::workers(queue.broker()).await else {
        return;
    };
    let name = queue.name();
    workers.retain(|worker| worker.serves(name));
    let is_command = !matches!(work, Some(Work::Handler(_)));
    let flag = if is_command && !queue.broker().is_local() {
        " --allow-commands"
    } else {
        ""
    };
    if workers.is_empty() {
        note(&format!(
            "note: no live worker serves queue {name}; start one with `pmq worker -q {name}{flag}`"
        ));
        return;
    }
    match work.filter(|work| !workers.iter().any(|worker| worker.runs(work))) {
        Some(Work::Command(_)) => note(&format!(
            "note: no live worker of queue {name} runs commands; start one with `pmq worker -q {name} --allow-commands`"
        )),
        Some(Work::Handler(task)) => {
            note(&format!(
                "note: no live worker of queue {name} runs tasks named {task:?}"
            ));
        }
        None => {}
    }
}
