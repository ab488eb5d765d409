//! Secrets show nowhere, however they are given: not in any output or log at its loudest, not in the arguments of any process,
//! not in the environment of what a program starts.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use pmq_broker::authkey::Authkey;
use pmq_tests::certificates::{Authority, HERE, Identity};
use pmq_tests::program::Running;
use pmq_tests::{Program, RedisServer, eventually};

use crate::fleet::SOON;
use crate::site::bare;

/// What a URL has to write in another way.
const PASSWORD: &str = "hunter2@wörd/%21";
const ENCODED: &str = "hunter2%40w%C3%B6rd%2F%2521";

/// A server that wants a password and a client certificate, and what opens it.
struct Vault {
    server: RedisServer,
    authority: Authority,
    own: Identity,
    authkey: String,
    home: Program,
}

impl Vault {
    fn new() -> Self {
        let authority = Authority::new();
        let server = RedisServer::builder()
            .tls(&authority.issue(&HERE), Some(&authority))
            .password(PASSWORD)
            .start();
        let vault = Self {
            server,
            own: authority.issue(&[]),
            authority,
            authkey: Authkey::generate(),
            home: bare().env("PMQ_LOG", "trace"),
        };
        fs::write(vault.file("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(vault.file("authkey"), &vault.authkey).unwrap();
        vault
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.home().join(name)
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.server.port().unwrap())
    }

    fn url_with_password(&self) -> String {
        self.url().replace("//", &format!("//default:{ENCODED}@"))
    }

    /// The command, at its loudest, which trusts the server.
    fn program(&self) -> Program {
        self.home.clone().env("PMQ_TLS_CA", self.authority.file())
    }

    fn with_certificate(&self, program: Program) -> Program {
        program
            .env("PMQ_TLS_CERT", &self.own.cert)
            .env("PMQ_TLS_KEY", &self.own.key)
    }

    /// All that must not show: the password in both forms, the authkey, each line of the private key.
    fn secrets(&self) -> Vec<String> {
        let key = fs::read_to_string(&self.own.key).unwrap();
        let lines = key.lines().filter(|line| !line.starts_with("-----"));
        let others = [PASSWORD, ENCODED, &self.authkey].map(str::to_owned);
        lines.map(str::to_owned).chain(others).collect()
    }

    #[track_caller]
    fn shows_nothing(&self, what: &str, text: &str) {
        for secret in self.secrets() {
            assert!(!text.contains(&secret), "{what} shows {secret}:\n{text}");
        }
    }
}

/// The processes that this one has started, and theirs.
fn descendants(of: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let (Some(pid), Some(parent)) = (pid, parent) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![of];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found.split_off(1)
}

fn of_process(pid: u32, part: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{part}")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', "\n")
}

/// Looks at a program whose command stands still, and at all that it started.
fn look_at(vault: &Vault, program: &Running, what: &str) {
    vault.shows_nothing(what, &of_process(program.pid(), "cmdline"));
    let started = descendants(program.pid());
    assert!(!started.is_empty(), "{what} has started a command");
    for pid in started {
        for part in ["cmdline", "environ"] {
            vault.shows_nothing(
                &format!("{part} of what {what} started"),
                &of_process(pid, part),
            );
        }
    }
}

/// Runs everything that starts or tells something, with a program that was given the secrets in one way; `flags` go before
/// each command.
fn nothing_shows(vault: &Vault, pmq: &Program, flags: &[&str]) {
    let words = |line: &[&str]| -> Vec<String> {
        flags
            .iter()
            .chain(line)
            .map(|word| (*word).to_owned())
            .collect()
    };
    let worker = pmq.spawn(words(&["worker", "-c", "2", "--allow-commands"]));
    let _ = worker.wait_for_line("serves");
    let stay = |name: &str| {
        let (started, release) = (
            vault.file(&format!("{name}-started")),
            vault.file("release"),
        );
        let (started, release) = (started.display(), release.display());
        format!("env; touch {started}; while ! [ -e {release} ]; do sleep 0.05; done")
    };
    let submit = pmq.spawn(words(&[
        "submit",
        "--wait",
        "--",
        "sh",
        "-c",
        &stay("task"),
    ]));
    let lock = pmq.spawn(words(&["lock", "l", "--", "sh", "-c", &stay("lock")]));
    for name in ["task", "lock"] {
        let started = vault.file(&format!("{name}-started"));
        eventually("the commands run", SOON, || started.exists().then_some(()));
    }
    look_at(vault, &worker, "worker");
    look_at(vault, &lock, "lock");
    vault.shows_nothing("submit", &of_process(submit.pid(), "cmdline"));
    fs::write(vault.file("release"), "").unwrap();
    let mut said = vec![submit.wait().expect_code(0), lock.wait().expect_code(0)];
    for line in [
        &["run", "--", "env"][..],
        &["map", "echo", "{}", ":::", "a"],
        &["put", "fruit", "apple"],
        &["get", "fruit"],
        &["doctor"],
        &["doctor", "--json"],
        &["status", "--json"],
    ] {
        said.push(pmq.run(words(line)).expect_code(0));
    }
    worker.terminate();
    said.push(worker.wait().expect_code(0));
    for ended in &said {
        vault.shows_nothing("standard output", &ended.text());
        vault.shows_nothing("standard error", &ended.error_text());
    }
    let loud = said.last().unwrap().error_text();
    assert!(loud.contains("DEBUG") || loud.contains("TRACE"), "{loud}");
}

/// The errors of a server that wants something else, and of one that is gone.
fn errors_show_nothing(vault: &mut Vault, pmq: &Program, flags: &[&str]) {
    let status = || pmq.run(flags.iter().copied().chain(["status"]));
    let set = |password: &str, server: &RedisServer| {
        let set = ["SET", "requirepass", password];
        redis::cmd("CONFIG")
            .arg(&set)
            .exec(&mut server.connection())
            .unwrap();
    };
    set("another", &vault.server);
    let refused = status().expect_code(69).error_text();
    assert!(refused.contains("wrong user name or password"), "{refused}");
    vault.shows_nothing("the error", &refused);
    vault.server.kill();
    let gone = status().expect_code(69).error_text();
    vault.shows_nothing("the error", &gone);
}

#[test]
fn given_as_texts_of_the_environment() {
    let mut vault = Vault::new();
    let pmq = vault
        .with_certificate(vault.program())
        .env("PMQ_REDIS_URL", vault.url_with_password())
        .env("PMQ_REDIS_PASSWORD", PASSWORD)
        .env("PMQ_AUTHKEY", &vault.authkey);
    nothing_shows(&vault, &pmq, &[]);
    errors_show_nothing(&mut vault, &pmq, &[]);
}

#[test]
fn given_as_files_of_the_environment() {
    let mut vault = Vault::new();
    let pmq = vault
        .with_certificate(vault.program())
        .env("PMQ_REDIS_URL", vault.url())
        .env("PMQ_REDIS_PASSWORD_FILE", vault.file("password"))
        .env("PMQ_AUTHKEY_FILE", vault.file("authkey"));
    nothing_shows(&vault, &pmq, &[]);
    errors_show_nothing(&mut vault, &pmq, &[]);
}

#[test]
fn given_in_the_configuration_file() {
    let mut vault = Vault::new();
    let text = format!(
        "authkey_file = {:?}\n[redis]\nurl = {:?}\ntls_cert = {:?}\ntls_key = {:?}\n",
        vault.file("authkey"),
        vault.url_with_password(),
        vault.own.cert,
        vault.own.key
    );
    let file = vault.file("pmq.toml");
    fs::write(&file, text).unwrap();
    let flags = ["--config", file.to_str().unwrap()];
    let pmq = vault.program();
    nothing_shows(&vault, &pmq, &flags);
    errors_show_nothing(&mut vault, &pmq, &flags);
}

#[test]
fn given_as_files_by_flags() {
    let mut vault = Vault::new();
    let (key, authkey) = (vault.own.key.clone(), vault.file("authkey"));
    let cert = vault.own.cert.clone();
    let url = vault.url();
    let flags = [
        "--redis",
        &url,
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
        "--authkey-file",
        authkey.to_str().unwrap(),
    ];
    let pmq = vault.program();
    let pmq = pmq.env("PMQ_REDIS_PASSWORD_FILE", vault.file("password"));
    nothing_shows(&vault, &pmq, &flags);
    errors_show_nothing(&mut vault, &pmq, &flags);
}

/// Files that are none show nothing of what they hold.
#[test]
fn held_by_files_that_can_not_be_used() {
    let vault = Vault::new();
    let bad = vault.file("bad");
    fs::write(&bad, format!("{} {PASSWORD}\n", vault.authkey)).unwrap();
    let pmq = || {
        vault
            .program()
            .env("PMQ_REDIS_URL", vault.url_with_password())
    };
    for program in [
        pmq().env("PMQ_AUTHKEY_FILE", &bad),
        pmq().env("PMQ_AUTHKEY", format!("{}x", vault.authkey)),
        pmq()
            .env("PMQ_TLS_CERT", &vault.own.cert)
            .env("PMQ_TLS_KEY", &bad),
        pmq()
            .env("PMQ_TLS_CERT", &vault.own.key)
            .env("PMQ_TLS_KEY", &vault.own.key),
        bare()
            .env("PMQ_LOG", "trace")
            .env("PMQ_REDIS_URL", format!("redis:/:{PASSWORD}@h")),
    ] {
        let ended = program.run(["status"]).expect_code(2);
        vault.shows_nothing("the error", &ended.error_text());
    }
}
