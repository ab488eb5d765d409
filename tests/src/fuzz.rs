//! Fuzzing on stable Rust: inputs near valid ones, one after the other until the time is up.
//!
//! Proptest makes the inputs and shrinks what fails; it was there already. bolero would hold back dependencies that
//! pmq ships, as it pins one version of `indexmap`.
//!
//! What a run finds becomes a plain test with that input, so nothing is kept of failures here.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};

/// How long each target runs, in seconds: 3 unless it is set. CI takes 10, a release 60.
pub const SECONDS: &str = "PMQ_FUZZ_SECONDS";
/// Where the inputs begin: another number is other inputs. Unless it is set they are the same each time, so that a change is
/// judged by itself.
pub const SEED: &str = "PMQ_FUZZ_SEED";
const USUAL_SECONDS: u64 = 3;
/// Between two looks at the clock.
const ROUND: u32 = 64;
const CUT: usize = usize::MAX;
/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 53,
    i64::MAX as u64,
    1 << 63,
    u64::MAX,
];

/// Runs a target on inputs until its time is up. Panics with the smallest input that it finds to fail.
#[track_caller]
pub fn fuzz<I: Strategy>(inputs: I, target: impl Fn(I::Value) -> Result<(), TestCaseError>) {
    let end = Instant::now() + Duration::from_secs(number(SECONDS, USUAL_SECONDS));
    let seed = number(SEED, 0);
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < end {
        // A runner counts over all its runs, so each round has one of its own.
        let mut runner = TestRunner::new(ProptestConfig {
            cases: ROUND,
            failure_persistence: None,
            max_shrink_iters: 5000,
            rng_seed: RngSeed::Fixed((seed << 32) + rounds),
            ..ProptestConfig::default()
        });
        if let Err(failure) = runner.run(&inputs, &target) {
            panic!("after {rounds} rounds of {ROUND} with {SEED}={seed}: {failure}");
        }
        rounds += 1;
    }
}

fn number(variable: &str, usual: u64) -> u64 {
    let number = std::env::var(variable).ok().map(|text| {
        let number = text.parse::<u32>();
        number.unwrap_or_else(|_| panic!("{variable} is a number below 2^32, and not {text:?}"))
    });
    number.map_or(usual, u64::from)
}

/// Other bytes in the place of some.
#[derive(Clone, Debug)]
pub struct Splice {
    at: Index,
    remove: usize,
    insert: Vec<u8>,
}

impl Splice {
    /// Makes the change.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        let start = self.at.index(bytes.len() + 1);
        let end = start.saturating_add(self.remove).min(bytes.len());
        bytes.splice(start..end, self.insert.iter().copied());
    }
}

/// Any change of bytes, also to words that mean something there.
pub fn splice(words: &'static [&'static str]) -> impl Strategy<Value = Splice> {
    let written = |bytes: Vec<u8>| (bytes.len(), bytes);
    let edge = (select(&EDGES[..]), 0..4u32)
        .prop_map(|(number, width)| number.to_le_bytes()[..1 << width].to_vec());
    let word = select(words).prop_map(|word| word.as_bytes().to_vec());
    let change = prop_oneof![
        4 => vec(any::<u8>(), 1..3).prop_map(written),
        3 => edge.prop_map(written),
        2 => (0..6usize, vec(any::<u8>(), 0..6)),
        4 => (0..6usize, word),
        1 => Just((CUT, Vec::new())),
        1 => (any::<u8>(), 1..1000usize).prop_map(|(byte, times)| (0, vec![byte; times])),
    ];
    (any::<Index>(), change).prop_map(|(at, (remove, insert))| Splice { at, remove, insert })
}

/// Valid inputs with up to four changes.
pub fn mutated(
    valid: impl Strategy<Value = Vec<u8>>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    (valid, vec(splice(words), 0..5)).prop_map(|(mut bytes, changes)| {
        for change in &changes {
            change.apply(&mut bytes);
        }
        bytes
    })
}

/// Likewise, as text.
pub fn mutated_text(
    valid: impl Strategy<Value = String>,
    words: &'static [&'static str],
) -> impl Strategy<Value = String> {
    mutated(valid.prop_map(String::into_bytes), words)
        .prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_defect_beyond_the_first_check_is_found() {
        let found = std::panic::catch_unwind(|| {
            let seen = Cell::new(0_u64);
            let valid = Just(b"head:12,body".to_vec());
            fuzz(mutated(valid, &["99", ":"]), |bytes| {
                seen.set(seen.get() + 1);
                prop_assert!(
                    !(bytes.starts_with(b"head:") && bytes.windows(2).any(|w| w == b"99"))
                );
                Ok(())
            });
        });
        let message = *found.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("minimal failing input"), "{message}");
    }
}
