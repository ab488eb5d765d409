//! The name and version of a server, and whose files it can read.

use std::fmt;

/// The servers that pmq can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// Redis, of redis.io.
    Redis,
    /// Valkey, which began as a copy of Redis 7.2.
    Valkey,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        })
    }
}

/// The kind and version of a server program, such as `redis 7.0.15` or `valkey 8.1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerVersion {
    /// Which server it is.
    pub kind: ServerKind,
    /// Major, minor and patch number.
    pub number: (u32, u32, u32),
}

impl ServerVersion {
    /// Reads what `--version` prints: `Redis server v=7.0.15 sha=...`.
    pub(super) fn from_banner(banner: &str) -> Option<Self> {
        let (name, rest) = banner.trim_start().split_once(" server v=")?;
        Self::new(name, rest.split_whitespace().next()?)
    }

    /// Reads what [`Display`](fmt::Display) writes.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (name, number) = text.trim().split_once(' ')?;
        Self::new(name, number)
    }

    fn new(name: &str, number: &str) -> Option<Self> {
        let kind = match name.to_ascii_lowercase().as_str() {
            "redis" => ServerKind::Redis,
            "valkey" => ServerKind::Valkey,
            _ => return None,
        };
        let mut parts = number.splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        // A release candidate has a suffix here: `0-rc1`.
        let patch = parts.next()?.split('-').next()?.parse().ok()?;
        Some(Self {
            kind,
            number: (major, minor, patch),
        })
    }

    /// Whether pmq's functions run on it: they came with 7.0.
    pub(super) fn is_supported(self) -> bool {
        self.release() >= (7, 0)
    }

    /// Whether this server can read files that `writer` wrote.
    ///
    /// The file format changes with minor releases, never with patches. Valkey went its own way after
    /// Redis 7.2 and reads what came before; nothing else crosses over.
    pub(super) fn reads_files_of(self, writer: Self) -> bool {
        match (self.kind, writer.kind) {
            (ServerKind::Valkey, ServerKind::Redis) => writer.release() <= (7, 2),
            (ServerKind::Redis, ServerKind::Valkey) => false,
            _ => self.release() >= writer.release(),
        }
    }

    fn release(self) -> (u32, u32) {
        (self.number.0, self.number.1)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "{} {major}.{minor}.{patch}", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> ServerVersion {
        ServerVersion::from_text(text).unwrap()
    }

    #[test]
    fn reads_the_banners_of_both_servers() {
        let redis = ServerVersion::from_banner(
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64\n",
        );
        assert_eq!(redis, Some(version("redis 7.0.15")));
        let valkey =
            ServerVersion::from_banner("Valkey server v=9.0.0-rc1 sha=0 malloc=libc bits=64");
        assert_eq!(valkey, Some(version("valkey 9.0.0")));
        assert_eq!(ServerVersion::from_banner("cat (GNU coreutils) 9.1"), None);
    }

    #[test]
    fn survives_being_written() {
        assert_eq!(version("valkey 8.1.3").to_string(), "valkey 8.1.3");
    }

    #[test]
    fn reads_only_files_of_older_servers() {
        let cases = [
            ("redis 7.0.1", "redis 7.0.15", true),
            ("redis 7.2.0", "redis 7.0.15", true),
            ("redis 7.0.15", "redis 7.2.0", false),
            ("redis 10.0.0", "redis 9.9.9", true),
            ("valkey 8.0.0", "redis 7.2.5", true),
            ("valkey 8.0.0", "redis 7.4.0", false),
            ("redis 8.0.0", "valkey 7.2.0", false),
        ];
        for (server, writer, expected) in cases {
            assert_eq!(
                version(server).reads_files_of(version(writer)),
                expected,
                "{server} on files of {writer}"
            );
        }
    }

    #[test]
    fn supports_seven_and_newer() {
        assert!(version("redis 7.0.0").is_supported());
        assert!(!version("redis 6.2.14").is_supported());
    }
}
