//! Durations: any text is read or refused, none is longer than ten years, and what is shown can be read.

use std::time::Duration;

use pmq_cli::duration::{parse, parse_lease, show};
use pmq_tests::fuzz::{fuzz, mutated_text};
use proptest::prelude::*;

const TEN_YEARS: Duration = Duration::from_secs(3650 * 86_400);
const WORDS: [&str; 14] = [
    "ms",
    "s",
    "m",
    "h",
    "d",
    ".",
    "-",
    "+",
    "e9",
    "inf",
    "nan",
    "99999999999999999999",
    " ",
    "٣",
];

#[test]
fn a_text_is_a_duration_or_is_refused() {
    let valid = prop_oneof![
        any::<u32>().prop_map(|ms| show(Duration::from_millis(u64::from(ms)))),
        "[0-9]{0,3}(\\.[0-9]{1,3})?(ms|s|sec|m|min|h|d)?",
    ];
    fuzz(mutated_text(valid, &WORDS), |text| {
        if let Ok(duration) = parse(&text) {
            prop_assert!(duration <= TEN_YEARS);
            prop_assert!(!text.trim().is_empty() && !text.contains('-'));
        }
        if let Ok(lease) = parse_lease(&text) {
            prop_assert_eq!(Ok(lease), parse(&text));
            prop_assert!(lease >= Duration::from_secs(1));
        }
        Ok(())
    });
}

#[test]
fn what_is_shown_can_be_read() {
    fuzz(any::<(u64, u32, u8)>(), |(seconds, nanos, scale)| {
        let any = Duration::new(seconds >> (scale % 64), nanos % 1_000_000_000);
        let shown = show(any);
        if any < TEN_YEARS {
            let read = parse(&shown).unwrap();
            let off = read.abs_diff(any);
            prop_assert!(
                off <= any / 20 + Duration::from_millis(1),
                "{} for {:?}",
                shown,
                any
            );
        }
        Ok(())
    });
}
