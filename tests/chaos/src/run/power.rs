//! Power cuts and full disks: what happens below the server.
//!
//! A killed server loses nothing, as the kernel keeps what it wrote. So the server runs under strace, which tells what
//! had been written to the log of changes when the last synchronisation began that came to its end; the cut kills the
//! server and takes away the bytes behind that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pmq_tests::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::site::Site;

/// Where strace writes, in the server's directory.
pub const TRACE: &str = "trace";
const BALLAST: &str = "ballast";
const SOON: Duration = Duration::from_secs(10);

/// A program that starts `server` under strace, in place of the server.
pub fn wrapper(directory: &Path, server: &str) -> Result<PathBuf> {
    let path = directory.join("server-under-strace");
    let script = format!(
        "#!/bin/sh\nrm -f {TRACE}\nexec strace -f -qq -y -s 0 -e trace=write,fsync,fdatasync -o {TRACE} '{server}' \"$@\"\n"
    );
    write_script(&path, &script)?;
    Ok(path)
}

/// Writes a program.
pub(super) fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("could not write a script")
}

/// Kills the server and drops what it had not synchronised; answers how many bytes.
pub fn cut(site: &mut Site) -> Result<u64> {
    let directory = site.server().directory().to_owned();
    let pid = traced_pid(&directory)?;
    kill_process(pid, Signal::KILL).context("could not kill the traced server")?;
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    eventually("the traced server is gone", SOON, || {
        let status = fs::read_to_string(format!("{proc}/status")).unwrap_or_default();
        (status.is_empty() || status.contains("State:\tZ")).then_some(())
    });
    site.server_mut().kill();
    let log = newest_log(&directory)?;
    let trace = fs::read_to_string(directory.join(TRACE)).context("there is no trace")?;
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let unsynced = unsynced(&trace, &name);
    let length = fs::metadata(&log)?.len();
    let file = OpenOptions::new().write(true).open(&log)?;
    file.set_len(length.saturating_sub(unsynced))?;
    Ok(unsynced)
}

/// The process whose trace this is: strace itself is the child of the harness.
fn traced_pid(directory: &Path) -> Result<Pid> {
    for entry in fs::read_dir("/proc")? {
        let process = entry?.path();
        let Ok(home) = fs::read_link(process.join("cwd")) else {
            continue;
        };
        let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
        if home == directory && !comm.starts_with("strace") {
            let raw = process
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            return raw
                .and_then(Pid::from_raw)
                .context("a process without a number");
        }
    }
    bail!("no server works in {}", directory.display())
}

/// The incremental file of the log of changes that is written to now.
fn newest_log(directory: &Path) -> Result<PathBuf> {
    let logs = fs::read_dir(directory.join("appendonlydir"))?.flatten();
    let increments = logs
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
    increments.max().context("the server has no log of changes")
}

/// How many of the bytes that were written to `log` no completed synchronisation covers.
fn unsynced(trace: &str, log: &str) -> u64 {
    let (mut written, mut synced) = (0_u64, 0_u64);
    let (mut begun, mut writing) = (BTreeMap::new(), BTreeSet::new());
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        let call = call.trim_start();
        let syncs = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        if call.starts_with("write(") && call.contains(log) {
            written += result(call);
            if call.contains("<unfinished") {
                writing.insert(thread);
            }
        } else if call.starts_with("<... write resumed>") && writing.remove(thread) {
            written += result(call);
        } else if syncs && call.contains(log) {
            begun.insert(thread, written);
            if call.contains("= 0") {
                synced = written;
            }
        } else if call.starts_with("<... fdatasync resumed>")
            || call.starts_with("<... fsync resumed>")
        {
            synced = begun.get(thread).copied().unwrap_or(synced).max(synced);
        }
    }
    written - synced
}

/// What a call answered; 0 where it failed, or where the answer stands on a later line.
fn result(call: &str) -> u64 {
    let answer = call.rsplit_once("= ").map(|(_, answer)| answer.trim());
    answer.and_then(|answer| answer.parse().ok()).unwrap_or(0)
}

/// Fills the disk of the server to the last byte.
pub fn fill_disk(site: &Site) -> Result<()> {
    let mut file = File::create(site.server().directory().join(BALLAST))?;
    let block = vec![0_u8; 64 * 1024];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&block[..512]).is_ok() {}
    Ok(())
}

/// Makes room again.
pub fn empty_disk(site: &Site) -> Result<()> {
    fs::remove_file(site.server().directory().join(BALLAST)).context("could not make room again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_after_the_last_sync_began_is_not_safe() {
        let trace = "\
            7 write(9</d/a.incr.aof>, \"\"..., 100) = 100\n\
            8 fdatasync(9</d/a.incr.aof> <unfinished ...>\n\
            7 write(9</d/a.incr.aof>, \"\"..., 30) = 30\n\
            7 write(5<socket>, \"\"..., 999) = 999\n\
            8 <... fdatasync resumed>) = 0\n\
            7 write(9</d/a.incr.aof>, \"\"..., 4) = 4\n";
        assert_eq!(unsynced(trace, "a.incr.aof"), 34);
        assert_eq!(
            unsynced(
                &format!("{trace}7 fsync(9</d/a.incr.aof>) = 0\n"),
                "a.incr.aof"
            ),
            0
        );
    }
}
