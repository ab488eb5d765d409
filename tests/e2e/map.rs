//! `pmq map`: real commands on real files.

mod fleet;
mod stop;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pmq_tests::{Program, Scratch, eventually};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const SOON: Duration = Duration::from_secs(20);

/// `pmq`, in a directory of its own.
fn pmq(directory: &Scratch) -> Program {
    Program::new(env!("CARGO_BIN_EXE_pmq-under-test")).directory(directory.path())
}

/// `map FLAGS -- sh -c SCRIPT - {} ::: ARGUMENTS`.
fn sh(flags: &str, script: &str, arguments: &str) -> Vec<OsString> {
    let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
    let mut argv = words("map");
    if !flags.is_empty() {
        argv.extend(words(flags));
    }
    argv.extend(["--", "sh", "-c", script, "-", "{}", ":::"].map(OsString::from));
    argv.extend(words(arguments));
    argv
}

/// The process id that a job wrote to a file.
fn pid_in(path: &Path) -> Pid {
    eventually("a job writes its process id", SOON, || {
        let text = fs::read_to_string(path).ok()?;
        // Without the newline it may not be whole.
        Pid::from_raw(text.strip_suffix('\n')?.parse().ok()?)
    })
}

fn wait_until_dead(pid: Pid) {
    eventually("the process is gone", SOON, || {
        let is_zombie = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
            stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        (test_kill_process(pid).is_err() || is_zombie()).then_some(())
    });
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("the file is there");
    text.lines().map(String::from).collect()
}

/// What `sha256sum` prints for files, here and now.
fn checksums(directory: &Path, names: &[String]) -> Vec<u8> {
    let mut command = Command::new("sha256sum");
    let output = command.args(names).current_dir(directory).output();
    let output = output.expect("sha256sum runs");
    assert!(output.status.success());
    output.stdout
}

#[test]
fn files_are_compressed_and_checksummed_though_a_worker_is_killed() {
    let directory = Scratch::new();
    let names: Vec<String> = (0..500).map(|n| format!("file {n:03}.log")).collect();
    for (n, name) in names.iter().enumerate() {
        let lines = (0..n + 20).fold(String::new(), |mut lines, line| {
            let _ = writeln!(lines, "{} event {}", line * 7919 % (n + 3), n * line);
            lines
        });
        fs::write(directory.join(name), lines).unwrap();
    }
    // The first attempt at one of them hangs until its worker is killed.
    let script = r#"case $PMQ_ATTEMPT$1 in
        "1file 250.log") echo $PPID >killed.tmp; mv killed.tmp killed; sleep 600 ;;
        esac
        gzip -9 -k "$1" && sha256sum "$1""#;
    let input = names.join("\n") + "\n";
    let pmq = pmq(&directory);
    let finished = std::thread::scope(|scope| {
        let argv = ["map", "-k", "-j", "4", "--workers", "4", "--", "sh", "-c"];
        let argv = argv.into_iter().chain([script, "-", "{}"]);
        let run = scope.spawn(|| pmq.feed(argv, input.as_bytes()));
        let worker = pid_in(&directory.join("killed"));
        kill_process(worker, Signal::KILL).unwrap();
        run.join().unwrap()
    });
    let finished = finished.expect_code(0);
    assert_eq!(finished.error_text(), "");
    assert!(finished.stdout == checksums(directory.path(), &names));
    for name in &names {
        let packed = directory.join(format!("{name}.gz"));
        let unpacked = Command::new("gzip").arg("-dc").arg(packed).output();
        assert!(unpacked.unwrap().stdout == fs::read(directory.join(name)).unwrap());
    }
}

#[test]
fn a_run_whose_only_worker_is_killed_gets_another() {
    let directory = Scratch::new();
    let script = "if [ $PMQ_ATTEMPT = 1 ]; then echo $PPID >tmp; mv tmp worker; sleep 600; fi; echo $PMQ_ATTEMPT";
    let running = pmq(&directory).spawn(sh("-j 1", script, "a"));
    kill_process(pid_in(&directory.join("worker")), Signal::KILL).unwrap();
    assert_eq!(running.wait().expect_code(0).text(), "2\n");
}

#[test]
fn output_comes_as_jobs_end_or_in_the_order_of_the_input() {
    // The first job ends after the last, and that well after the second, whose end is known by then.
    let script = "case $1 in 1) until [ -e 3 ]; do sleep 0.01; done;; 3) sleep 0.5;; esac; echo $1; touch $1";
    for (flags, first) in [("-j 3", "1"), ("-j 3 -k", "")] {
        let directory = Scratch::new();
        let finished = pmq(&directory)
            .run(sh(flags, script, "1 2 3"))
            .expect_code(0);
        let lines = finished.lines();
        assert_eq!(lines.len(), 3);
        if first.is_empty() {
            assert_eq!(lines, ["1", "2", "3"]);
        } else {
            assert_ne!(lines[0], first);
        }
    }
}

