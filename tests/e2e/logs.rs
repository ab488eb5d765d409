//! What processes print: live, in order, replayed from anywhere, bounded, and never at the cost of the process.

use std::fs;
use std::time::{Duration, Instant};

use pmq_broker::process::{Log, Piece, Stream};
use pmq_broker::task_queue::{Settings, Signal};
use pmq_broker::{Outcome, Task, TaskId};
use pmq_tests::{Proxy, Redis, RedisServer, eventually, shared};
use tokio::time::timeout;

use crate::fleet::{Fleet, LONG, SOON, name, pass, pmq_at};

const WORKER: &str = "-c 4 --allow-commands --kill-after 300ms";

/// A process that runs `script` in a shell.
fn process(fleet: &Fleet, script: &str) -> Task {
    let mut task = fleet.sh(script);
    task.process = true;
    task.with_completions(name("done"))
}

/// All that a reader got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Got {
    out: String,
    err: String,
    /// Both streams in the order in which they came.
    both: String,
    lost: u64,
}

impl Got {
    fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Output { stream, bytes, .. } => {
                let text = String::from_utf8_lossy(&bytes);
                self.both += &text;
                match stream {
                    Stream::Stdout => self.out += &text,
                    Stream::Stderr => self.err += &text,
                }
            }
            Piece::Lost { bytes } => self.lost += bytes,
        }
    }
}

/// Reads a log to its end.
async fn read(mut log: Log) -> Got {
    let mut got = Got::default();
    let reading = async {
        while let Some(piece) = log.next().await.unwrap() {
            got.add(piece);
        }
    };
    timeout(LONG, reading).await.expect("the log ends");
    got
}

/// Reads until something was printed that contains `text`.
async fn read_until(log: &mut Log, text: &str) -> Got {
    let mut got = Got::default();
    let reading = async {
        while !got.both.contains(text) {
            got.add(log.next().await.unwrap().expect("it is printed"));
        }
    };
    timeout(SOON, reading).await.expect("it comes soon");
    got
}

