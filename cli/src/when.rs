//! Times as programs and people read them: ISO 8601, UTC, milliseconds.

use jiff::Timestamp;

/// A time in ms since the epoch, as `2026-08-01T12:00:00.000Z`; `None` for 0, which stands for "not known".
#[must_use]
pub fn iso(ms: u64) -> Option<String> {
    let time = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    (ms > 0).then(|| format!("{time:.3}"))
}

/// A time in µs since the epoch, likewise.
#[must_use]
pub fn iso_us(us: u64) -> Option<String> {
    iso(us / 1000)
}

/// Reads an RFC 3339 time with its offset, as ms since the epoch.
pub fn parse(text: &str) -> Result<u64, String> {
    let time: Timestamp = text.parse().map_err(|_| {
        "no time: write for example 2026-08-01T12:00:00Z or 2026-08-01T14:00:00+02:00".to_owned()
    })?;
    u64::try_from(time.as_millisecond()).map_err(|_| "a time is not before 1970".to_owned())
}

/// This machine's clock, in ms since the epoch.
#[must_use]
pub fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        let ms = 1_785_585_600_123;
        assert_eq!(iso(ms).as_deref(), Some("2026-08-01T12:00:00.123Z"));
        assert_eq!(parse(&iso(ms).unwrap()), Ok(ms));
        assert_eq!(iso_us(ms * 1000 + 9), iso(ms));
        assert_eq!(iso(0), None);
    }

    #[test]
    fn offsets_count_and_nonsense_is_refused() {
        assert_eq!(
            parse("2026-08-01T14:00:00+02:00"),
            parse("2026-08-01T12:00:00Z")
        );
        assert!(parse("tomorrow").unwrap_err().contains("2026"));
        assert!(parse("1969-08-01T12:00:00Z").is_err());
    }
}
