//! `--halt`: when to start no more jobs, and the exit code that `pmq map` ends with.
use std::str::FromStr;

use super::exit::Exit;

/// More failed jobs than this are all told as one exit code, [`MANY_FAILED`].
const COUNTED: u64 = 100;
/// The exit code for more than 100 failed jobs.
const MANY_FAILED: u8 = 101;

/// When to stop before the input ends. Parsed from GNU parallel's words for `--halt`: `never`, or
/// `now` or `soon`, then `,fail=`, `,success=` or `,done=`, then a number or a percentage.
///
/// Its old spellings `0`, `1`, `2`, `-1`, `-2` and `N%` are known as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Run all jobs.
    #[default]
    Never,
    /// Stop once the condition holds.
    When(Condition),
}

/// When and how to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    urgency: Urgency,
    event: Event,
    limit: Limit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Now,
    Soon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Fail,
    Success,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Jobs(u64),
    Percent(u64),
}

/// Why a value of `--halt` was not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is none of the known words.
    #[error("not a --halt value; use never, or a condition as in now,fail=1 or soon,fail=10%")]
    Unknown,
    /// The number can never be reached, or always is.
    #[error("the number after `=` must be at least 1, and a percentage at most 100%")]
    OutOfRange,
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let condition = match text {
            "never" | "0" => return Ok(Self::Never),
            "1" => "soon,fail=1",
            "2" => "now,fail=1",
            "-1" => "soon,success=1",
            "-2" => "now,success=1",
            text => text,
        };
        let (urgency, event, limit) = if condition.ends_with('%') && !condition.contains(',') {
            (Urgency::Soon, Event::Fail, condition)
        } else {
            let (urgency, rest) = condition.split_once(',').ok_or(PolicyError::Unknown)?;
            let (event, limit) = rest.split_once('=').ok_or(PolicyError::Unknown)?;
            (urgency.parse()?, event.parse()?, limit)
        };
        Ok(Self::When(Condition {
            urgency,
            event,
            limit: limit.parse()?,
        }))
    }
}

impl FromStr for Urgency {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "now" => Ok(Self::Now),
            "soon" => Ok(Self::Soon),
            _ => Err(PolicyError::Unknown),
        }
    }
}

impl FromStr for Event {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "fail" => Ok(Self::Fail),
            "success" => Ok(Self::Success),
            "done" => Ok(Self::Done),
            _ => Err(PolicyError::Unknown),
        }
    }
}

impl FromStr for Limit {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (digits, percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        match digits.parse() {
            Err(_) => Err(PolicyError::Unknown),
            Ok(0) => Err(PolicyError::OutOfRange),
            Ok(number) if percent && number > 100 => Err(PolicyError::OutOfRange),
            Ok(number) if percent => Ok(Self::Percent(number)),
            Ok(number) => Ok(Self::Jobs(number)),
        }
    }
}

impl Limit {
    /// Whether `count` jobs reach the limit; a percentage is not reached while `total` is unknown.
    fn is_reached_by(self, count: u64, total: Option<u64>) -> bool {
        match self {
            Self::Jobs(limit) => count >= limit,
            Self::Percent(percent) => {
                total.is_some_and(|total| exceeds(count, 100, total, percent))
            }
        }
    }

    /// Whether the limit is a single job.
    fn is_one(self, total: Option<u64>) -> bool {
        match self {
            Self::Jobs(limit) => limit == 1,
            Self::Percent(percent) => {
                total.is_some_and(|total| total.checked_mul(percent) == Some(100))
            }
        }
    }
}

/// Whether `a * b >= c * d`, without overflow.
fn exceeds(a: u64, b: u64, c: u64, d: u64) -> bool {
    u128::from(a) * u128::from(b) >= u128::from(c) * u128::from(d)
}

/// What to do after a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Continue,
    /// Start no more jobs; let those that run end.
    Soon,
    /// Stop also the jobs that run.
    Now,
}

