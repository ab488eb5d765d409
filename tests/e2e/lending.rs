//! Lending: a task that waits for its own children does not hold the slot that they need.

mod words;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pmq_broker::task_queue::{Signal, State};
use pmq_broker::{Due, Outcome, Task, TaskId};
use pmq_tests::eventually;
use pmq_tests::program::Running;
use rustix::process::{Pid, kill_process};

use crate::fleet::{Fleet, SOON, pass};

const DEPTH: usize = 50;
/// Until the file that is named after the task's own word is there.
const UNTIL: &str = r#"until_there() { while ! [ -e "$DIR/$1" ]; do sleep 0.02; done; }"#;

impl Fleet {
    /// Starts a worker with one slot, whose commands find `$pmq`.
    fn one_slot(&self, flags: &str) -> Running {
        let pmq = self
            .pmq()
            .env("PMQ_REDIS_URL", self.url())
            .env("DIR", self.path(""))
            .env("pmq", env!("CARGO_BIN_EXE_pmq-under-test"));
        self.worker_of(&pmq, &format!("-c 1 --allow-commands {flags}"))
    }

    /// A task that nobody runs until the end of the test, to be waited for.
    async fn later(&self) -> TaskId {
        let mut task = self.sh("true");
        task.due = Due::After(Duration::from_secs(3600));
        self.submit(&task).await
    }

    async fn end(&self, id: TaskId) {
        self.queue.cancel(&[id], Signal::Terminate).await.unwrap();
    }

    fn create(&self, file: &str) {
        fs::write(self.path(file), "").unwrap();
    }

    /// Waits until some line of the record says `text`, and answers what follows in it.
    fn wait_for_note(&self, text: &str) -> String {
        eventually(&format!("the record says {text}"), SOON, || {
            let said = |line: String| Some(line.split_once(text)?.1.trim().to_owned());
            self.record().into_iter().find_map(said)
        })
    }

    /// Sees that tasks run one at a time again, and that the worker's slots are all there.
    async fn expect_one_slot(&self) {
        let script = format!("{UNTIL}; record first; until_there second");
        self.submit(&self.sh(&script)).await;
        let second = self.submit(&self.sh("record second")).await;
        self.wait_for_note(" first");
        pass(Duration::from_millis(300));
        let state = self.queue.find(second).await.unwrap().state;
        assert_eq!(state, State::Ready, "there is one slot, and it is taken");
        self.create("second");
        self.wait_for_note(" second");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_wait_for_their_children_go_fifty_deep_on_one_slot() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(1);
    fleet
        .submit(&Task::handler("descend", DEPTH.to_string()))
        .await;
    let ended = fleet.completions(DEPTH + 1).await;
    assert!(
        ended.values().all(|c| c.outcome == Outcome::Ok),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_wait_for_their_children_go_fifty_deep_on_one_slot() {
    let fleet = Fleet::new().await;
    let script = r#"
        echo "$1 in slot $PMQ_SLOT" >> "$DIR/record"
        [ "$1" = 0 ] || exec "$pmq" submit -q "$PMQ_QUEUE" --wait -- sh "$0" $(($1 - 1))"#;
    let file = fleet.path("descend.sh");
    fs::write(&file, script).unwrap();
    let _worker = fleet.one_slot("");
    let root = ["sh", file.to_str().unwrap(), &DEPTH.to_string()];
    fleet.submit(&Task::command(root)).await;
    let ended = fleet.completions(DEPTH + 1).await;
    assert!(
        ended.values().all(|c| c.outcome == Outcome::Ok),
        "{ended:?}"
    );
    // Each has a number of its own, as they all live at the same time.
    let expected: Vec<String> = (0..=DEPTH)
        .map(|i| format!("{} in slot {}", DEPTH - i, i + 1))
        .collect();
    assert_eq!(fleet.record(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_within_a_command_runs_its_jobs_in_the_slot_of_the_command() {
    let fleet = Fleet::new().await;
    let _worker = fleet.one_slot("");
    let map = r#""$pmq" map -k -q "$PMQ_QUEUE" echo {} ::: 1 2 3"#;
    fleet.submit(&fleet.sh(map)).await;
    let completion = fleet.completion().await;
    assert_eq!(completion.output().0, b"1\n2\n3\n", "{completion:?}");
    fleet.expect_one_slot().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_worker_stays_while_a_task_waits_for_its_children() {
    let fleet = Fleet::new().await;
    let parent = r#"for i in 1 2 3; do "$pmq" submit -q "$PMQ_QUEUE" --wait -- true || exit; done"#;
    let parent = fleet.submit(&fleet.sh(parent)).await;
    let worker = fleet.one_slot("--burst");
    let _ = worker.wait().expect_code(0);
    let ended = fleet.completions(4).await;
    assert_eq!(ended[&parent].outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lender_goes_on_at_once_although_another_task_took_its_slot() {
    let fleet = Fleet::new().await;
    let _worker = fleet.one_slot("");
    let child = fleet.later().await;
    let parent = format!(r#"record waits; "$pmq" wait {child}; record goes on"#);
    fleet.submit(&fleet.sh(&parent)).await;
    fleet.wait_for_note("waits");
    let borrower = format!("{UNTIL}; record borrowed; until_there returned");
    fleet.submit(&fleet.sh(&borrower)).await;
    fleet.wait_for_note("borrowed");
    fleet.end(child).await;
    fleet.wait_for_note("goes on");
    fleet.create("returned");
    fleet.completions(2).await;
    fleet.expect_one_slot().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_killed_while_it_lends_gives_everything_back() {
    let fleet = Fleet::new().await;
    let _worker = fleet.one_slot("");
    let child = fleet.later().await;
    let parent = format!(r#"record pid $$; exec "$pmq" wait {child}"#);
    let parent = fleet.submit(&fleet.sh(&parent)).await;
    let pid: i32 = fleet.wait_for_note(" pid ").parse().unwrap();
    let borrower = fleet.submit(&fleet.sh("record borrowed")).await;
    fleet.wait_for_note("borrowed");
    kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    let ended = fleet.completions(2).await;
    assert_eq!(ended[&borrower].outcome, Outcome::Ok);
    assert_eq!(ended[&parent].exit, Some(-9));
    fleet.expect_one_slot().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_program_lends_its_own_slot_and_no_other_and_nothing_of_the_socket_is_left() {
    let fleet = Fleet::new().await;
    let worker = fleet.one_slot("");
    let script = format!(
        "{UNTIL}; record socket $PMQ_WORKER_SOCKET; record token $PMQ_LEND_TOKEN; until_there over"
    );
    fleet.submit(&fleet.sh(&script)).await;
    let (socket, token) = (fleet.wait_for_note("socket"), fleet.wait_for_note("token"));
    let connect = |line: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream
    };
    let closed = |mut stream: UnixStream| assert_eq!(stream.read(&mut [0]).unwrap(), 0);

    closed(connect("0123456789abcdef0123456789abcdef\n"));
    let next = fleet.submit(&fleet.sh("record ran")).await;
    pass(Duration::from_millis(300));
    assert_eq!(fleet.queue.find(next).await.unwrap().state, State::Ready);
    let lent = connect(&format!("{token}\n"));
    fleet.wait_for_note("ran");
    fleet.create("over");
    closed(lent);
    closed(connect(&format!("{token}\n")));

    fleet.completions(2).await;
    worker.terminate();
    let _ = worker.wait().expect_code(0);
    let directory = std::path::Path::new(&socket).parent().unwrap();
    assert!(!directory.exists(), "{socket}");
}
