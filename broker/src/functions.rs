//! The Redis Functions library: every change of state is one function of it.

use redis::{Cmd, RedisWrite};

/// The library's name, with the number that changes with its sources.
pub const LIBRARY: &str = "pmq1";

/// The library's source, assembled at build time. Each file is a block of its own, so that its locals stay its own.
/// A static, because of a constant every codegen unit that names it has a copy of 200 kB.
pub static SOURCE: &str = concat!(
    "#!lua name=pmq1\n",
    include_str!("../lua/shapes.lua"),
    include_str!("../lua/lib.lua"),
    include_str!("../lua/ending.lua"),
    include_str!("../lua/giveback.lua"),
    include_str!("../lua/object.lua"),
    include_str!("../lua/container.lua"),
    "do\n",
    include_str!("../lua/numbered.lua"),
    include_str!("../lua/submit.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/claim.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/heartbeat.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/start.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/finish.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/release.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/refuse.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/cancel.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/reclaim.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/take.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/client.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/dead.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/queue.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/watch.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/log.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/inspect.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/fleet.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/mark.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/member.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/semaphore.lua"),
    include_str!("../lua/condition.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/event.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/barrier.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/frame.lua"),
    include_str!("../lua/plain_queue.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/list.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/dict.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/array.lua"),
    "end\n",
    "do\n",
    include_str!("../lua/pipe.lua"),
    "end\n",
);

/// One call of a function: its keys, then its arguments in order. It can be sent again as it is.
pub(crate) struct Call {
    /// The function's verb, for error messages.
    pub(crate) verb: &'static str,
    pub(crate) command: Cmd,
}

/// Room for what most calls have beside their keys, so that a command grows no buffer: bytes, then arguments.
const ROOM: (usize, usize) = (192, 16);

impl Call {
    pub(crate) fn new(verb: &'static str, keys: &[String]) -> Self {
        let bytes: usize = keys.iter().map(String::len).sum();
        let mut command = Cmd::with_capacity(keys.len() + ROOM.1, bytes + ROOM.0);
        command.arg("FCALL");
        command.write_arg_fmt(format_args!("{LIBRARY}_{verb}"));
        command.arg(keys.len()).arg(keys);
        Self { verb, command }
    }

    pub(crate) fn arg(mut self, argument: impl redis::ToRedisArgs) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds bytes, for calls of many arguments.
    pub(crate) fn push(&mut self, argument: &[u8]) {
        self.command.arg(argument);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Old and new programs work side by side because a number never stands for two sources.
    #[test]
    fn the_number_changes_with_the_sources() {
        let digest = bytes::Bytes::copy_from_slice(&Sha256::digest(SOURCE));
        let digest = format!("{digest:x}");
        let lock = include_str!("../lua/library.lock");
        assert_eq!(
            lock.trim(),
            format!("{LIBRARY} {digest}"),
            "the sources changed: after a release raise the number (functions.rs, lib.lua), and write the right-hand side to broker/lua/library.lock"
        );
    }
}