/// Watches the jobs end, and says when to stop and how to exit.
#[derive(Debug)]
pub struct Halt {
    policy: Policy,
    failed: u64,
    succeeded: u64,
    total: Option<u64>,
    last_failure: u8,
    /// The exit code fixed when the condition came to hold; what ends later does not change it.
    halted: Option<u8>,
}

impl Halt {
    /// Starts with no job ended.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            failed: 0,
            succeeded: 0,
            total: None,
            last_failure: 0,
            halted: None,
        }
    }

    /// Whether all jobs run, whatever becomes of them.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.policy == Policy::Never
    }

    /// Takes note of how a job ended.
    ///
    /// `total` is the number of all jobs, once it is known: a percentage is not looked at before,
    /// so count the input first where one is asked for ([`Policy::needs_total`]).
    pub fn observe(&mut self, exit: Exit, total: Option<u64>) -> Decision {
        self.total = total.or(self.total);
        if exit.is_success() {
            self.succeeded += 1;
        } else {
            self.failed += 1;
            self.last_failure = exit.status();
        }
        let Policy::When(condition) = self.policy else {
            return Decision::Continue;
        };
        if self.halted.is_none() && self.holds(condition) {
            self.halted = Some(self.code_on_halt(condition, exit));
        }
        match (self.halted, condition.urgency) {
            (None, _) => Decision::Continue,
            (Some(_), Urgency::Soon) => Decision::Soon,
            (Some(_), Urgency::Now) => Decision::Now,
        }
    }

    /// What `pmq map` exits with: 0 if all jobs succeeded, or as many as `success=` asked for; else
    /// the number of failed jobs, 101 for more than 100 of them.
    ///
    /// Where a single job (`fail=1`, `done=1`) stopped the run, it is this job's own status; with
    /// a percentage it is the percentage of jobs that failed.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.halted, self.policy) {
            (Some(code), _) => code,
            (
                None,
                Policy::When(Condition {
                    limit: Limit::Percent(_),
                    ..
                }),
            ) => self.failed_percent(),
            (None, _) => self.failed_jobs(),
        }
    }

    fn holds(&self, condition: Condition) -> bool {
        let count = match condition.event {
            Event::Fail => self.failed,
            Event::Success => self.succeeded,
            Event::Done => self.ended(),
        };
        condition.limit.is_reached_by(count, self.total)
    }

    fn code_on_halt(&self, condition: Condition, exit: Exit) -> u8 {
        let own = match condition.event {
            Event::Success => return 0,
            Event::Fail => self.last_failure,
            Event::Done => exit.status(),
        };
        match condition.limit {
            limit if limit.is_one(self.total) => own,
            Limit::Percent(_) => self.failed_percent(),
            Limit::Jobs(_) => self.failed_jobs(),
        }
    }

    fn ended(&self) -> u64 {
        self.failed + self.succeeded
    }

    fn failed_jobs(&self) -> u8 {
        if self.failed > COUNTED {
            MANY_FAILED
        } else {
            self.failed as u8
        }
    }

    /// Rounded up, so that it is 0 only if no job failed.
    fn failed_percent(&self) -> u8 {
        let total = self.total.unwrap_or_else(|| self.ended()).max(1);
        let percent = (u128::from(self.failed) * 100).div_ceil(u128::from(total));
        percent.min(100) as u8
    }
}

