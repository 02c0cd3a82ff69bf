//! Cron: an expression of five or six fields, and the times at which it fires in a time zone.
//!
//! The fields are those of cron, a field for the second before them if there are six. The clock changes on some days of most
//! zones (decision 40). An expression whose second, minute and hour are written without `*` names *fixed times*: one that does
//! not exist on such a day fires at the first moment that does, and one of a repeated hour fires once. Any other names an
//! *interval* and fires whenever the clock shows it: not in an hour that does not exist, and twice in a repeated one.

use std::cmp::Ordering;

use croner::errors::CronError;
use croner::parser::{CronParser, Year};
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// Longest expression, in bytes.
const MAX_BYTES: usize = 256;
/// Changes of the clock after which a search ends: about a century of them.
const CHANGES: usize = 200;
/// Times that a search looks at: more than the seconds of the longest repeated time, a day.
const TIMES: usize = 100_000;

/// Why a text is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is too long.
    #[error("has {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// It has characters that no expression has.
    #[error("has characters that no expression has")]
    Characters,
    /// It does not have five or six fields.
    #[error("has {0} fields, not five (minute hour day month weekday) or six (second first)")]
    Fields(usize),
    /// A field is wrong.
    #[error("is no cron expression: {0}")]
    Field(String),
}

/// A parsed expression.
#[derive(Debug, Clone)]
pub struct Expression {
    text: String,
    cron: Box<Cron>,
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_BYTES {
            return Err(ExpressionError::TooLong(text.len()));
        }
        if !text.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic())
            || text.contains('@')
        {
            return Err(ExpressionError::Characters);
        }
        let fields = text.split_ascii_whitespace().count();
        if !matches!(fields, 5 | 6) {
            return Err(ExpressionError::Fields(fields));
        }
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| ExpressionError::Field(error.to_string()))?;
        Ok(Self { text: text.to_owned(), cron: Box::new(cron) })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first time after another one at which it fires; `None` when there is none for a century.
    pub(super) fn next(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let pattern = &self.cron.pattern;
        let times = [&pattern.seconds, &pattern.minutes, &pattern.hours];
        if times.iter().any(|field| field.from_wildcard) {
            self.next_of_interval(zone, after)
        } else {
            self.next_fixed(zone, after)
        }
    }

    fn next_fixed(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut shown = zone.to_datetime(after);
        for _ in 0..TIMES {
            shown = self.next_shown(shown, false)?;
            let at = match zone.to_ambiguous_timestamp(shown).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(shown),
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(shown),
                AmbiguousOffset::Gap { before, .. } => {
                    let within = before.to_timestamp(shown).ok()?.checked_add(1.second()).ok()?;
                    Ok(zone.preceding(within).next()?.timestamp())
                }
            };
            let at = at.ok()?;
            // In the second half of a repeated hour, its times are over.
            if at > after {
                return Some(at);
            }
        }
        None
    }

    fn next_of_interval(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let (mut from, mut inclusive) = (after, false);
        for _ in 0..CHANGES {
            let offset = zone.to_offset(from);
            let shown = self.next_shown(offset.to_datetime(from), inclusive)?;
            let at = offset.to_timestamp(shown).ok()?;
            match zone.following(from).next().map(|change| change.timestamp()) {
                // The clock is changed before it shows that time.
                Some(change) if change <= at => (from, inclusive) = (change, true),
                _ => return Some(at),
            }
        }
        None
    }

    /// The next time of this expression that a clock shows which is never changed.
    fn next_shown(&self, after: DateTime, inclusive: bool) -> Option<DateTime> {
        self.cron.find_next_occurrence(&Shown(after), inclusive).ok().map(|found| found.0)
    }
}

/// What a clock shows.
#[derive(Debug, Clone)]
struct Shown(DateTime);

