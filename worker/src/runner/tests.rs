//! Runners against real children.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::child::testing::{eventually, guard, pid_in, wait_until_dead};
use crate::child::{CommandError, Exit};

/// Whether there is a Python to write runners in; says so where there is not.
fn has_python() -> bool {
    let found = Command::new("python3")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: there is no python3");
    }
    found
}

fn python(script: &str, depth: usize) -> Runner {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let program = Program::new(["python3".into(), script]);
    Runner::start(
        Config {
            depth,
            ..Config::new(program)
        },
        guard(),
    )
}

/// The runner of tests.py, with room for three tasks.
fn naughty() -> Runner {
    python("src/runner/tests.py", 3)
}

fn shell(script: &str) -> Runner {
    Runner::start(Config::new(Program::new(["sh", "-c", script])), guard())
}

fn request(name: &str, args: &Value) -> Request {
    Request {
        id: Uuid::now_v7(),
        name: name.into(),
        attempt: 1,
        queue: "default".into(),
        content_type: "application/json".into(),
        body: args.to_string().into(),
    }
}

async fn call(runner: &Runner, args: Value) -> Result<Value, RunnerError> {
    call_with(runner, args, None, Stop::new()).await
}

async fn call_with(
    runner: &Runner,
    args: Value,
    timeout: Option<Duration>,
    stop: Stop,
) -> Result<Value, RunnerError> {
    match runner.call(&request("test", &args), timeout, stop).await? {
        Answer::Result(json) => Ok(serde_json::from_slice(&json).unwrap()),
        Answer::Error { message, .. } => panic!("the runner failed: {message}"),
    }
}

