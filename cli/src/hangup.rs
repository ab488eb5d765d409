//! Whether this process shall outlive its terminal, as nohup(1) asks for.

use std::fs;

/// Whether it was started with SIGHUP ignored, which then stays so. Only Linux tells; elsewhere a hangup always counts.
pub(crate) fn is_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_in(&status))
}

fn is_in(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Signal n is bit n - 1, and SIGHUP is 1.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_is_ignored() {
        assert!(is_in("Name:\tpmq\nSigIgn:\t0000000000001001\n"));
        for status in ["SigIgn:\t0000000000001000\n", "SigIgn:\tx\n", ""] {
            assert!(!is_in(status), "{status}");
        }
    }
}
