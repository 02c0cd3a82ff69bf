//! When: the times at which a schedule runs.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::schedules::cron::Expression;
use crate::state::Timestamp;

/// Longest name of a zone, in bytes.
const MAX_ZONE_BYTES: usize = 64;
/// Shortest and longest period: a second, and about ten years.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_hours(24 * 3_660);

/// A time zone, by its name in the IANA database. The database is part of the program.
#[derive(Debug, Clone)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl Zone {
    /// Finds a zone, such as `Europe/Berlin` or `UTC`.
    ///
    /// # Errors
    /// When there is none of this name; says what was expected.
    pub fn find(name: &str) -> Result<Self, String> {
        let wrong =
            || "is no time zone of the IANA database, such as Europe/Berlin or UTC".to_owned();
        let is_plain = name.len() <= MAX_ZONE_BYTES && name.bytes().all(|b| b.is_ascii_graphic());
        let zone = if is_plain { TimeZone::get(name).ok() } else { None };
        Ok(Self { name: name.to_owned(), zone: zone.ok_or_else(wrong)? })
    }

    /// Its name as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The times at which a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// What an expression names in a zone.
    Cron(Expression, Zone),
    /// Every so often: first at a time, then after each period. Elapsed time, without a zone.
    Every {
        /// The time between two runs.
        period: Duration,
        /// The first one.
        first: Timestamp,
    },
    /// Once.
    At(Timestamp),
}

impl When {
    /// Checks the bounds of a period.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn check_period(period: Duration) -> Result<(), String> {
        if (SHORTEST..=LONGEST).contains(&period) {
            return Ok(());
        }
        Err("must be from a second to ten years".into())
    }

    /// The first time after another one; `None` when there is none.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(expression, zone) => {
                let at = expression.next(&zone.zone, jiff(after)?)?;
                u64::try_from(at.as_microsecond()).ok().map(Timestamp)
            }
            Self::Every { first, .. } if after < *first => Some(*first),
            Self::Every { period, first } => {
                let period = micros(*period).max(1);
                let passed = (after.0 - first.0) / period + 1;
                Some(Timestamp(first.0.checked_add(passed.checked_mul(period)?)?))
            }
            Self::At(at) => (*at > after).then_some(*at),
        }
    }

    /// How many times there are from one, which is one of them, up to another; `None` when counting takes long.
    pub(super) fn count(&self, from: Timestamp, to: Timestamp) -> Option<u64> {
        match self {
            Self::Every { period, .. } => {
                Some(to.0.checked_sub(from.0).map_or(0, |time| time / micros(*period).max(1) + 1))
            }
            Self::At(_) => Some(u64::from(from <= to)),
            Self::Cron(..) => None,
        }
    }
}

fn jiff(at: Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_microsecond(i64::try_from(at.0).ok()?).ok()
}

/// A duration in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_goes_on_from_its_first_time_however_late_it_is_asked() {
        let when = When::Every { period: Duration::from_secs(10), first: Timestamp(7) };
        for (after, next) in [(0, 7), (7, 10_000_007), (8, 10_000_007), (99_999_999, 100_000_007)] {
            assert_eq!(when.next(Timestamp(after)), Some(Timestamp(next)), "{after}");
        }
        assert_eq!(when.next(Timestamp(u64::MAX)), None);
        assert_eq!(when.count(Timestamp(7), Timestamp(30_000_006)), Some(3));
        assert_eq!(when.count(Timestamp(7), Timestamp(6)), Some(0));
    }

    #[test]
    fn an_instant_comes_once() {
        assert_eq!(When::At(Timestamp(5)).next(Timestamp(4)), Some(Timestamp(5)));
        assert_eq!(When::At(Timestamp(5)).next(Timestamp(5)), None);
    }

    #[test]
    fn a_malformed_zone_is_refused() {
        assert!(Zone::find("Europe/Berlin").is_ok() && Zone::find("UTC").is_ok());
        for wrong in
            ["", "Europe/Berlins", "../UTC", "UTC\0", "Ü", "Europe/ Berlin", "+25:00", "EST5EDT,M3"]
        {
            assert!(Zone::find(wrong).is_err(), "{wrong:?}");
        }
        assert!(Zone::find(&"x".repeat(10_000)).is_err());
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_are_none_and_no_panic() {
        let zone = Zone::find("America/New_York").unwrap();
        let daily = When::Cron(Expression::parse("0 0 * * *").unwrap(), zone);
        for after in [0, 253_402_207_200_000_000, u64::MAX / 2, u64::MAX] {
            let _next = daily.next(Timestamp(after));
        }
    }
}
