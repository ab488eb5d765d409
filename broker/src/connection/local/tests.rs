//! The local broker with a real server, real processes and real kills.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::wire::Reply;
use super::*;

const LIMIT: Duration = Duration::from_secs(20);
/// Tells the test binary, run again by a test, which local broker to use.
const USER_DIR: &str = "PMQ_TEST_USER_DIR";

/// A local broker's directory; whatever still runs in it ends with the test.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn open(&self) -> LocalBroker {
        LocalBroker::open(&self.dir()).unwrap()
    }

    fn status(&self) -> LocalStatus {
        LocalBroker::status(&self.dir()).unwrap()
    }

    /// Writes an executable script. By another process: a file that this one has open for writing, or that
    /// a child inherits from another test's thread at that moment, cannot be executed.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let mut writer = Command::new("sh")
            .args(["-c", r#"cat > "$0" && chmod 755 "$0""#])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writer
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(writer.wait().unwrap().success());
        path
    }

    /// Opens with this server program in place of the one in `PATH`.
    fn open_with(&self, program: &Path) -> Result<LocalBroker, LocalError> {
        LocalBroker::open_with(&self.dir(), &|name| match name {
            "PMQ_SERVER_BIN" => Some(program.into()),
            other => process_env(other),
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = LocalBroker::stop(&self.dir(), true);
    }
}

/// Another process that uses the local broker until its standard input ends, or it is killed.
struct User {
    process: Child,
    server: u32,
}

impl User {
    fn spawn(dir: &Path) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "connection::local::tests::as_another_process",
                "--ignored",
                "--nocapture",
            ])
            .env(USER_DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Waits until the process has joined.
    fn joined(mut process: Child) -> Self {
        let output = BufReader::new(process.stdout.as_mut().unwrap());
        let mut servers = output
            .lines()
            .filter_map(|line| line.unwrap().strip_prefix("server ")?.parse().ok());
        let server = servers.next().expect("the process reports its server");
        Self { process, server }
    }

    fn leave(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        // This ends only if the server did not inherit the file.
        self.process
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut Vec::new())
            .unwrap();
    }
}

#[test]
#[ignore = "the process behind User::spawn"]
fn as_another_process() {
    let Some(dir) = std::env::var_os(USER_DIR) else {
        return;
    };
    let broker = LocalBroker::open(Path::new(&dir)).unwrap();
    println!("\nserver {}", pid(&broker));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn call(broker: &LocalBroker, command: &str) -> String {
    match wire::call(broker.socket(), command, LIMIT).unwrap() {
        Reply::Text(text) => text,
        Reply::Error(error) => panic!("{command}: {error}"),
    }
}

fn pid(broker: &LocalBroker) -> u32 {
    wire::process_id(broker.socket()).unwrap()
}

fn kill_server(broker: &LocalBroker) {
    let pid = Pid::from_raw(pid(broker).try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn users_share_one_server_and_the_last_one_stops_it() {
    let home = Home::new();
    let first = home.open();
    let second = home.open();
    let server = pid(&first);
    assert_eq!(pid(&second), server);

    drop(first);
    assert_eq!(pid(&second), server, "one user is left");

    let socket = second.socket().to_path_buf();
    drop(second);
    assert!(!home.status().is_running());
    assert!(!socket.exists());
    assert!(
        !LocalBroker::stop(&home.dir(), false).unwrap(),
        "nothing is left to stop"
    );
}

#[test]
fn the_server_is_private_durable_and_out_of_reach_of_ctrl_c() {
    let home = Home::new();
    let broker = home.open();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.dir()), 0o700);
    assert_eq!(mode(broker.socket()), 0o600);
    let info = call(&broker, "INFO");
    for line in ["aof_enabled:1", "maxmemory_policy:noeviction", "tcp_port:0"] {
        assert!(info.lines().any(|found| found == line), "{line}");
    }
    let server = Pid::from_raw(pid(&broker).try_into().unwrap());
    assert_eq!(
        rustix::process::getpgid(server).unwrap(),
        server.unwrap(),
        "a process group of its own"
    );
}

#[test]
fn racing_processes_get_one_server() {
    let home = Home::new();
    let racers: Vec<Child> = (0..4).map(|_| User::spawn(&home.dir())).collect();
    let users: Vec<User> = racers.into_iter().map(User::joined).collect();
    let server = users[0].server;
    assert!(users.iter().all(|user| user.server == server));
    assert_eq!(home.status().pid, Some(server));

    users.into_iter().for_each(User::leave);
    assert!(!home.status().is_running(), "the last of them stopped it");
}

#[test]
fn racing_users_come_and_go_without_losing_a_write() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    call(&home.open(), "INCR visits");
                }
            });
        }
    });
    assert!(!home.status().is_running());
    assert_eq!(call(&home.open(), "GET visits"), "20");
}

