//! Which slot a command is for.

use redis::{Arg, Cmd};

use super::cluster::slot;

/// Commands without a key: any primary answers them.
const KEYLESS: [&[u8]; 8] = [
    b"PING",
    b"INFO",
    b"TIME",
    b"CONFIG",
    b"ACL",
    b"FUNCTION",
    b"ROLE",
    b"CLUSTER",
];

/// The slot of the first key, which all keys of a command share; `None` where it has no key.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    key(command).map(slot)
}

pub(super) fn key(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter().filter_map(|word| match word {
        Arg::Simple(word) => Some(word),
        _ => None,
    });
    match words.next()? {
        name if KEYLESS.contains(&name) => None,
        // The name of the function and the number of keys come first.
        b"FCALL" => words.nth(2),
        b"XREAD" => words.find(|word| *word == b"STREAMS").and(words.next()),
        _ => words.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(line: &str) -> Option<String> {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        key(&command).map(|key| String::from_utf8_lossy(key).into_owned())
    }

    #[test]
    fn the_first_key_is_found_in_each_shape_of_command() {
        assert_eq!(key_of("FCALL f 2 k1 k2 a").as_deref(), Some("k1"));
        assert_eq!(key_of("XREAD BLOCK 5 STREAMS k 0").as_deref(), Some("k"));
        assert_eq!(key_of("BLPOP k 5").as_deref(), Some("k"));
        assert_eq!(key_of("PING"), None);
        assert_eq!(key_of("CONFIG GET save"), None);
    }
}
