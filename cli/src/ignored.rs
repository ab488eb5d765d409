//! Signals that whoever started this process wants to be ignored, as nohup(1) does for SIGHUP.

use std::fs;

use tokio::signal::unix::SignalKind;

/// Whether it was started with this signal ignored, which then stays so. Only Linux tells; elsewhere none is.
pub(crate) fn is_ignored(signal: SignalKind) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_in(&status, signal))
}

fn is_in(status: &str, signal: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Signal n is bit n - 1.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_is_ignored() {
        let hangup = SignalKind::hangup();
        assert!(is_in("Name:\tpmq\nSigIgn:\t0000000000001001\n", hangup));
        assert!(is_in("SigIgn:\t0000000000001000\n", SignalKind::pipe()));
        for status in ["SigIgn:\t0000000000001000\n", "SigIgn:\tx\n", ""] {
            assert!(!is_in(status, hangup), "{status}");
        }
    }
}