#[test]
fn data_survives_the_last_user() {
    let home = Home::new();
    let broker = home.open();
    for _ in 0..1000 {
        call(&broker, "INCR n");
    }
    drop(broker);
    assert!(home.status().data_bytes > 1000);
    assert_eq!(call(&home.open(), "GET n"), "1000");
}

#[test]
fn odd_directory_names_reach_the_server_unharmed() {
    let home = Home::new();
    let dir = home.0.path().join("it's \"an\" odd\\nämé");
    let broker = LocalBroker::open(&dir).unwrap();
    assert_eq!(call(&broker, "SET k v"), "OK");
    assert!(dir.join("appendonlydir").is_dir());
}

#[test]
fn a_killed_last_user_leaves_a_server_that_the_next_one_adopts() {
    let home = Home::new();
    let user = User::joined(User::spawn(&home.dir()));
    let server = user.server;
    assert!(home.status().in_use);
    user.kill();

    let left = home.status();
    assert_eq!(left.pid, Some(server));
    assert!(!left.in_use, "the kernel released its lock");

    let adopted = home.open();
    assert_eq!(pid(&adopted), server);
    drop(adopted);
    assert!(!home.status().is_running(), "whoever adopted it stops it");
}

#[test]
fn a_killed_server_comes_back_with_its_data() {
    let home = Home::new();
    let first = home.open();
    let killed = pid(&first);
    call(&first, "SET k v");
    let written = || {
        call(&first, "INFO persistence")
            .contains("aof_buffer_length:0\r")
            .then_some(())
    };
    poll::until(LIMIT, written).expect("the write reaches the file");
    kill_server(&first);

    let second = home.open();
    assert_ne!(pid(&second), killed);
    assert_eq!(call(&second, "GET k"), "v");

    kill_server(&second);
    first.ensure_running().unwrap();
    assert_eq!(call(&first, "GET k"), "v");
}

#[test]
fn an_older_server_refuses_newer_data_and_names_both() {
    let home = Home::new();
    drop(home.open());
    let own = home.status().version.unwrap();
    fs::write(
        home.dir().join("server-version"),
        format!("{} 99.1.0\n", own.kind),
    )
    .unwrap();

    let error = LocalBroker::open(&home.dir()).unwrap_err();
    assert!(matches!(error, LocalError::NewerData { .. }));
    let text = error.to_string();
    for part in [
        "99.1.0",
        &own.to_string(),
        "PMQ_SERVER_BIN",
        "pmq local wipe",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    LocalBroker::wipe(&home.dir(), false).unwrap();
    home.open();
}

#[test]
fn the_version_is_asked_once_for_each_program() {
    let home = Home::new();
    let real = binary::in_path("redis-server", &process_env)
        .or_else(|| binary::in_path("valkey-server", &process_env));
    let asked = home.0.path().join("asked");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && echo >> '{}'\nexec '{}' \"$@\"\n",
        asked.display(),
        real.unwrap().display()
    );
    let times = || fs::read_to_string(&asked).unwrap().lines().count();
    let program = home.script("redis", &text);
    home.open_with(&program).unwrap();
    home.open_with(&program).unwrap();
    assert_eq!(times(), 1);

    let replaced = home.script("redis", &format!("{text}# another one\n"));
    home.open_with(&replaced).unwrap();
    assert_eq!(times(), 2);
}