/// Calls with `bad` while two good tasks stand behind it in the child, which must then run in the
/// next child; gives the error of the bad one.
async fn fails_alone(mut bad: Value) -> RunnerError {
    let runner = naughty();
    let before = call(&runner, json!({})).await.unwrap();
    bad["swallow"] = 2.into();
    let (bad, second, third) = tokio::join!(
        call(&runner, bad),
        call(&runner, json!({"n": 2})),
        call(&runner, json!({"n": 3}))
    );
    let (second, third) = (second.unwrap(), third.unwrap());
    assert_eq!(
        (&second["task"]["args"]["n"], &third["task"]["args"]["n"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(second["pid"], third["pid"]);
    assert_ne!(second["pid"], before["pid"]);
    bad.expect_err("the child did not answer this")
}

#[tokio::test]
async fn the_example_squares() {
    if !has_python() {
        return;
    }
    let runner = python("../pmq/examples/runner/square.py", 4);
    let ask = async |name: &str, args: Value| {
        runner
            .call(&request(name, &args), None, Stop::new())
            .await
            .expect("the example answers")
    };
    assert_eq!(ask("square", json!(12)).await, Answer::Result("144".into()));
    assert_eq!(
        runner.tasks().as_deref(),
        Some(&["square".to_owned(), "cube".to_owned()][..])
    );
    let (two, three) = tokio::join!(ask("cube", json!(2)), ask("cube", json!(3)));
    assert_eq!(
        (two, three),
        (Answer::Result("8".into()), Answer::Result("27".into()))
    );
    assert!(matches!(
        ask("square", json!("x")).await,
        Answer::Error { retry: true, .. }
    ));
    assert!(matches!(
        ask("root", json!(4)).await,
        Answer::Error { retry: false, .. }
    ));
}

#[tokio::test]
async fn a_task_arrives_whole_and_leaves_the_child_alive() {
    if !has_python() {
        return;
    }
    let runner = naughty();
    let big = "é\n".repeat(1 << 20);
    let first = call(&runner, json!({"text": big})).await.unwrap();
    assert_eq!(first["task"]["args"]["text"], big);
    assert_eq!(first["task"]["queue"], "default");
    let answers = tokio::join!(call(&runner, json!({})), call(&runner, json!({})));
    assert_eq!(answers.0.unwrap()["pid"], first["pid"]);
    assert_eq!(answers.1.unwrap()["pid"], first["pid"]);
}

#[tokio::test]
async fn a_child_that_dies_fails_its_oldest_task_only() {
    if has_python() {
        let error = fails_alone(json!({"do": "die"})).await;
        assert!(
            matches!(
                error,
                RunnerError::Died {
                    exit: Exit::Code(3)
                }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_counts_even_if_the_child_dies_after_it() {
    if has_python() {
        let answer = call(&naughty(), json!({"do": "answer and die"})).await;
        assert_eq!(answer.unwrap(), "done");
    }
}

#[tokio::test]
async fn garbage_fails_the_oldest_task_and_shows_how_it_began() {
    if has_python() {
        let error =
            fails_alone(json!({"say": "x".repeat(300) + "\n", "do": "hang", "file": "hung"})).await;
        assert!(
            matches!(&error, RunnerError::Garbage { line } if *line == "x".repeat(200)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_an_unknown_task_is_garbage() {
    if has_python() {
        let stray = json!({"id": Uuid::now_v7(), "result": 1}).to_string() + "\n";
        let error = fails_alone(json!({"say": stray, "do": "hang", "file": "hung"})).await;
        assert!(
            matches!(&error, RunnerError::Garbage { line } if line.starts_with("{\"id\"")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_line_without_end_is_garbage() {
    if has_python() {
        let error = fails_alone(json!({"say": "y".repeat(1 << 10), "times": 17 << 10})).await;
        assert!(
            matches!(&error, RunnerError::Garbage { line } if *line == "y".repeat(200)),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_hangs_is_killed_when_its_time_is_up() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let runner = naughty();
    // So that the start of Python does not use up the task's time.
    call(&runner, json!({})).await.unwrap();
    let endless = json!({"do": "hang", "file": file, "swallow": 1});
    let time = Some(Duration::from_secs(1));
    let (hung, behind) = tokio::join!(
        call_with(&runner, endless, time, Stop::new()),
        call(&runner, json!({}))
    );
    assert!(matches!(hung, Err(RunnerError::TimedOut)));
    assert_ne!(behind.unwrap()["pid"], pid_in(&file));
    wait_until_dead(pid_in(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_a_task_kills_the_child_under_it_only() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file: PathBuf = directory.path().join("pid");
    let runner = naughty();
    let (oldest, behind) = (Stop::new(), Stop::new());
    let endless = json!({"do": "hang", "file": file, "swallow": 2});
    let stop = async {
        let file = file.clone();
        let pid = tokio::task::spawn_blocking(move || pid_in(&file))
            .await
            .unwrap();
        behind.cancel();
        oldest.cancel();
        pid
    };
    let (hung, stopped, good, pid) = tokio::join!(
        call_with(&runner, endless, None, oldest.clone()),
        call_with(&runner, json!({"do": "die"}), None, behind.clone()),
        call(&runner, json!({})),
        stop,
    );
    assert!(matches!(hung, Err(RunnerError::Stopped)));
    assert!(matches!(stopped, Err(RunnerError::Stopped)));
    assert_ne!(good.unwrap()["pid"], pid);
    wait_until_dead(pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_dies_at_once_is_started_ever_more_slowly() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("starts");
    let began = Instant::now();
    let runner = shell(&format!("echo >>{}; exit 1", file.display()));
    let error = call(&runner, json!({})).await.unwrap_err();
    assert!(
        matches!(
            error,
            RunnerError::Died {
                exit: Exit::Code(1)
            }
        ),
        "{error}"
    );
    let starts = || std::fs::read(&file).map_or(0, |lines| lines.len());
    eventually("four starts", || (starts() >= 4).then_some(()));
    assert!(began.elapsed() >= Duration::from_millis(100 + 200 + 400));
}

#[tokio::test]
async fn a_runner_that_cannot_start_fails_every_call() {
    let runner = Runner::start(Config::new(Program::new(["pmq-no-such-runner"])), guard());
    let answers = tokio::join!(call(&runner, json!({})), call(&runner, json!({})));
    for answer in [answers.0, answers.1] {
        let Err(RunnerError::Start { source }) = answer else {
            panic!("it started")
        };
        assert!(matches!(*source, CommandError::NotFound { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_ends_the_child_and_what_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let [own, background] = ["own", "background"].map(|name| directory.path().join(name));
    let runner = shell(&format!(
        "sleep 600 & echo $! >{}; echo $$ >{}; cat >/dev/null",
        background.display(),
        own.display()
    ));
    let (own, background) = (pid_in(&own), pid_in(&background));
    drop(runner.clone());
    assert!(crate::child::testing::is_alive(own));
    drop(runner);
    wait_until_dead(own);
    wait_until_dead(background);
}