impl CronDateTime for Shown {
    fn to_civil(&self) -> CivilDateTime {
        let part = |part: i8| u32::from(part.unsigned_abs());
        let at = self.0;
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(at.year().into(), part(at.month()), part(at.day())),
            CivilTime::from_parts_unchecked(part(at.hour()), part(at.minute()), part(at.second())),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        let day = self.0.weekday().to_sunday_zero_offset();
        Weekday::from_days_from_sunday(u32::from(day.unsigned_abs()))
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidTime);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let (month, day) = (part(civil.month())?, part(civil.day())?);
        let (hour, minute, second) =
            (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
        let shown = DateTime::new(year, month, day, hour, minute, second, 0);
        shown.map(|at| Resolution::Single(Self(at))).map_err(|_| CronError::InvalidDate)
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(seconds.seconds()).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The next runs after a time, in UTC.
    fn next(text: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (expression, zone) = (Expression::parse(text).unwrap(), TimeZone::get(zone).unwrap());
        let mut at: Timestamp = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = expression.next(&zone, at).unwrap();
            found.push(at.to_string());
        }
        found
    }

    #[test]
    fn five_and_six_fields_fire_at_their_times() {
        assert_eq!(
            next("30 2 * * MON-FRI", "UTC", "2026-11-27T12:00:00Z", 2),
            ["2026-11-30T02:30:00Z", "2026-12-01T02:30:00Z"]
        );
        assert_eq!(
            next("*/20 0 12 * * *", "UTC", "2026-11-27T12:00:00.5Z", 3),
            ["2026-11-27T12:00:20Z", "2026-11-27T12:00:40Z", "2026-11-28T12:00:00Z"]
        );
        assert_eq!(next("0 0 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29T00:00:00Z"]);
        assert_eq!(next("0 0 L * *", "UTC", "2026-02-01T00:00:00Z", 1), ["2026-02-28T00:00:00Z"]);
    }

