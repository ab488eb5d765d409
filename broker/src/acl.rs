//! Redis's access rules for each role: what may be called, with which commands inside, on which keys.
//!
//! Redis checks each command inside a function by the rules of who calls it. So a role has these commands on the keys of
//! its queues directly as well, and could do without the functions what they would not: [`exposures`] names it. Nobody
//! gets `EVAL`.

mod exposure;
mod inner;
mod verbs;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

pub use exposure::{Exposure, exposures};

use crate::error::{Error, Result};
use crate::functions::LIBRARY;
use crate::ids::Name;

/// Commands of every connection, and those with which a client learns what it is connected to.
const CONNECTION: &[&str] = &[
    "acl|whoami",
    "asking",
    "auth",
    "client|setname",
    "cluster|info",
    "cluster|slots",
    "hello",
    "info",
    "ping",
    "readonly",
    "role",
    "select",
    "time",
    "wait",
];
/// What clients do beside calling functions: they wait for tokens and news, and read.
const PRODUCER: &[&str] = &[
    "blpop",
    "hscan",
    "llen",
    "sadd",
    "smembers",
    "subscribe",
    "unsubscribe",
    "xread",
    "zcount",
    "zmscore",
    "zrange",
];
const WORKER: &[&str] = &["blpop", "rpush", "sadd", "subscribe", "unsubscribe"];
const VIEWER: &[&str] = &["hscan", "llen", "smembers", "zcount", "zmscore", "zrange"];
const ADMIN: &[&str] = &[
    "acl|dryrun",
    "acl|log",
    "config|get",
    "function|list",
    "function|load",
    "function|stats",
    "latency|latest",
    "rpush",
    "slowlog|get",
    "srem",
    "unlink",
];

/// What somebody is to a task queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Submits tasks, waits for them, cancels them, gets their completions.
    Producer,
    /// Claims tasks and ends them. One whose tasks submit tasks is a producer as well.
    Worker,
    /// Looks, and changes nothing.
    Viewer,
    /// Everything in the namespace, settings and dead letters included, and loads the library. For people, not for services.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Producer, Self::Worker, Self::Viewer, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Worker => "worker",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }

    fn commands(self) -> Vec<&'static str> {
        match self {
            Self::Producer => PRODUCER.to_vec(),
            Self::Worker => WORKER.to_vec(),
            Self::Viewer => VIEWER.to_vec(),
            Self::Admin => [PRODUCER, WORKER, VIEWER, ADMIN].concat(),
        }
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| Error::BadOption("a role is producer, worker, viewer or admin".into()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Objects of one kind (`lock`, `queue`, `dict` and so on) by name; a `*` at its end stands for any rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    kind: &'static str,
    pattern: String,
}

impl FromStr for Objects {
    type Err = Error;

    /// Reads `KIND:NAME`.
    fn from_str(text: &str) -> Result<Self> {
        let (kind, pattern) = text.split_once(':').ok_or_else(|| {
            Error::BadOption("an object is named KIND:NAME, as in lock:deploy or queue:*".into())
        })?;
        let kind = verbs::kinds().find(|known| *known == kind).ok_or_else(|| {
            let kinds: Vec<&str> = verbs::kinds().collect();
            Error::BadOption(format!("a kind of objects is one of {}", kinds.join(", ")))
        })?;
        let fixed = pattern.strip_suffix('*').unwrap_or(pattern);
        if !(fixed.is_empty() && pattern == "*") {
            Name::new(fixed)?;
        }
        Ok(Self {
            kind,
            pattern: pattern.to_owned(),
        })
    }
}

/// What a user of Redis may do.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What it is; several are added up. Without any it has its objects alone.
    pub roles: Vec<Role>,
    /// Its namespace.
    pub namespace: Name,
    /// Its task queues. An admin has all of the namespace.
    pub queues: Vec<Name>,
    /// Other objects that it uses; of a viewer, looks at.
    pub objects: Vec<Objects>,
    /// The server's version: older ones do not know all rules.
    pub version: Version,
}

/// A version of Redis, or the one that a Valkey is compatible with: its first two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self(major, minor)),
            _ => Err(Error::BadOption("a version is written as 7.2".into())),
        }
    }
}

impl Grant {
    fn is_admin(&self) -> bool {
        self.roles.contains(&Role::Admin)
    }

