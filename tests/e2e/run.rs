//! `pmq run`, `ps`, `kill`, `terminate` and `join`: a command elsewhere, as if it ran here.

use std::fs;

use pmq_broker::TaskId;
use pmq_tests::program::Running;
use pmq_tests::{Program, eventually};

use crate::fleet::{Fleet, LONG, SOON, is_alive};

const PMQ: &str = env!("CARGO_BIN_EXE_pmq-under-test");

impl Fleet {
    /// `pmq run` on this queue, with these flags and this script; `$DIR` is the fleet's directory.
    fn run<'a>(&self, flags: &[&'a str], script: &'a str) -> Vec<String> {
        let directory = format!("DIR={}", self.path("").display());
        let fixed = ["run", "-q", self.queue.name().as_str(), "--env", &directory];
        let command = ["--", "sh", "-c", script];
        let words = fixed.iter().chain(flags).chain(&command);
        words.map(ToString::to_string).collect()
    }

    /// Waits until the script has written its pid.
    fn pid(&self) -> u32 {
        let text = || fs::read_to_string(self.path("pid")).ok();
        eventually("it writes its pid", SOON, || {
            text()
                .filter(|text| text.ends_with('\n'))
                .map(|text| text.trim().parse().unwrap())
        })
    }

    /// Starts a process that runs until it is stopped, and leaves it.
    fn detached(&self, flags: &[&str]) -> String {
        let flags = [flags, &["--detach"]].concat();
        let finished = self
            .pmq()
            .run(self.run(&flags, "echo $$ > $DIR/pid; exec sleep 600"))
            .expect_code(0);
        let id = finished.text().trim().to_owned();
        id.parse::<TaskId>().unwrap();
        id
    }
}