impl Policy {
    /// Whether the number of all jobs must be known to tell when to stop.
    #[must_use]
    pub fn needs_total(&self) -> bool {
        matches!(
            self,
            Self::When(Condition {
                limit: Limit::Percent(_),
                ..
            })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: [i32; 10] = [0, 5, 0, 7, 0, 0, 9, 0, 0, 0];

    /// Runs jobs with these exit codes one after another: how many ran, and the exit code.
    fn run(halt: &str, codes: &[i32]) -> (usize, u8) {
        let mut halt = Halt::new(halt.parse().unwrap());
        for (index, &code) in codes.iter().enumerate() {
            if halt.observe(Exit::code(code), Some(codes.len() as u64)) != Decision::Continue {
                return (index + 1, halt.exit_code());
            }
        }
        (codes.len(), halt.exit_code())
    }

    #[test]
    fn runs_stop_and_exit_as_with_gnu_parallel() {
        let cases = [
            ("never", 10, 3),
            ("now,fail=1", 2, 5),
            ("soon,fail=1", 2, 5),
            ("soon,fail=10%", 2, 5),
            ("soon,fail=30%", 7, 30),
            ("now,success=1", 1, 0),
            ("soon,success=2", 3, 0),
            ("now,done=2", 2, 1),
            ("soon,done=50%", 5, 20),
            ("0", 10, 3),
            ("1", 2, 5),
            ("2", 2, 5),
            ("-1", 1, 0),
            ("-2", 1, 0),
            ("10%", 2, 5),
            ("5%", 2, 10),
            ("now,done=1", 1, 0),
            ("now,fail=2", 4, 2),
        ];
        for (halt, ran, code) in cases {
            assert_eq!(run(halt, &TEN), (ran, code), "{halt}");
        }
    }

    #[test]
    fn conditions_that_never_hold_leave_the_usual_exit_code() {
        assert_eq!(run("now,fail=1", &[0, 0]), (2, 0));
        assert_eq!(run("soon,fail=3", &[0, 5, 0, 7]), (4, 2));
        assert_eq!(run("now,success=20", &[3, 0, 4, 0, 5]), (5, 3));
        assert_eq!(run("soon,success=75%", &[0, 1, 1, 0]), (4, 50));
        assert_eq!(run("soon,fail=50%", &[0, 1, 0, 0]), (4, 25));
        assert_eq!(run("never", &[]), (0, 0));
        assert_eq!(run("5%", &[]), (0, 0));
    }

    #[test]
    fn failures_are_counted_to_a_hundred() {
        for (failed, code) in [(1, 1), (100, 100), (101, 101), (300, 101)] {
            assert_eq!(run("never", &vec![1; failed]).1, code);
        }
    }

    #[test]
    fn signals_and_timeouts_are_failures() {
        for (exit, code) in [(Exit::signal(9), 137), (Exit::timed_out(), 255)] {
            let mut halt = Halt::new("now,fail=1".parse().unwrap());
            assert_eq!(halt.observe(exit, None), Decision::Now);
            assert_eq!(halt.exit_code(), code);
        }
    }

    #[test]
    fn what_ends_after_the_decision_changes_nothing() {
        let mut halt = Halt::new("soon,fail=1".parse().unwrap());
        assert_eq!(halt.observe(Exit::code(3), None), Decision::Soon);
        assert_eq!(halt.observe(Exit::code(7), None), Decision::Soon);
        assert_eq!(halt.observe(Exit::code(0), None), Decision::Soon);
        assert_eq!(halt.exit_code(), 3);
    }

    #[test]
    fn a_percentage_waits_for_the_total() {
        let policy: Policy = "now,fail=50%".parse().unwrap();
        assert!(policy.needs_total());
        assert!(!"now,fail=5".parse::<Policy>().unwrap().needs_total());
        let mut halt = Halt::new(policy);
        assert_eq!(halt.observe(Exit::code(1), None), Decision::Continue);
        assert_eq!(halt.observe(Exit::code(2), None), Decision::Continue);
        assert_eq!(halt.observe(Exit::code(0), Some(4)), Decision::Now);
        assert_eq!(halt.exit_code(), 50);
    }

    #[test]
    fn what_is_no_policy_says_so() {
        let unknown = [
            "",
            "foo",
            "now",
            "now,fail",
            "now,foo=1",
            "fail=1",
            "3",
            "NOW,fail=1",
            "now,fail=-1",
            "now,fail=1.5",
            "now,fail=1.5%",
            "never,fail=1",
            "%",
            "now,fail=",
            "soon;fail=1",
        ];
        for text in unknown {
            assert_eq!(
                text.parse::<Policy>(),
                Err(PolicyError::Unknown),
                "{text:?}"
            );
        }
        for text in ["now,fail=0", "now,fail=0%", "now,fail=101%", "0%"] {
            assert_eq!(
                text.parse::<Policy>(),
                Err(PolicyError::OutOfRange),
                "{text:?}"
            );
        }
    }
}