    /// The verbs of the functions that it may call.
    #[must_use]
    pub fn verbs(&self) -> BTreeSet<&'static str> {
        let of_tasks = self.roles.iter().flat_map(|role| verbs::of_role(*role));
        let may_write =
            self.roles.is_empty() || self.roles.iter().any(|role| *role != Role::Viewer);
        let of_objects = self.objects.iter().flat_map(|o| verbs::of_kind(o.kind));
        let of_objects = of_objects.filter(|verb| may_write || inner::is_read_only(verb));
        of_tasks.chain(of_objects).collect()
    }

    /// The commands that it needs, in lower case: those inside its functions, and those that its client sends itself.
    #[must_use]
    pub fn commands(&self) -> BTreeSet<String> {
        let mut commands = inner::commands(&self.verbs());
        let own = self.roles.iter().flat_map(|role| role.commands());
        commands.extend(own.chain(CONNECTION.iter().copied()).map(str::to_owned));
        if self.version >= Version(7, 2) {
            commands.extend(["client|setinfo", "waitaof"].map(str::to_owned));
        }
        if !self.objects.is_empty() {
            commands.extend(["subscribe", "unsubscribe"].map(str::to_owned));
        }
        commands
    }

    /// The patterns of its keys.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let namespace = &self.namespace;
        if self.is_admin() {
            return vec![format!("{namespace}:*")];
        }
        // FCALL wants the right to write its keys, also where the function only reads them.
        let fleet = (!self.roles.is_empty()).then(|| format!("{namespace}:fleet:{{workers}}:*"));
        let queues = self
            .queues
            .iter()
            .map(|queue| format!("{namespace}:{{{queue}/*}}:*"));
        let objects = self.objects.iter();
        let objects = objects.map(|o| format!("{namespace}:{}:{{{}}}:*", o.kind, o.pattern));
        queues.chain(fleet).chain(objects).collect()
    }

    /// The patterns of its channels.
    #[must_use]
    pub fn channels(&self) -> Vec<String> {
        let namespace = &self.namespace;
        if self.is_admin() {
            return vec![format!("{namespace}:*")];
        }
        let queues = self
            .queues
            .iter()
            .map(|queue| format!("{namespace}:{{{queue}/*}}:*"));
        // Who waits for an object has a channel; its name is made anew with each process.
        let clients = (!self.objects.is_empty()).then(|| format!("{namespace}:client:*"));
        queues.chain(clients).collect()
    }

    /// The rules, as `ACL SETUSER` and a file of users take them after the name. `password` is the SHA-256 of the password,
    /// in hexadecimal digits.
    #[must_use]
    pub fn rules(&self, password: &str) -> String {
        let keys = self.keys().into_iter().map(|key| format!("~{key}"));
        let channels = self
            .channels()
            .into_iter()
            .map(|channel| format!("&{channel}"));
        let commands = self
            .commands()
            .into_iter()
            .map(|command| format!("+{command}"));
        let verbs = self.verbs().into_iter();
        let functions = verbs.map(|verb| format!("+fcall|{LIBRARY}_{verb}"));
        let start = ["reset".to_owned(), "on".to_owned(), format!("#{password}")];
        let rules = start
            .into_iter()
            .chain(keys)
            .chain(channels)
            .chain(["-@all".to_owned()]);
        rules
            .chain(commands)
            .chain(functions)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// The commands that a function runs inside, in lower case.
#[must_use]
pub fn inner_commands(verb: &str) -> BTreeSet<String> {
    inner::commands(&BTreeSet::from([verb]))
}

/// The verbs of all functions.
pub fn verbs() -> impl Iterator<Item = &'static str> {
    inner::verbs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(roles: &[Role], objects: &[&str]) -> Grant {
        Grant {
            roles: roles.to_vec(),
            namespace: Name::new("pmq").unwrap(),
            queues: vec![Name::new("mail").unwrap()],
            objects: objects.iter().map(|text| text.parse().unwrap()).collect(),
            version: Version(7, 0),
        }
    }

    #[test]
    fn a_queue_is_granted_and_none_that_begins_like_it() {
        let rules = grant(&[Role::Producer], &[]).rules("h");
        assert!(rules.starts_with(
            "reset on #h ~pmq:{mail/*}:* ~pmq:fleet:{workers}:* &pmq:{mail/*}:* -@all "
        ));
        assert!(
            rules.contains(" +fcall|pmq1_submit") && !rules.contains("_claim"),
            "{rules}"
        );
        for never in [
            "eval", "flushall", "config", "function", "script", "keys", "@",
        ] {
            assert!(!rules.contains(&format!("+{never}")), "{never}: {rules}");
        }
    }

    #[test]
    fn a_viewer_may_write_nothing() {
        let writing = [
            "hset", "hdel", "rpush", "lpop", "zadd", "sadd", "unlink", "del", "publish", "blpop",
            "pexpire",
        ];
        let commands = grant(&[Role::Viewer], &["queue:*", "dict:conf"]).commands();
        assert!(
            writing.iter().all(|command| !commands.contains(*command)),
            "{commands:?}"
        );
    }

    #[test]
    fn only_newer_servers_know_all_rules() {
        let mut grant = grant(&[Role::Worker], &[]);
        assert!(!grant.commands().contains("client|setinfo"));
        grant.version = "7.2.4".parse().unwrap();
        assert!(grant.commands().contains("client|setinfo"));
    }

    #[test]
    fn objects_are_granted_by_kind_and_name() {
        let rules = grant(&[Role::Producer], &["lock:deploy", "queue:mail.*"]).rules("h");
        for part in [
            "~pmq:lock:{deploy}:*",
            "~pmq:queue:{mail.*}:*",
            "&pmq:client:*",
            "_sem_acquire",
            "_queue_put",
            "_renew",
        ] {
            assert!(rules.contains(part), "{part}: {rules}");
        }
        // A queue's items may have to outlive their primary; who only looks changes nothing.
        let marks = |roles: &[Role], object| grant(roles, &[object]).verbs().contains("mark");
        assert!(marks(&[], "queue:jobs") && !marks(&[], "lock:deploy"));
        assert!(!marks(&[Role::Viewer], "queue:jobs"));
        for bad in [
            "deploy",
            "loc:deploy",
            "lock:",
            "lock:a}:*",
            "lock:*a",
            "lock:A",
        ] {
            assert!(bad.parse::<Objects>().is_err(), "{bad}");
        }
    }
}