#[test]
fn each_line_has_the_tag_of_its_job() {
    let directory = Scratch::new();
    let script = "echo out $1; echo again; echo err >&2";
    let finished = pmq(&directory)
        .run(sh("-k --tag", script, "a b.x"))
        .expect_code(0);
    assert_eq!(
        finished.text(),
        "a\tout a\na\tagain\nb.x\tout b.x\nb.x\tagain\n"
    );
    assert_eq!(finished.error_text(), "a\terr\nb.x\terr\n");
    let finished = pmq(&directory).run(sh("-k --tagstring {#}:{.}", "echo $1", "a b.x"));
    assert_eq!(finished.expect_code(0).text(), "1:a\ta\n2:b\tb.x\n");
}

#[test]
fn a_run_resumes_by_its_joblog() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    let script = "echo $1 >>ran; exit $(cat code.$1 2>/dev/null || echo 0)";
    fs::write(directory.join("code.b"), "3").unwrap();
    let run = |flags: &str, arguments: &str, code| {
        let finished = pmq.run(sh(flags, script, arguments)).expect_code(code);
        let ran = fs::read_to_string(directory.join("ran")).unwrap_or_default();
        let _ = fs::remove_file(directory.join("ran"));
        (
            ran.split_whitespace().map(String::from).collect::<Vec<_>>(),
            finished,
        )
    };
    assert_eq!(run("-j 1 --joblog log", "a b c", 1).0, ["a", "b", "c"]);
    let log = lines(&directory.join("log"));
    let fields: Vec<&str> = log[2].split('\t').collect();
    assert_eq!(
        (fields[0], fields[1], fields[6], fields[7]),
        ("2", ":", "3", "0")
    );
    assert!(fields[8].ends_with(" - b"), "{}", log[2]);

    assert_eq!(run("-j 1 --joblog log --resume", "a b c d", 0).0, ["d"]);
    assert_eq!(
        run("-j 1 --joblog log --resume-failed", "a b c d", 1).0,
        ["b"]
    );
    fs::remove_file(directory.join("code.b")).unwrap();
    assert_eq!(
        run("-j 1 --joblog log --retry-failed", "ignored", 0).0,
        ["b"]
    );
    assert!(
        run("-j 1 --joblog log --resume-failed", "a b c d", 0)
            .0
            .is_empty()
    );

    let (ran, finished) = run("-j 1 --joblog log --resume", "x b c d", 2);
    assert!(ran.is_empty());
    assert!(
        finished
            .error_text()
            .contains("job 1 is another command in the joblog")
    );
    fs::write(directory.join("log"), "something else\n").unwrap();
    let (_, finished) = run("-j 1 --joblog log --resume", "a", 2);
    assert!(finished.error_text().contains("is not a joblog"));
}

#[test]
fn a_dry_run_prints_the_commands_and_touches_nothing() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    let finished = pmq.run([
        "map",
        "--dry-run",
        "--",
        "rm",
        "-f",
        "{}",
        "{.}.o",
        ":::",
        "a b.c",
        "$x",
    ]);
    assert_eq!(
        finished.expect_code(0).text(),
        "rm -f 'a b.c' 'a b.o'\nrm -f '$x' '$x.o'\n"
    );
    assert!(fs::read_dir(pmq.home()).unwrap().next().is_none());
}

#[test]
fn file_names_that_are_not_utf8_arrive_as_they_are() {
    let directory = Scratch::new();
    let name = OsStr::from_bytes(b"caf\xe9 \xff.txt");
    let listed = directory.path().join(name);
    fs::write(&listed, "x").unwrap();
    let pmq = pmq(&directory);
    let printf = [
        "map",
        "--",
        "sh",
        "-c",
        r#"cat "$1" && printf %s "$1""#,
        "-",
        "{}",
    ];
    let from_stdin = pmq
        .feed(printf, &[name.as_bytes(), b"\n"].concat())
        .expect_code(0);
    assert_eq!(from_stdin.stdout, b"xcaf\xe9 \xff.txt");
    let argv = printf.iter().map(OsString::from);
    let listed = pmq
        .run(argv.chain([":::".into(), name.to_owned()]))
        .expect_code(0);
    assert_eq!(listed.stdout, b"xcaf\xe9 \xff.txt");
    let output = pmq.run(["map", "--", "printf", r"\377{}", ":::", "a"]);
    assert_eq!(output.expect_code(0).stdout, b"\xffa");
}

#[test]
fn jobs_have_the_callers_directory_and_environment() {
    let directory = Scratch::new();
    let pmq = pmq(&directory).env("COLOUR", "green");
    let script = r#"echo "$(pwd) $COLOUR $SIZE""#;
    let finished = pmq.run(sh("--env SIZE=7", script, "a")).expect_code(0);
    assert_eq!(
        finished.text(),
        format!("{} green 7\n", directory.path().display())
    );
    let there = directory.join("there");
    fs::create_dir(&there).unwrap();
    let flags = format!("--cwd {}", there.display());
    let finished = pmq.run(sh(&flags, "pwd", "a")).expect_code(0);
    assert_eq!(
        PathBuf::from(
            OsString::from_vec(finished.stdout)
                .into_string()
                .unwrap()
                .trim_end()
        ),
        there
    );
}

