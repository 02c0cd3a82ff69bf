//! Moment: parses and formats times: RFC 3339, or milliseconds since the Unix epoch.

use tidegate_stages::state::Timestamp;

/// Last time that can be shown: 9999-12-30T22:00:00.999999Z, in microseconds.
const LAST_US: i64 = 253_402_207_200_999_999;

/// The same, for messages.
const LAST: &str = "9999-12-30T22:00:00Z";

/// Expected format, for messages.
const EXPECTED: &str =
    "RFC 3339 such as 2026-01-31T12:00:00.5Z or Unix milliseconds such as 1769860800500";

/// Parses a time.
///
/// # Errors
/// When the text is no such time, or the time is before 1970, after 9999, or finer than microseconds; says
/// what was expected.
pub fn parse(given: &str) -> Result<Timestamp, String> {
    let is_number = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit());
    let us = if is_number { from_millis(given) } else { from_text(given) };
    us.and_then(|us| u64::try_from(us).ok()).map(Timestamp).ok_or_else(|| {
        format!("must be {EXPECTED}, to the microsecond and from 1970 to {LAST}, not {given:?}")
    })
}

/// Whether a text is a time in RFC 3339.
pub fn is_rfc_3339(given: &str) -> bool {
    from_text(given).is_some()
}

fn from_millis(given: &str) -> Option<i64> {
    let us = given.parse::<i64>().ok()?.checked_mul(1_000)?;
    (us <= LAST_US).then_some(us)
}

fn from_text(given: &str) -> Option<i64> {
    // The parser accepts more forms than RFC 3339; forms that other parsers may read differently are
    // refused.
    let bytes = given.as_bytes();
    let has = |place: usize, sign: &[u8]| bytes.get(place).is_some_and(|byte| sign.contains(byte));
    let is_full = has(4, b"-") && has(7, b"-") && has(10, b"Tt ") && has(13, b":") && has(16, b":");
    let ends = bytes.last().is_some_and(|last| b"Zz0123456789".contains(last));
    let time: jiff::Timestamp = given.parse().ok().filter(|_| is_full && ends)?;
    let us = time.as_microsecond();
    (time.subsec_nanosecond() % 1_000 == 0 && (0..=LAST_US).contains(&us)).then_some(us)
}

/// Formats a time in RFC 3339 with microseconds, UTC.
pub fn show(at: Timestamp) -> String {
    let time = i64::try_from(at.0).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    // Only a clock beyond the year 9999 gives a time that RFC 3339 cannot express.
    time.map_or_else(|| at.to_string(), |time| format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read() {
        for (given, us) in [
            ("0", 0),
            ("1769860800500", 1_769_860_800_500_000),
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-31T12:00:00.5Z", 1_769_860_800_500_000),
            ("2026-01-31T13:00:00.500001+01:00", 1_769_860_800_500_001),
            ("2026-01-31 12:00:00.500000000z", 1_769_860_800_500_000),
            ("9999-12-30T00:00:00Z", 253_402_128_000_000_000),
            ("9999-12-30T22:00:00.999999Z", 253_402_207_200_999_999),
            ("253402207200999", 253_402_207_200_999_000),
        ] {
            assert_eq!(parse(given), Ok(Timestamp(us)), "{given}");
        }
    }

    #[test]
    fn anything_else_says_what_is_expected() {
        for wrong in [
            "",
            "now",
            "-1",
            "1.5",
            "+1",
            "99999999999999999999",
            "253402207201000",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-30T12:00:00Z",
            "2026-01-31T12:00Z",
            "20260131T120000Z",
            "2026-01-31T12:00:00.1234567Z",
            "2026-01-31T12:00:00Z[UTC]",
            "1969-12-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
            "-002026-01-31T12:00:00Z",
            "2026-01-31T12:00:00Z ",
        ] {
            let text = parse(wrong).unwrap_err();
            assert!(text.contains("RFC 3339 such as") && text.contains(&format!("{wrong:?}")));
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(us in 0..=253_402_207_200_999_999_u64) {
            prop_assert_eq!(parse(&show(Timestamp(us))), Ok(Timestamp(us)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            drop(parse(&text));
        }
    }
}