    #[test]
    fn a_time_that_does_not_exist_fires_at_the_first_moment_that_does() {
        // Berlin, 29 March 2026: 2:00 is 3:00.
        for fixed in ["30 2 * * *", "30 2,14 * * *", "0-30/10 2 * * *"] {
            let found = next(fixed, "Europe/Berlin", "2026-03-28T23:00:00Z", 2);
            assert_eq!(found[0], "2026-03-29T01:00:00Z", "{fixed}");
            assert!(found[1].as_str() > "2026-03-29T02:00:00Z", "{fixed}: once, {found:?}");
        }
        // Its own time in that moment is the same run.
        assert_eq!(
            next("30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]
        );
        assert_eq!(
            next("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
        );
        // Lord Howe changes by half an hour: 2:00 is 2:30.
        assert_eq!(
            next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T15:00:00Z", 1),
            ["2026-10-03T15:30:00Z"]
        );
        // Samoa left out a day.
        assert_eq!(
            next("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
            ["2011-12-30T10:00:00Z"]
        );
    }

    #[test]
    fn a_repeated_hour_runs_a_fixed_time_once_and_an_interval_twice() {
        // Berlin, 25 October 2026: 3:00 is 2:00.
        assert_eq!(
            next("30 2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            next("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 3),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]
        );
        // Begun in the second half of it.
        assert_eq!(
            next("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
            ["2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn an_interval_fires_by_the_clock_of_its_zone() {
        // Quarters of an hour in office hours of a zone that is 5:30 ahead.
        assert_eq!(
            next("*/15 9-17 * * *", "Asia/Kolkata", "2026-11-27T12:20:00Z", 2),
            ["2026-11-28T03:30:00Z", "2026-11-28T03:45:00Z"]
        );
        // In an hour that does not exist it does not fire.
        assert_eq!(
            next("*/30 2 * * *", "Europe/Berlin", "2026-03-28T22:00:00Z", 1),
            ["2026-03-30T00:00:00Z"]
        );
        assert_eq!(
            next("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", 2),
            ["2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"]
        );
    }

    #[test]
    fn a_day_that_never_comes_ends_the_search() {
        let expression = Expression::parse("0 0 30 2 *").unwrap();
        for zone in ["UTC", "Europe/Berlin"] {
            let zone = TimeZone::get(zone).unwrap();
            assert_eq!(expression.next(&zone, Timestamp::UNIX_EPOCH), None);
        }
        let every_second = Expression::parse("* * * 30 2 *").unwrap();
        assert_eq!(every_second.next(&TimeZone::UTC, Timestamp::UNIX_EPOCH), None);
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_reason() {
        use ExpressionError as E;
        assert_eq!(Expression::parse(&"* ".repeat(200)), Err(E::TooLong(400)));
        assert_eq!(Expression::parse("* * * *"), Err(E::Fields(4)));
        assert_eq!(Expression::parse("* * * * * * 2026"), Err(E::Fields(7)));
        assert_eq!(Expression::parse(""), Err(E::Fields(0)));
        for wrong in ["@daily", "* * * * ü", "* * * *\n* *", "\u{ff0a} * * * *"] {
            assert_eq!(Expression::parse(wrong), Err(E::Characters), "{wrong:?}");
        }
        for wrong in
            ["60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "a b c d e", "*/0 * * * *"]
        {
            assert!(matches!(Expression::parse(wrong), Err(E::Field(_))), "{wrong:?}");
        }
    }

    /// Whether a clock that shows this time fires, by looking at the fields one by one.
    fn fires(expression: &Expression, shown: DateTime) -> bool {
        expression.cron.is_time_matching(&Shown(shown)).unwrap()
    }

    fn field(from: u8, to: u8) -> impl Strategy<Value = String> {
        prop_oneof![
            Just("*".to_owned()),
            (from..=to).prop_map(|at| at.to_string()),
            (from..=to, from..=to).prop_map(|(one, other)| format!("{one},{other}")),
            (1..=to.max(2) / 2).prop_map(|step| format!("*/{step}")),
        ]
    }

    fn zones() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec![
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Asia/Kolkata",
            "America/Sao_Paulo",
            "Africa/Casablanca",
        ])
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~üß\\*/,0-9LW#?+]{0,40}") {
            if let Ok(expression) = Expression::parse(&text) {
                let after = Timestamp::from_second(1_800_000_000).unwrap();
                if let Some(at) = expression.next(&TimeZone::UTC, after) {
                    prop_assert!(at > after);
                }
            }
        }

        /// A naive model: every minute that the clock shows, one by one.
        #[test]
        fn an_interval_fires_exactly_when_the_clock_shows_it(
            minute in field(0, 59), zone in zones(), start in 1_700_000_000_i64..1_800_000_000,
        ) {
            let expression = Expression::parse(&format!("{minute} */3 * * *")).unwrap();
            let zone = TimeZone::get(zone).unwrap();
            let start = start / 60 * 60;
            let mut at = Timestamp::from_second(start).unwrap();
            let end = start + 5 * 86_400;
            let mut found = Vec::new();
            while let Some(next) = expression.next(&zone, at).filter(|next| next.as_second() <= end) {
                found.push(next.as_second());
                at = next;
            }
            let shows = |at: &i64| {
                fires(&expression, zone.to_datetime(Timestamp::from_second(*at).unwrap()))
            };
            let expected: Vec<_> = (start + 60..=end).step_by(60).filter(shows).collect();
            prop_assert_eq!(found, expected);
        }

        /// Fixed times of each day: as many runs as days, each at its time, or where that does not exist right after.
        #[test]
        fn a_fixed_time_fires_once_on_each_day(
            hour in 0_i8..24, minute in 0_i8..60, zone in zones(), start in 1_700_000_000_i64..1_790_000_000,
        ) {
            let expression = Expression::parse(&format!("{minute} {hour} * * *")).unwrap();
            let zone = TimeZone::get(zone).unwrap();
            let mut at = Timestamp::from_second(start).unwrap();
            let mut days = Vec::new();
            for _ in 0..400 {
                at = expression.next(&zone, at).unwrap();
                let shown = zone.to_datetime(at);
                let wanted = shown.date().at(hour, minute, 0, 0);
                prop_assert!(shown == wanted || zone.to_ambiguous_timestamp(wanted).is_ambiguous());
                days.push(shown.date());
            }
            for pair in days.windows(2) {
                prop_assert_eq!(pair[0].tomorrow().unwrap(), pair[1]);
            }
        }
    }
}