#[test]
fn no_input_is_no_job() {
    let directory = Scratch::new();
    let finished = pmq(&directory)
        .feed(["map", "--", "touch", "ran"], b"")
        .expect_code(0);
    assert_eq!(
        (finished.text(), finished.error_text()),
        (String::new(), String::new())
    );
    assert!(!directory.join("ran").exists());
}

#[test]
fn the_exit_code_counts_the_failed_jobs() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    let _ = pmq.run(sh("", "exit $1", "0 1 0 2 3")).expect_code(3);
    let input = "1\n".repeat(105);
    let _ = pmq
        .feed(["map", "-j", "8", "--", "false"], input.as_bytes())
        .expect_code(101);
    let killed = pmq
        .run(sh("--joblog log", "kill -9 $$", "a"))
        .expect_code(1);
    assert_eq!(killed.error_text(), "");
    assert!(lines(&directory.join("log"))[1].contains("\t0\t9\t"));
}

#[test]
fn a_job_that_cannot_run_or_takes_too_long_says_why() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    let missing = pmq.run([
        "map",
        "--joblog",
        "log",
        "--",
        "no-such-program",
        "{}",
        ":::",
        "a",
    ]);
    let missing = missing.expect_code(1).error_text();
    assert!(
        missing.contains(r#"job 1 (no-such-program a): no program "no-such-program""#),
        "{missing}"
    );
    assert!(lines(&directory.join("log"))[1].contains("\t127\t0\t"));
    let late = pmq
        .run(sh("--timeout 100ms --joblog log", "exec sleep 600", "a"))
        .expect_code(1);
    assert!(late.error_text().contains("timed out after 100 ms"));
    assert!(lines(&directory.join("log"))[1].contains("\t-1\t15\t"));
}

#[test]
fn a_failed_job_is_tried_as_often_as_asked() {
    let directory = Scratch::new();
    let script = "echo $PMQ_ATTEMPT; test $PMQ_ATTEMPT = 2";
    let finished = pmq(&directory).run(sh("--attempts 2", script, "a"));
    assert_eq!(finished.expect_code(0).text(), "2\n");
}

#[test]
fn wrong_calls_are_refused_before_anything_runs() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    let cases: [&[&str]; 7] = [
        &["map"],
        &["map", "--halt", "sometimes", "--", "echo"],
        &["map", "-j", "0", "--", "echo"],
        &["map", "--resume", "--", "echo"],
        &["map", "--timeout", "-5", "--", "echo"],
        &["map", "--", "echo", "{3}", ":::", "a"],
        &["map", "--", "echo", "{%}"],
    ];
    for arguments in cases {
        let refused = pmq.run(arguments).expect_code(2);
        assert!(!refused.error_text().is_empty(), "{arguments:?}");
    }
    let missing = pmq
        .run(["map", "-a", "no/such/list", "--", "echo"])
        .expect_code(1);
    assert!(missing.error_text().contains("no/such/list"));
    let nul = pmq
        .feed(["map", "-k", "--", "echo"], b"a\nb\0c\n")
        .expect_code(1);
    assert_eq!(nul.text(), "a\n");
    assert!(nul.error_text().contains("holds a NUL byte"));
}

#[test]
fn json_has_one_completion_a_line() {
    let directory = Scratch::new();
    let argv = [
        "--json",
        "map",
        "-k",
        "--",
        "sh",
        "-c",
        "echo $1; exit $1",
        "-",
        "{}",
        ":::",
        "0",
        "3",
    ];
    let records = pmq(&directory).run(argv).expect_code(1).json();
    let field = |name: &str| {
        records
            .iter()
            .map(|r| r[name].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(field("seq"), ["1", "2"]);
    assert_eq!(field("outcome"), [r#""ok""#, r#""failed""#]);
    assert_eq!(field("exit"), ["0", "3"]);
    assert_eq!(field("stdout"), [r#""0\n""#, r#""3\n""#]);
}

#[test]
fn a_run_leaves_nothing_on_the_local_broker() {
    let directory = Scratch::new();
    let pmq = pmq(&directory);
    // Keeps the local broker up while the run comes and goes.
    let keeper = pmq.spawn(["worker", "-q", "kept"]);
    let _ = keeper.wait_for_line("serves kept");
    let _ = pmq.run(sh("", "exit $1", "0 1 2")).expect_code(2);
    let socket = eventually("the broker's socket", SOON, || find_socket(pmq.home()));
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(b"KEYS *\r\nQUIT\r\n").unwrap();
    let mut keys = String::new();
    stream.read_to_string(&mut keys).unwrap();
    assert!(keys.contains("pmq:fleet:{workers}:leases"), "{keys}");
    assert!(!keys.contains("map-"), "{keys}");
}

fn find_socket(directory: &Path) -> Option<PathBuf> {
    fs::read_dir(directory).ok()?.find_map(|entry| {
        let path = entry.ok()?.path();
        match path.extension() {
            Some(extension) if extension == "sock" => Some(path),
            _ if path.is_dir() => find_socket(&path),
            _ => None,
        }
    })
}