fn dies(pid: u32) {
    eventually("the remote process ends", LONG, || {
        (!is_alive(pid)).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_streams_and_the_exit_code_arrive_as_they_were() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = r"printf 'a\377\000b'; echo oops >&2; exit 7";
    let finished = fleet.pmq().run(fleet.run(&[], script)).expect_code(7);
    assert_eq!(finished.stdout, b"a\xff\0b");
    assert_eq!(finished.error_text(), "oops\n");
    let words = ["run", "-q", fleet.queue.name().as_str(), "cat", "--", "-"];
    let finished = fleet.pmq().feed(words, b"not for it").expect_code(0);
    assert_eq!(finished.text(), "", "its standard input is empty");
    let status = fleet.queue.status().await.unwrap();
    assert_eq!((status.dead, status.completions.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_on_both_streams_arrives_whole_and_in_order() {
    const LINES: usize = 20_000;
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); \
        echo \"out $i of a line that is long enough to make a few mebibytes of them all\"; \
        echo \"err $i of a line that is long enough to make a few mebibytes of them all\" >&2; done; exit 7";
    let finished = fleet.pmq().run(fleet.run(&[], script)).expect_code(7);
    let expected = |word: &str| -> String {
        let rest = "of a line that is long enough to make a few mebibytes of them all";
        let lines: Vec<String> = (1..=LINES).map(|i| format!("{word} {i} {rest}")).collect();
        lines.join("\n") + "\n"
    };
    assert!(finished.text() == expected("out"));
    assert!(finished.error_text() == expected("err"));
}

/// A log keeps less than that, so the command must wait for its reader.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_arrives_whole() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let finished = fleet
        .pmq()
        .run(fleet.run(&[], "seq 3000000"))
        .expect_code(0);
    let mut expected = (1..=3_000_000_u32).map(|i| i.to_string());
    let text = finished.text();
    let mut lines = text.lines();
    assert!(lines.by_ref().eq(expected.by_ref()), "some is missing");
    assert_eq!(finished.error_text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_arrives_while_it_runs() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "echo here; echo there >&2; until [ -e $DIR/go ]; do sleep 0.02; done";
    let run = fleet.pmq().spawn(fleet.run(&[], script));
    let _ = run.wait_for_line("here");
    let _ = run.wait_for_line("there");
    assert_eq!(run.error_lines(), ["there"]);
    fs::write(fleet.path("go"), "").unwrap();
    let _ = run.wait().expect_code(0);
}

/// Each level waits for the next, so each lends its one slot.
#[tokio::test(flavor = "multi_thread")]
async fn runs_within_runs_need_one_slot() {
    const DEPTH: usize = 8;
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let queue = fleet.queue.name();
    let level = format!("{PMQ} --redis {} run -q {queue} -- ", fleet.url());
    let script = format!("{}echo at the bottom", level.repeat(DEPTH));
    let finished = fleet.pmq().run(fleet.run(&[], &script)).expect_code(0);
    assert_eq!(finished.text(), "at the bottom\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_128_more_and_what_does_not_start_says_why() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let _ = fleet
        .pmq()
        .run(fleet.run(&[], "kill -KILL $$"))
        .expect_code(137);
    let queue = fleet.queue.name().as_str();
    let words = ["run", "-q", queue, "--", "pmq-no-such-program"];
    let finished = fleet.pmq().run(words).expect_code(127);
    assert!(finished.error_text().contains("pmq-no-such-program"));
    let finished = fleet
        .pmq()
        .run(fleet.run(&["--timeout", "200ms"], "exec sleep 600"))
        .expect_code(124);
    assert_eq!(finished.text(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_terminates_it_and_a_second_one_kills_it() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --kill-after 10m --allow-commands");
    let script = "echo $$ > $DIR/pid; exec sleep 600";
    let run = fleet.pmq().spawn(fleet.run(&[], script));
    let pid = fleet.pid();
    run.interrupt();
    let _ = run.wait().expect_code(143);
    assert!(!is_alive(pid));
    fs::remove_file(fleet.path("pid")).unwrap();
    let deaf = "trap 'echo $$ > $DIR/told' TERM; echo $$ > $DIR/pid; while :; do sleep 0.02; done";
    let run = fleet.pmq().spawn(fleet.run(&[], deaf));
    let pid = fleet.pid();
    run.terminate();
    eventually("it is terminated, in vain", SOON, || {
        fleet.path("told").exists().then_some(())
    });
    run.interrupt();
    let _ = run.wait().expect_code(137);
    assert!(!is_alive(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_that_is_ignored_stops_nothing() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "kill -HUP $PMQ_PARENT_PID; echo one; until [ -e $DIR/1 ]; do sleep 0.02; done; \
        echo two; until [ -e $DIR/2 ]; do sleep 0.02; done";
    let sh = Program::new("sh").timeout(LONG);
    let words = ["-c", "trap '' HUP; exec \"$@\"", "sh", PMQ, "--redis"].map(str::to_owned);
    let words = words.into_iter().chain([fleet.url().to_owned()]);
    let run = sh.spawn(words.chain(fleet.run(&[], script)));
    for (line, file) in [("one", "1"), ("two", "2")] {
        let _ = run.wait_for_line(line);
        fs::write(fleet.path(file), "").unwrap();
    }
    let _ = run.wait().expect_code(0);
}

/// Nobody but those who wait is there to notice that the worker is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_only_worker_was_killed_ends_for_those_who_wait() {
    let fleet = Fleet::new().await;
    let mut worker = fleet.worker("-c 1 --lease 1s --allow-commands");
    let id = fleet.detached(&[]);
    let queue = fleet.queue.name().as_str();
    worker.kill();
    let join = fleet.pmq().spawn(["join", "-q", queue, &id]);
    let wait = fleet.pmq().spawn(["wait", "-q", queue, &id]);
    let logs = fleet.pmq().spawn(["logs", "-f", "-q", queue, &id]);
    let _ = join.wait().expect_code(137);
    let _ = wait.wait().expect_code(137);
    let _ = logs.wait().expect_code(0);
    let _ = fleet.pmq().run(["kill", "-q", queue, &id]).expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_with_a_killed_pmq_run() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let script = "echo $$ > $DIR/pid; exec sleep 600";
    let mut run: Running = fleet.pmq().spawn(fleet.run(&[], script));
    let pid = fleet.pid();
    run.kill();
    assert!(is_alive(pid));
    dies(pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_behind_is_listed_joined_and_killed() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let id = fleet.detached(&["--name", "server"]);
    let pid = fleet.pid();
    assert!(is_alive(pid));
    let queue = fleet.queue.name().as_str();
    let listed = fleet.pmq().run(["ps", "-q", queue, "--json"]).json();
    assert_eq!(listed.len(), 1);
    let row = &listed[0];
    assert_eq!(row["id"], id.as_str());
    assert_eq!((&row["name"], &row["pid"]), (&"server".into(), &pid.into()));
    assert_eq!(row["state"], "running");
    let table = fleet.pmq().run(["ps", "-q", queue]).expect_code(0).text();
    assert!(table.contains("server") && table.contains(&pid.to_string()));

    let task = fleet
        .submit(&fleet.sh("record; exec sleep 600"))
        .await
        .to_string();
    fleet.wait_for_record(1);
    assert_eq!(
        fleet.pmq().run(["ps", "-q", queue, "--json"]).json().len(),
        1
    );
    let all = fleet.pmq().run(["ps", "-q", queue, "--all", "--json"]);
    assert_eq!(all.json().len(), 2);

    let words = ["join", "-q", queue, "--timeout", "100ms", &id];
    let _ = fleet.pmq().run(words).expect_code(124);
    let _ = fleet
        .pmq()
        .run(["kill", "-q", queue, &id, &task])
        .expect_code(0);
    assert!(!is_alive(pid), "it returns when the process is dead");
    let _ = fleet.pmq().run(["join", "-q", queue, &id]).expect_code(137);
    let _ = fleet.pmq().run(["kill", "-q", queue, &id]).expect_code(0);
    assert!(fleet.pmq().run(["ps", "-q", queue]).text().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn terminating_is_found_by_id_alone_and_an_unknown_id_is_an_error() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 1 --allow-commands");
    let id = fleet.detached(&[]);
    let pid = fleet.pid();
    let _ = fleet.pmq().run(["terminate", &id]).expect_code(0);
    assert!(!is_alive(pid));
    let _ = fleet.pmq().run(["join", &id]).expect_code(143);
    let nobody = TaskId::new().to_string();
    for command in ["kill", "terminate", "join"] {
        let finished = fleet.pmq().run([command, &nobody]).expect_code(1);
        let text = finished.error_text();
        assert!(text.contains(&nobody) && text.contains("hint: "), "{text}");
        assert!(!text.contains("on queue"), "all queues were asked: {text}");
    }
    let other = TaskId::new().to_string();
    let both = fleet.pmq().run(["kill", &nobody, &other]).expect_code(1);
    let text = both.error_text();
    assert!(text.contains(&nobody) && text.contains(&other), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_it_gives_up_with_a_hint() {
    let fleet = Fleet::new().await;
    let finished = fleet
        .pmq()
        .run(fleet.run(&["--start-timeout", "300ms"], "echo ran"))
        .expect_code(69);
    let text = finished.error_text();
    assert!(
        text.contains("hint: ") && text.contains("pmq worker"),
        "{text}"
    );
    assert_eq!(fleet.queue.status().await.unwrap().ready, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_within_a_run_ends_with_it() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker("-c 2 --allow-commands");
    let queue = fleet.queue.name();
    let inner = format!(
        "exec {PMQ} --redis {} run -q {queue} --env DIR=$DIR -- sh -c 'echo $$ > $DIR/pid; exec sleep 600'",
        fleet.url()
    );
    let run = fleet.pmq().spawn(fleet.run(&[], &inner));
    let pid = fleet.pid();
    run.interrupt();
    let _ = run.wait();
    dies(pid);
}

#[test]
fn on_this_machine_it_needs_neither_a_url_nor_a_worker() {
    let pmq = Program::new(PMQ).timeout(LONG);
    let here = pmq_tests::Scratch::new();
    let pmq = pmq.directory(here.path());
    let words = ["run", "--", "sh", "-c", "pwd; echo oops >&2; exit 3"];
    let finished = pmq.run(words).expect_code(3);
    let real = fs::canonicalize(here.path()).unwrap();
    assert_eq!(finished.text().trim(), real.to_str().unwrap());
    assert_eq!(finished.error_text(), "oops\n");
    let left = pmq.run(["queue", "ls", "--json"]).json();
    assert!(left.is_empty(), "{left:?}");
    let detached = ["run", "--detach", "--start-timeout", "100ms", "true"];
    let _ = pmq.run(detached).expect_code(69);
}
