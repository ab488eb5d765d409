//! The few words that are spoken to the server before any client exists: `PING`, `INFO`, `SHUTDOWN`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How the server answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Text(String),
    Error(String),
}

/// Sends one command in the inline form and reads its reply, waiting up to `limit` for it.
pub(super) fn call(socket: &Path, command: &str, limit: Duration) -> io::Result<Reply> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    read_reply(BufReader::new(stream))
}

/// Whether the server on `socket` serves commands now.
///
/// An error reply other than `LOADING` is a server that serves: it may refuse `PING` because its disk is
/// full, and whoever sends the next command has to see that error.
pub(super) fn is_ready(socket: &Path) -> bool {
    match call(socket, "PING", Duration::from_secs(2)) {
        Ok(Reply::Text(_)) => true,
        Ok(Reply::Error(error)) => !error.starts_with("LOADING"),
        Err(_) => false,
    }
}

/// The process id of the server on `socket`, if one answers.
pub(super) fn process_id(socket: &Path) -> Option<u32> {
    let Ok(Reply::Text(info)) = call(socket, "INFO server", Duration::from_secs(2)) else {
        return None;
    };
    info.lines()
        .find_map(|line| line.strip_prefix("process_id:"))?
        .parse()
        .ok()
}

fn read_reply(mut reader: impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    let Some((kind, rest)) = line.split_at_checked(1) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    match kind {
        "+" | ":" => Ok(Reply::Text(rest.to_owned())),
        "-" => Ok(Reply::Error(rest.to_owned())),
        "$" => read_bulk(reader, rest.parse().unwrap_or(0)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a Redis reply: {line:?}"),
        )),
    }
}

fn read_bulk(reader: impl BufRead, length: u64) -> io::Result<Reply> {
    let mut text = String::new();
    reader.take(length).read_to_string(&mut text)?;
    Ok(Reply::Text(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn reads_each_kind_of_reply() {
        let text = |text: &str| Reply::Text(text.to_owned());
        assert_eq!(read_reply(&b"+PONG\r\n"[..]).unwrap(), text("PONG"));
        assert_eq!(read_reply(&b":42\r\n"[..]).unwrap(), text("42"));
        assert_eq!(
            read_reply(&b"$5\r\na\r\nbc\r\n"[..]).unwrap(),
            text("a\r\nbc")
        );
        assert_eq!(
            read_reply(&b"-ERR no\r\n"[..]).unwrap(),
            Reply::Error("ERR no".to_owned())
        );
        assert_eq!(
            read_reply(&b""[..]).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(
            read_reply(&b"HTTP/1.1 400\r\n"[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_loading_server_is_not_ready_and_one_with_a_full_disk_is() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            for reply in ["-LOADING wait\r\n", "+PONG\r\n", "-MISCONF disk\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 6]).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        assert_eq!([(); 3].map(|()| is_ready(&socket)), [false, true, true]);
        server.join().unwrap();
        assert!(
            !is_ready(&socket),
            "a dead server's socket file is not a server"
        );
    }
}
