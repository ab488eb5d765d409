//! How a job ended, in the two numbers of GNU parallel's joblog.

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, 0 to 255; -1 for a job that timed out.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
}

impl Exit {
    /// The job exited with this code.
    #[must_use]
    pub const fn code(code: i32) -> Self {
        Self { code, signal: 0 }
    }

    /// The job was ended by this signal.
    #[must_use]
    pub const fn signal(signal: i32) -> Self {
        Self { code: 0, signal }
    }

    /// The job was stopped because it took longer than it may.
    #[must_use]
    pub const fn timed_out() -> Self {
        Self {
            code: -1,
            signal: 15,
        }
    }

    /// Whether the job succeeded: exit code 0, and no signal.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.code == 0 && self.signal == 0
    }

    /// The job's end as a shell would tell it: the exit code, 128+n for signal n, 255 for a timeout.
    #[must_use]
    pub const fn status(self) -> u8 {
        if self.code != 0 {
            // -1, a timeout, becomes 255, as it does in exit(3).
            self.code as u8
        } else if self.signal != 0 {
            128_u8.saturating_add(self.signal as u8)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        let cases = [
            (Exit::code(0), 0),
            (Exit::code(7), 7),
            (Exit::signal(9), 137),
            (Exit::signal(15), 143),
            (Exit::timed_out(), 255),
        ];
        for (exit, status) in cases {
            assert_eq!(exit.status(), status, "{exit:?}");
            assert_eq!(exit.is_success(), status == 0, "{exit:?}");
        }
    }
}
