//! Runners: handlers in another language, as the configuration file names them, and how they fail.

use std::fs;
use std::path::Path;

use pmq_broker::{Completion, Outcome, Task};
use pmq_tests::program::Running;

use crate::fleet::Fleet;

/// Misbehaves as its tasks tell it to.
const RUNNER: &str = r#"
import json, os, signal, sys

for line in sys.stdin.buffer:
    task = json.loads(line)
    args = task.get("args")
    if args == "die":
        os._exit(3)
    if args == "hang":
        signal.pause()
    answer = json.dumps({"id": task["id"], "result": [args, task["attempt"], os.getpid()]})
    print("this is no JSON" if args == "garbage" else answer, flush=True)
"#;

/// A worker with one slot whose runner is `script`, known for tasks named `tasks`.
fn worker(fleet: &Fleet, script: &Path, tasks: &str) -> Running {
    let config = fleet.path("pmq.toml");
    let script = script.display();
    let text = format!("[runners.test]\nargv = [\"python3\", \"{script}\"]\ntasks = {tasks}\n");
    fs::write(&config, text).unwrap();
    fleet.worker(&format!("-c 1 --config {}", config.display()))
}

/// Tells the runner to do this, once.
fn task(what: &str) -> Task {
    let mut task = Task::handler("do", format!("\"{what}\""));
    task.retry.attempts = 1;
    task
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs_as_it_is() {
    let fleet = Fleet::new().await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pmq/examples/runner/square.py");
    let _worker = worker(&fleet, &script, r#"["square", "cube"]"#);
    let (square, cube) = (Task::handler("square", "7"), Task::handler("cube", "3"));
    let mut bad = Task::handler("square", "\"seven\"");
    bad.retry.attempts = 1;
    fleet
        .queue
        .submit_many(&[square.clone(), cube.clone(), bad.clone()])
        .await
        .unwrap();
    let completions = fleet.completions(3).await;
    assert_eq!(completions[&square.id].result(), Some(&b"49"[..]));
    assert_eq!(completions[&cube.id].result(), Some(&b"27"[..]));
    let error = completions[&bad.id].report.error.clone().unwrap();
    assert!(error.starts_with("TypeError: "), "{error}");
}

/// What a runner's misbehaviour does to its task, and that the next task runs.
async fn misbehave(task: Task) -> Completion {
    let fleet = Fleet::new().await;
    let script = fleet.path("runner.py");
    fs::write(&script, RUNNER).unwrap();
    let _worker = worker(&fleet, &script, r#"["do"]"#);
    let next = self::task("well");
    fleet
        .queue
        .submit_many(&[task.clone(), next.clone()])
        .await
        .unwrap();
    let mut completions = fleet.completions(2).await;
    let next = &completions[&next.id];
    assert_eq!(next.outcome, Outcome::Ok);
    assert!(
        next.body.starts_with(b"[\"well\",1,") || next.body.starts_with(b"[\"well\", 1,"),
        "{next:?}"
    );
    completions.remove(&task.id).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_dies_fails_its_task_and_is_started_again() {
    let completion = misbehave(task("die")).await;
    assert_eq!(completion.outcome, Outcome::Failed);
    let error = completion.report.error.unwrap();
    assert!(
        error.contains("exit code 3") || error.contains("code 3"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_prints_garbage_fails_its_task_and_is_started_again() {
    let completion = misbehave(task("garbage")).await;
    assert_eq!(completion.outcome, Outcome::Failed);
    let error = completion.report.error.unwrap();
    assert!(
        error.contains("this is no JSON") || error.contains("JSON"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_hangs_is_replaced_at_its_tasks_timeout() {
    let mut hanging = task("hang");
    hanging.details.timeout_ms = 300;
    let completion = misbehave(hanging).await;
    assert_eq!(completion.outcome, Outcome::Failed);
    assert_eq!(
        completion.report.error.as_deref(),
        Some("timed out after 300 ms")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_sets_no_variable_and_no_directory_of_a_command_of_the_configuration_file() {
    let fleet = Fleet::new().await;
    let config = fleet.path("pmq.toml");
    let script = "echo \"$BAD\"; pwd";
    fs::write(
        &config,
        format!("[tasks.show]\nargv = [\"sh\", \"-c\", '{script}']\n"),
    )
    .unwrap();
    let _worker = fleet.worker(&format!("-c 1 --config {}", config.display()));
    let mut task = Task::handler("show", "{}");
    task.details.env = vec![("BAD".into(), "injected".into())];
    task.details.cwd = "/".into();
    fleet.submit(&task).await;
    let completion = fleet.completion().await;
    let output = String::from_utf8(completion.output().0.to_vec()).unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!((completion.outcome, lines[0]), (Outcome::Ok, ""));
    assert_ne!(lines[1], "/");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_the_configuration_file_runs_without_the_right_to_run_any() {
    let fleet = Fleet::new().await;
    let config = fleet.path("pmq.toml");
    fs::write(
        &config,
        "[tasks.greet]\nargv = [\"echo\", \"hello\", \"{name:str}\"]\n",
    )
    .unwrap();
    let _worker = fleet.worker(&format!("-c 1 --config {}", config.display()));
    fleet
        .submit(&Task::handler("greet", r#"{"name": "$(id); world"}"#))
        .await;
    let completion = fleet.completion().await;
    assert_eq!(completion.output().0, b"hello $(id); world\n");
}
