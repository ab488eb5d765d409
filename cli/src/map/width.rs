//! `-j`: how many jobs run at once.
use std::str::FromStr;

/// A number, or one that follows how much there is: `8`, `200%`, `+2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// So many.
    Jobs(usize),
    /// So many percent of what there is, at least one.
    Percent(usize),
    /// So many more than there is.
    More(usize),
}

impl FromStr for Width {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            let number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.then(|| digits.parse().ok()).flatten();
            number
                .filter(|n| (1..=100_000).contains(n))
                .ok_or("write a number from 1 to 100000, as 8; or 200%, or +2")
        };
        match (text.strip_suffix('%'), text.strip_prefix('+')) {
            (Some(percent), _) => number(percent).map(Self::Percent),
            (_, Some(more)) => number(more).map(Self::More),
            _ => number(text).map(Self::Jobs),
        }
    }
}

impl Width {
    /// The number of jobs where there are so many slots or CPUs.
    #[must_use]
    pub fn of(self, there: usize) -> usize {
        match self {
            Self::Jobs(jobs) => jobs,
            Self::Percent(percent) => (there * percent / 100).max(1),
            Self::More(more) => there + more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_numbers_or_follow_what_there_is() {
        let cases = [("3", 3), ("200%", 8), ("10%", 1), ("+2", 6)];
        for (text, jobs) in cases {
            assert_eq!(text.parse::<Width>().map(|width| width.of(4)), Ok(jobs));
        }
        for text in ["", "0", "-1", "x", "%", "+", "++1", "1.5", "100001"] {
            assert!(text.parse::<Width>().is_err(), "{text}");
        }
    }
}
