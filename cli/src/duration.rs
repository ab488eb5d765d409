//! Durations as people write them: `250ms`, `1.5s`, `10m`, `2h`, `1h30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Longer ones are taken for a mistake.
const LONGEST: Duration = Duration::from_secs(3650 * 86_400);
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const EXAMPLES: &str = "write for example 250ms, 1.5s, 10m, 2h or 1d";

/// Reads a duration. A number alone counts seconds.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(format!("a duration is not negative: {EXAMPLES}"));
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (part, tail) = part(rest, rest.len() == text.len())
            .ok_or_else(|| format!("no duration: {EXAMPLES}"))?;
        seconds += part;
        rest = tail;
    }
    let duration = Duration::try_from_secs_f64(seconds).ok();
    match duration.filter(|duration| *duration <= LONGEST) {
        _ if text.is_empty() => Err(format!("no duration: {EXAMPLES}")),
        None => Err("a duration is at most 10 years".to_owned()),
        // No unit is finer than a millisecond, and so nothing is lost by rounding off what the fraction left.
        Some(duration) => Ok(Duration::from_millis(
            (duration.as_secs_f64() * 1000.0).round() as u64,
        )),
    }
}

/// Reads how long a worker or client may be silent: at least a second, or a short delay on the way would end it.
pub fn parse_lease(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        lease if lease < SHORTEST_LEASE => Err("a lease is at least 1s".to_owned()),
        lease => Ok(lease),
    }
}

/// The first number with its unit, in seconds, and what follows it.
fn part(text: &str, is_first: bool) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, rest) = text.split_at(digits.unwrap_or(text.len()));
    let is_whole = is_first && rest.is_empty();
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic());
    let (unit, rest) = rest.split_at(letters.unwrap_or(rest.len()));
    let scale = match unit {
        "ms" => 0.001,
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        // Alone it counts seconds; behind another part its unit was forgotten.
        "" if is_whole => 1.0,
        _ => return None,
    };
    Some((number.parse::<f64>().ok()? * scale, rest))
}

/// A duration as people read it, cut to two units.
#[must_use]
pub fn show(duration: Duration) -> String {
    let ms = duration.as_millis() as u64;
    let two = |big: u64, first: &str, small: u64, second: &str| match small {
        0 => format!("{big}{first}"),
        _ => format!("{big}{first}{small}{second}"),
    };
    match ms {
        0..1000 => format!("{ms}ms"),
        1000..60_000 if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        1000..60_000 => format!("{:.1}s", duration.as_secs_f64()),
        60_000..3_600_000 => two(ms / 60_000, "m", ms / 1000 % 60, "s"),
        3_600_000..86_400_000 => two(ms / 3_600_000, "h", ms / 60_000 % 60, "m"),
        _ => two(ms / 86_400_000, "d", ms / 3_600_000 % 24, "h"),
    }
}

/// For serde: a text such as `"10m"`, or a number of seconds.
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    written(input, parse)
}

/// As [`deserialize`], for a lease.
pub fn deserialize_lease<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<Duration>, D::Error> {
    written(input, parse_lease)
}

fn written<'de, D: Deserializer<'de>>(
    input: D,
    parse: fn(&str) -> Result<Duration, String>,
) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Seconds(f64),
    }
    let text = match Option::<Written>::deserialize(input)? {
        None => return Ok(None),
        Some(Written::Text(text)) => text,
        Some(Written::Seconds(seconds)) => seconds.to_string(),
    };
    parse(&text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let cases = [
            ("250ms", 250),
            ("1.5s", 1500),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("5", 5000),
            (".5", 500),
            ("0", 0),
            ("0.3s", 300),
        ];
        for (text, ms) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in [
            "", "s", "5x", "1.2.3s", "nan", "inf", "1e9s", "5 s", "1s2", "١s",
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains("250ms"), "{text}: {why}");
        }
        assert!(parse("-5").unwrap_err().contains("not negative"));
        assert!(parse("-5s").unwrap_err().contains("not negative"));
        assert!(parse("99999999999d").unwrap_err().contains("10 years"));
    }

    #[test]
    fn a_lease_is_at_least_a_second() {
        for text in ["0s", "1ms", "999ms"] {
            assert!(parse_lease(text).unwrap_err().contains("at least 1s"));
        }
        assert_eq!(parse_lease("1s"), Ok(Duration::from_secs(1)));
    }

    #[test]
    fn durations_are_shown_short() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (90_000, "1m30s"),
            (7_200_000, "2h"),
            (90_000_000, "1d1h"),
        ];
        for (ms, text) in cases {
            assert_eq!(show(Duration::from_millis(ms)), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn milliseconds_are_exact(ms in 0u64..100_000_000_000) {
            prop_assert_eq!(parse(&format!("{ms}ms")), Ok(Duration::from_millis(ms)));
        }
    }
}