async fn ended(fleet: &Fleet, id: TaskId) {
    fleet.queue.wait(&[id], LONG).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_streams_come_live_and_in_order_and_can_be_replayed() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let script = "wait_for() { while ! [ -e $DIR/$1 ]; do sleep 0.01; done; }
        for i in 1 2 3 4 5; do echo out$i; wait_for $i.out; echo err$i >&2; wait_for $i.err; done";
    let id = fleet.submit(&process(&fleet, script)).await;
    let mut live = fleet.queue.log(id).follow(true);
    // Each line is printed only after the one before it has been read.
    for i in 1..=5 {
        for (word, file) in [("out", "out"), ("err", "err")] {
            let got = read_until(&mut live, &format!("{word}{i}\n")).await;
            assert_eq!(got.both, format!("{word}{i}\n"));
            fs::write(fleet.path(&format!("{i}.{file}")), "").unwrap();
        }
    }
    assert_eq!(read(live).await, Got::default());
    let whole = read(fleet.queue.log(id)).await;
    assert_eq!(whole.out, "out1\nout2\nout3\nout4\nout5\n");
    assert_eq!(whole.err, "err1\nerr2\nerr3\nerr4\nerr5\n");
    assert_eq!(
        whole.both,
        "out1\nerr1\nout2\nerr2\nout3\nerr3\nout4\nerr4\nout5\nerr5\n"
    );
    for offset in [1, 5, 12, 49, 50, 1000] {
        let rest = read(fleet.queue.log(id).from(offset)).await;
        assert_eq!(rest.both, whole.both[50.min(offset as usize)..]);
        assert_eq!(rest.lost, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_read_within_100_ms_of_its_print_and_the_end_with_the_process() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let script = "for i in $(seq 40); do sleep 0.03; date +%s%N; done";
    let id = fleet.submit(&process(&fleet, script)).await;
    let mut log = fleet.queue.log(id).follow(true);
    let mut delays = Vec::new();
    while let Some(piece) = timeout(SOON, log.next()).await.unwrap().unwrap() {
        let Piece::Output { bytes, .. } = piece else {
            panic!("{piece:?}")
        };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_nanos();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        delays.extend(text.lines().map(|at| now - at.parse::<u128>().unwrap()));
    }
    let over = Instant::now();
    ended(&fleet, id).await;
    assert!(over.elapsed() < Duration::from_secs(1), "it ended with it");
    delays.sort_unstable();
    assert_eq!(delays.len(), 40);
    assert!(delays[20] < 100_000_000, "median {} ns", delays[20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_the_end_can_read_the_whole_log() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    for n in [0, 1, 1000, 100_000] {
        let id = fleet.submit(&process(&fleet, &format!("seq {n}"))).await;
        ended(&fleet, id).await;
        let got = read(fleet.queue.log(id)).await;
        let numbers = got.out.lines().map(|line| line.parse::<u32>().unwrap());
        assert!(numbers.eq(1..=n), "all of {n}, in order");
        assert_eq!(got.lost, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_task_has_no_log_and_a_follower_of_it_ends_with_it() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let id = fleet.submit(&fleet.sh("echo plain")).await;
    assert_eq!(read(fleet.queue.log(id).follow(true)).await, Got::default());
    assert_eq!(fleet.completion().await.output().0, b"plain\n");
    let unknown = read(fleet.queue.log(TaskId::new()).follow(true)).await;
    assert_eq!(unknown, Got::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_loses_the_oldest_and_is_told_how_much() {
    let fleet = Fleet::new().await;
    let settings = Settings {
        log_max: Some(100_000),
        ..Settings::default()
    };
    fleet.queue.configure(&settings).await.unwrap();
    let _worker = fleet.worker(WORKER);
    let script = "echo first; while ! [ -e $DIR/go ]; do sleep 0.01; done; seq 100000; echo last";
    let id = fleet.submit(&process(&fleet, script)).await;
    let mut slow = fleet.queue.log(id).follow(true);
    assert_eq!(read_until(&mut slow, "first").await.lost, 0);
    fs::write(fleet.path("go"), "").unwrap();
    ended(&fleet, id).await;
    let got = read(slow).await;
    let printed = (1..=100_000)
        .map(|i| format!("{i}\n").len() as u64)
        .sum::<u64>()
        + 5;
    assert_eq!(got.lost + got.both.len() as u64, printed, "no byte untold");
    assert!(got.lost > printed - 100_000 - 2 * 65_536, "{}", got.lost);
    assert!(got.both.ends_with("\n100000\nlast\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_prints_to_its_log() {
    let fleet = Fleet::new().await;
    let _worker = fleet.handlers(1);
    let mut task = Task::handler("print", "hello");
    task.process = true;
    let id = fleet.submit(&task).await;
    let got = read(fleet.queue.log(id).follow(true)).await;
    assert_eq!(got.out, "hello 1\nhello 2\nhello 3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_process_that_is_lost_with_its_worker_ends_when_that_is_known() {
    let fleet = Fleet::new().await;
    let mut worker = fleet.worker(&format!("{WORKER} --lease 1s"));
    let mut task = process(&fleet, "echo alive; exec sleep 600");
    task.retry.crashes = 1;
    let id = fleet.submit(&task).await;
    let mut log = fleet.queue.log(id).follow(true);
    assert_eq!(read_until(&mut log, "alive").await.lost, 0);
    worker.kill();
    let _another = fleet.worker(&format!("{WORKER} --lease 1s"));
    assert_eq!(read(log).await, Got::default());
    assert_eq!(read(fleet.queue.log(id)).await.out, "alive\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_goes_on_behind_the_first() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let mut task = process(&fleet, "echo run $PMQ_ATTEMPT; [ $PMQ_ATTEMPT = 2 ]");
    task.retry.attempts = 2;
    task.retry.floor = Duration::from_millis(1);
    let id = fleet.submit(&task).await;
    let got = read(fleet.queue.log(id).follow(true)).await;
    assert_eq!((got.out.as_str(), got.lost), ("run 1\nrun 2\n", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_holds_no_process_up_and_what_it_cost_is_counted() {
    const PRINTED: u64 = 8 * 1024 * 1024;
    let server = RedisServer::builder().tcp(true).start();
    let proxy = Proxy::to(&server);
    let fleet = Fleet::at(server.url()).await;
    let _worker = fleet.worker_of(&pmq_at(proxy.url()), WORKER);
    let script = "echo before; while ! [ -e $DIR/away ]; do sleep 0.01; done
        head -c 8388608 /dev/zero; touch $DIR/printed
        while ! [ -e $DIR/back ]; do sleep 0.01; done; echo after";
    let id = fleet.submit(&process(&fleet, script)).await;
    let mut log = fleet.queue.log(id).follow(true);
    assert_eq!(read_until(&mut log, "before").await.lost, 0);
    proxy.hole(true);
    fs::write(fleet.path("away"), "").unwrap();
    let path = fleet.path("printed");
    let asked = Instant::now();
    eventually("the process goes on", SOON, || path.exists().then_some(()));
    assert!(
        asked.elapsed() < Duration::from_secs(8),
        "{:?}",
        asked.elapsed()
    );
    proxy.hole(false);
    fs::write(fleet.path("back"), "").unwrap();
    let got = read(log).await;
    assert!(got.out.ends_with("after\n"));
    assert_eq!(got.lost + got.out.len() as u64, PRINTED + 6);
    assert!(got.lost > PRINTED / 2, "{}", got.lost);
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_broker_takes_the_log_and_not_the_process() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let _worker = fleet.worker(WORKER);
    let script = "echo before; while ! [ -e $DIR/full ]; do sleep 0.01; done; seq 1000";
    let id = fleet.submit(&process(&fleet, script)).await;
    let mut log = fleet.queue.log(id).follow(true);
    assert_eq!(read_until(&mut log, "before").await.lost, 0);
    let limit = |bytes| {
        let command = redis::cmd("CONFIG")
            .arg(&["SET", "maxmemory", bytes])
            .to_owned();
        command.exec(&mut server.connection()).unwrap();
    };
    limit("1");
    fs::write(fleet.path("full"), "").unwrap();
    let got = read(log).await;
    limit("0");
    assert_eq!(got.both, "");
    // The completion was posted, so only the worker can tell how much it was.
    let completion = fleet.completion().await;
    assert_eq!(
        (completion.outcome, completion.report.log),
        (Outcome::Ok, Some(7 + 3893))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_mebibytes_take_bounded_memory_and_all_logs_together_too() {
    let server = RedisServer::start();
    let fleet = Fleet::at(server.url()).await;
    let settings = Settings {
        logs_max: Some(10 << 20),
        ..Settings::default()
    };
    fleet.queue.configure(&settings).await.unwrap();
    let _worker = fleet.worker(&format!("{WORKER} --capture 1000"));
    let mut connection = server.connection();
    let mut used = || {
        let info: String = redis::cmd("INFO")
            .arg("memory")
            .query(&mut connection)
            .unwrap();
        let line = info
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = used();
    for _ in 0..4 {
        let id = fleet
            .submit(&process(&fleet, "head -c 104857600 /dev/zero"))
            .await;
        fleet.queue.wait(&[id], Duration::ZERO).await.unwrap();
    }
    let mut most = 0;
    eventually("all have ended", LONG, || {
        most = most.max(used());
        let done = redis::cmd("LLEN")
            .arg(fleet.queue.first().keys().done(&crate::fleet::name("done")))
            .query::<u64>(&mut server.connection());
        (done.unwrap() == 4).then_some(())
    });
    // Of 400 MiB; what is unlinked is counted until a thread of the server has freed it.
    assert!(most - before < 48 << 20, "{} bytes more", most - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_with_the_retention_but_not_while_its_process_runs() {
    let fleet = Fleet::new().await;
    let settings = Settings {
        retention: Some(Duration::from_secs(1)),
        ..Settings::default()
    };
    fleet.queue.configure(&settings).await.unwrap();
    let _worker = fleet.worker(WORKER);
    let id = fleet
        .submit(&process(&fleet, "echo here; exec sleep 600"))
        .await;
    let mut log = fleet.queue.log(id).follow(true);
    assert_eq!(read_until(&mut log, "here").await.lost, 0);
    pass(Duration::from_secs(3));
    assert_eq!(read(fleet.queue.log(id)).await.out, "here\n");
    fleet.queue.cancel(&[id], Signal::Terminate).await.unwrap();
    assert_eq!(read(log).await, Got::default());
    let mut connection = shared().raw();
    eventually(
        "the log and all that tells of it have expired",
        SOON,
        || {
            let keys = fleet.shard_of(id).keys();
            let keys = [keys.log(id), keys.logs()];
            let left: u64 = redis::cmd("EXISTS")
                .arg(&keys)
                .query(&mut connection)
                .unwrap();
            (left == 0).then_some(())
        },
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pmq_logs_prints_each_stream_byte_for_byte_and_replays_from_an_offset() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let script = r"printf 'o\377\000'; sleep 0.1; printf 'e\n' >&2";
    let id = fleet.submit(&process(&fleet, script)).await.to_string();
    let pmq = fleet.pmq();
    let followed = pmq.run(["logs", "-f", &id]).expect_code(0);
    assert_eq!(
        (&followed.stdout[..], &followed.stderr[..]),
        (&b"o\xff\0"[..], &b"e\n"[..])
    );
    let rest = pmq.run(["logs", "--offset", "2", &id]).expect_code(0);
    assert_eq!(
        (&rest.stdout[..], &rest.stderr[..]),
        (&b"\0"[..], &b"e\n"[..])
    );
    let one = pmq.run(["logs", "--stream", "stderr", &id]).expect_code(0);
    assert_eq!((&one.stdout[..], &one.stderr[..]), (&b""[..], &b"e\n"[..]));
    let json = pmq.run(["--json", "logs", &id]).expect_code(0).json();
    assert_eq!(json.len(), 2);
    assert_eq!(
        (&json[0]["stream"], &json[0]["base64"]),
        (&"stdout".into(), &"b/8A".into())
    );
    assert_eq!(
        (&json[1]["offset"], &json[1]["text"]),
        (&3.into(), &"e\n".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pmq_logs_shows_lines_as_they_come_and_tells_what_is_lost() {
    let fleet = Fleet::new().await;
    let settings = Settings {
        log_max: Some(1000),
        ..Settings::default()
    };
    fleet.queue.configure(&settings).await.unwrap();
    let _worker = fleet.worker(WORKER);
    let script = "seq 100000; sleep 0.1; echo last; while ! [ -e $DIR/go ]; do sleep 0.01; done";
    let id = fleet.submit(&process(&fleet, script)).await.to_string();
    let mut log = fleet.queue.log(id.parse().unwrap()).follow(true);
    let _ = read_until(&mut log, "last").await;
    let following = fleet.pmq().spawn(["logs", "-f", &id]);
    let _ = following.wait_for_line("last");
    let lost = following.wait_for_line("pmq: lost ");
    fs::write(fleet.path("go"), "").unwrap();
    let shown = following.wait().expect_code(0);
    let lost: usize = lost.split(' ').nth(2).unwrap().parse().unwrap();
    assert_eq!(lost + shown.stdout.len(), 588_895 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn pmq_logs_of_a_plain_task_is_what_its_completion_keeps() {
    let fleet = Fleet::new().await;
    let pmq = fleet.pmq();
    let task = fleet.sh("echo out; echo err >&2");
    let id = fleet.submit(&task).await.to_string();
    let early = pmq.run(["logs", &id]).expect_code(0);
    assert!(early.error_text().contains("has printed nothing yet"));
    let queue = fleet.queue.name().as_str();
    let _worker = pmq.spawn(["worker", "-q", queue, "--allow-commands"]);
    let followed = pmq.run(["logs", "-f", &id]).expect_code(0);
    assert_eq!(
        (followed.text(), followed.error_text()),
        ("out\n".into(), "err\n".into())
    );
    let rest = pmq.run(["logs", "--offset", "5", &id]).expect_code(0);
    assert_eq!(
        (rest.text(), rest.error_text()),
        (String::new(), "rr\n".into())
    );

    let posted = Task {
        completions: Some(crate::fleet::name("done")),
        ..fleet.sh("echo out")
    };
    let id = fleet.submit(&posted).await;
    ended(&fleet, id).await;
    let none = pmq.run(["logs", &id.to_string()]).expect_code(0);
    assert!(none.text().is_empty() && none.error_text().contains("nothing is kept of"));

    let unknown = pmq.run(["logs", &TaskId::new().to_string()]).expect_code(1);
    assert!(
        unknown.error_text().contains("is known"),
        "{}",
        unknown.error_text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pmq_logs_ends_with_an_interrupt_and_the_process_goes_on() {
    let fleet = Fleet::new().await;
    let _worker = fleet.worker(WORKER);
    let script = "echo ready; while ! [ -e $DIR/go ]; do sleep 0.01; done";
    let id = fleet.submit(&process(&fleet, script)).await;
    let following = fleet.pmq().spawn(["logs", "-f", &id.to_string()]);
    let _ = following.wait_for_line("ready");
    following.interrupt();
    let _ = following.wait().expect_code(130);
    fs::write(fleet.path("go"), "").unwrap();
    assert_eq!(fleet.completion().await.outcome, Outcome::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_leaves_no_log_behind() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker(WORKER);
    let id = fleet.submit(&process(&fleet, "echo here")).await;
    ended(&fleet, id).await;
    worker.terminate();
    let _ = worker.wait();
    fleet.queue.delete().await.unwrap();
    assert_eq!(read(fleet.queue.log(id)).await, Got::default());
}
