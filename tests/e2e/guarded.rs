//! Servers that let each role of a queue do its work, and no more.

use std::fs;

use pmq_broker::Config;
use pmq_broker::acl::{Grant, Role, Version};
use pmq_broker::config::Password;
use pmq_tests::{Cluster, Program, RedisServer, Scratch, SentinelGroup};
use redis::{Connection, cmd};

use crate::fleet::{name, pmq_at};

const PASSWORD: &str = "secret";

/// One server, or several; each has rules of its own.
pub(crate) trait Site {
    fn url(&self) -> String;
    fn servers(&self) -> &[RedisServer];
}

impl Site for RedisServer {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&self) -> &[RedisServer] {
        std::slice::from_ref(self)
    }
}

impl Site for Cluster {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&self) -> &[RedisServer] {
        self.nodes()
    }
}

impl Site for SentinelGroup {
    fn url(&self) -> String {
        Self::url(self)
    }

    fn servers(&self) -> &[RedisServer] {
        Self::servers(self)
    }
}

/// A site with a user for each role of the queue `mail`, named after it, and the library, which no service may load.
pub(crate) struct Guarded<S> {
    pub(crate) site: S,
    pub(crate) files: Scratch,
}

impl<S: Site> Guarded<S> {
    /// `objects` are for each role.
    pub(crate) fn new(site: S, objects: &[&str]) -> Self {
        let guarded = Self {
            site,
            files: Scratch::new(),
        };
        fs::write(guarded.files.join("password"), format!("{PASSWORD}\n")).unwrap();
        let _ = guarded.root().run(["functions", "load"]).expect_code(0);
        for role in Role::ALL {
            guarded.grant(role.as_str(), &[role], objects);
        }
        guarded
    }

    /// Makes a user, as an administrator does.
    pub(crate) fn grant(&self, user: &str, roles: &[Role], objects: &[&str]) {
        let file = self.files.join("password");
        let mut arguments = vec!["acl", "--user", user];
        arguments.extend(["--password-file", file.to_str().unwrap()]);
        if !roles.is_empty() {
            arguments.extend(["-q", "mail"]);
        }
        arguments.extend(roles.iter().flat_map(|role| ["--role", role.as_str()]));
        arguments.extend(objects.iter().flat_map(|object| ["--object", *object]));
        let ended = self.root().run(arguments).expect_code(0);
        assert!(ended.error_text().contains("without pmq's functions"));
        let text = ended.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        for server in self.site.servers() {
            let mut words = text.split_whitespace();
            cmd(words.next().unwrap())
                .arg(words.collect::<Vec<_>>())
                .exec(&mut server.connection())
                .unwrap();
        }
    }

    fn root(&self) -> Program {
        pmq_at(&self.site.url())
    }

    /// The program, as this user.
    pub(crate) fn pmq(&self, user: &str) -> Program {
        self.root()
            .env("PMQ_REDIS_USERNAME", user)
            .env("PMQ_REDIS_PASSWORD", PASSWORD)
    }

    /// The configuration of this user.
    pub(crate) fn config(&self, user: &str) -> Config {
        Config {
            username: Some(user.to_owned()),
            password: Password::Plain(PASSWORD.to_owned()),
            ..Config::url(self.site.url())
        }
    }

    /// A connection of each role to each server.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (Role, Connection)> {
        let log_in = |role: Role, mut connection: Connection| {
            let login = cmd("AUTH")
                .arg(&[role.as_str(), PASSWORD])
                .exec(&mut connection);
            login.unwrap();
            (role, connection)
        };
        let servers = self.site.servers().iter();
        let each = move |server: &RedisServer| Role::ALL.map(|role| (role, server.connection()));
        servers
            .flat_map(each)
            .map(move |(role, connection)| log_in(role, connection))
    }
}

/// What a role was granted.
pub(crate) fn grant_of(role: Role) -> Grant {
    Grant {
        roles: vec![role],
        namespace: name("pmq"),
        queues: vec![name("mail")],
        objects: Vec::new(),
        version: Version(7, 0),
    }
}