#[test]
fn a_server_that_exits_at_once_is_quoted() {
    let home = Home::new();
    let program = home.script(
        "broken",
        "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 'Redis server v=7.2.0 sha=0'\necho 'no bytes left'\nexit 1\n",
    );
    let error = home.open_with(&program).unwrap_err();
    assert!(
        matches!(&error, LocalError::Exited { last_lines, .. } if last_lines == "no bytes left"),
        "{error}"
    );
}

#[test]
fn unfit_server_programs_are_named() {
    let home = Home::new();
    let old = home.script("old", "#!/bin/sh\necho 'Redis server v=6.2.14 sha=0'\n");
    assert!(matches!(
        home.open_with(&old),
        Err(LocalError::ServerTooOld { .. })
    ));
    let other = home.script("other", "#!/bin/sh\necho 'cat (GNU coreutils) 9.1'\n");
    assert!(matches!(
        home.open_with(&other),
        Err(LocalError::UnknownServer { .. })
    ));
    let error = home
        .open_with(Path::new("/nowhere/redis-server"))
        .unwrap_err();
    assert!(error.to_string().contains("PMQ_SERVER_BIN"), "{error}");
}

#[test]
fn an_unfit_server_in_the_path_does_not_hide_a_fit_one() {
    let home = Home::new();
    home.script(
        "valkey-server",
        "#!/bin/sh\necho 'Valkey server v=6.0.0 sha=0'\n",
    );
    let mut path = home.0.path().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    let env = |name: &str| {
        if name == "PATH" {
            Some(path.clone())
        } else {
            None
        }
    };
    LocalBroker::open_with(&home.dir(), &env).unwrap();
}

#[test]
fn without_a_server_the_error_names_three_ways_out() {
    let home = Home::new();
    home.script("apt-get", "#!/bin/sh\n");
    let path: OsString = home.0.path().into();
    let env = |name: &str| (name == "PATH").then(|| path.clone());
    let text = LocalBroker::open_with(&home.dir(), &env)
        .unwrap_err()
        .to_string();
    for part in [
        "apt-get install redis-server",
        "--redis URL",
        "docker compose up",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_server_in_use_is_stopped_by_force_only() {
    let home = Home::new();
    let broker = home.open();
    let error = LocalBroker::stop(&home.dir(), false).unwrap_err();
    let LocalError::Busy { users, .. } = &error else {
        panic!("{error}")
    };
    assert!(
        users.is_empty() || *users == [std::process::id()],
        "{users:?}"
    );
    assert!(matches!(
        LocalBroker::wipe(&home.dir(), false),
        Err(LocalError::Busy { .. })
    ));
    assert_eq!(call(&broker, "PING"), "PONG");

    assert!(LocalBroker::stop(&home.dir(), true).unwrap());
    assert!(!home.status().is_running());
}

#[test]
fn status_of_a_directory_that_never_was_creates_nothing() {
    let home = Home::new();
    let status = home.status();
    assert!(!status.is_running() && !status.in_use && status.version.is_none());
    assert!(!home.dir().exists());
}

#[test]
fn wipe_removes_the_data_and_nothing_else() {
    let home = Home::new();
    let outside = home.0.path().join("outside");
    fs::write(&outside, "precious").unwrap();
    call(&home.open(), "SET k v");
    let foreign =
        ["notes.txt", "dump.rdb", "appendonlydir/notes.txt"].map(|name| home.dir().join(name));
    for path in &foreign {
        fs::write(path, "mine").unwrap();
    }
    symlink(
        &outside,
        home.dir().join("appendonlydir/appendonly.aof.9.incr.aof"),
    )
    .unwrap();

    LocalBroker::wipe(&home.dir(), false).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "precious");
    assert!(foreign.iter().all(|path| path.exists()));
    assert_eq!(home.status().version, None);
    assert_eq!(call(&home.open(), "EXISTS k"), "0");
}

#[test]
fn wipe_does_not_follow_a_linked_data_directory() {
    let home = Home::new();
    let outside = home.0.path().join("outside");
    drop(home.open());
    fs::rename(home.dir().join("appendonlydir"), &outside).unwrap();
    symlink(&outside, home.dir().join("appendonlydir")).unwrap();
    let files = || fs::read_dir(&outside).unwrap().count();
    let before = files();
    LocalBroker::wipe(&home.dir(), false).unwrap();
    assert_eq!(files(), before);
}
