//! Value: text in, a checked value out.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use zeroize::Zeroizing;

/// What is shown of a secret.
pub(super) const MASKED: &str = "(set, masked)";

/// What a setting holds.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Count {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// A size: a number of bytes, or one with `KiB`, `MiB` or `GiB`.
    Bytes {
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
    /// A time: a number of milliseconds, or one with `ms`, `s`, `m`, `h` or `d`.
    Time {
        /// Least, in milliseconds.
        min: u64,
        /// Most, in milliseconds.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An IP address.
    Address,
    /// Any text.
    Text,
    /// Text in a form of its own: a description of the form, and its check.
    Form(&'static str, fn(&str) -> Result<(), String>),
    /// Any text, never shown.
    Secret,
    /// As [`Form`](Self::Form), never shown.
    SecretForm(&'static str, fn(&str) -> Result<(), String>),
    /// Accepted for existing deployments, without effect: the reason, and what it takes.
    Ignored(&'static str, &'static Kind),
}

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a [`Kind::Switch`].
    Switch(bool),
    /// Of a [`Kind::Count`].
    Count(i64),
    /// Of a [`Kind::Bytes`].
    Bytes(u64),
    /// Of a [`Kind::Time`].
    Time(Duration),
    /// Of a [`Kind::Secret`] or [`Kind::SecretForm`].
    Secret(Secret),
    /// Of any other kind.
    Text(String),
}

/// A text that is not shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(masked)")
    }
}

impl Value {
    fn secret(text: &str) -> Self {
        Self::Secret(Secret(Zeroizing::new(text.to_owned())))
    }

    /// The text of a secret.
    pub(crate) fn reveal(&self) -> Option<&str> {
        match self {
            Self::Secret(secret) => Some(secret.0.as_str()),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => on.fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Bytes(bytes) => f.write_str(&bytes_text(*bytes)),
            Self::Time(time) => f.write_str(&time_text(*time)),
            Self::Secret(_) => f.write_str(MASKED),
            Self::Text(text) => f.write_str(text),
        }
    }
}

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

pub(super) fn bytes_text(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(unit, size)| format!("{} {unit}", bytes / size))
}

pub(super) fn time_text(time: Duration) -> String {
    let milliseconds = time.as_millis();
    if milliseconds > 0 && milliseconds.is_multiple_of(1_000) {
        format!("{} s", milliseconds / 1_000)
    } else {
        format!("{milliseconds} ms")
    }
}

impl Kind {
    /// Checks a value.
    ///
    /// # Errors
    /// A description of the mistake.
    pub fn parse(self, given: &str) -> Result<Value, String> {
        let wrong = || format!("must be {}, not {given:?}", self.expected());
        match self {
            Self::Switch => given.parse().map(Value::Switch).map_err(|_| wrong()),
            Self::Count { min, max } => given
                .parse()
                .ok()
                .filter(|count| (min..=max).contains(count))
                .map(Value::Count)
                .ok_or_else(wrong),
            Self::Bytes { min, max } => bytes(given)
                .filter(|size| (min..=max).contains(size))
                .map(Value::Bytes)
                .ok_or_else(wrong),
            Self::Time { min, max } => milliseconds(given)
                .filter(|time| (min..=max).contains(time))
                .map(|time| Value::Time(Duration::from_millis(time)))
                .ok_or_else(wrong),
            Self::Choice(words) => {
                words.contains(&given).then(|| Value::Text(given.into())).ok_or_else(wrong)
            }
            Self::Address => given
                .parse::<IpAddr>()
                .map(|address| Value::Text(address.to_string()))
                .map_err(|_| wrong()),
            Self::Text => Ok(Value::Text(given.into())),
            Self::Ignored(_, takes) => takes.parse(given),
            Self::Secret => Ok(Value::secret(given)),
            Self::Form(_, check) => check(given).map(|()| Value::Text(given.into())),
            Self::SecretForm(_, check) => check(given).map(|()| Value::secret(given)),
        }
    }

    /// Describes the expected value: unit and range.
    pub fn expected(self) -> String {
        match self {
            Self::Switch => "true or false".into(),
            Self::Count { min, max } => format!("a number from {min} to {max}"),
            Self::Bytes { min, max } => {
                format!("bytes or KiB, MiB, GiB, from {} to {}", bytes_text(min), bytes_text(max))
            }
            Self::Time { min, max } => {
                let text = |milliseconds| time_text(Duration::from_millis(milliseconds));
                format!("milliseconds or ms, s, m, h, d, from {} to {}", text(min), text(max))
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Address => "an IP address".into(),
            Self::Text => "text".into(),
            Self::Secret => "text, never shown".into(),
            Self::Ignored(why, takes) => format!("{}: no effect, {why}", takes.expected()),
            Self::Form(form, _) => form.into(),
            Self::SecretForm(form, _) => format!("{form}, never shown"),
        }
    }
}

/// Splits a text into a number and its unit.
fn split(given: &str) -> Option<(u64, &str)> {
    let end = given.find(|c: char| !c.is_ascii_digit()).unwrap_or(given.len());
    let (number, unit) = given.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn bytes(given: &str) -> Option<u64> {
    let (number, unit) = split(given)?;
    match unit {
        "" => Some(number),
        unit => UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .and_then(|(_, size)| number.checked_mul(*size)),
    }
}

fn milliseconds(given: &str) -> Option<u64> {
    let (number, unit) = split(given)?;
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood_and_shown() {
        let size = Kind::Bytes { min: 1, max: 1 << 40 };
        for (given, bytes, shown) in [
            ("8000000", 8_000_000, "8000000"),
            ("4 MiB", 4 << 20, "4 MiB"),
            ("2048", 2048, "2 KiB"),
        ] {
            let value = size.parse(given).unwrap();
            assert_eq!((value.clone(), value.to_string().as_str()), (Value::Bytes(bytes), shown));
        }
        let time = Kind::Time { min: 0, max: 600_000 };
        for (given, milliseconds, shown) in [
            ("250", 250, "250 ms"),
            ("6s", 6_000, "6 s"),
            ("2 m", 120_000, "120 s"),
            ("0", 0, "0 ms"),
            ("0h", 0, "0 ms"),
        ] {
            let value = time.parse(given).unwrap();
            assert_eq!(value, Value::Time(Duration::from_millis(milliseconds)));
            assert_eq!(value.to_string(), shown);
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_expected() {
        let count = Kind::Count { min: 1, max: 9 };
        assert_eq!(count.parse("10").unwrap_err(), "must be a number from 1 to 9, not \"10\"");
        for (kind, given) in [
            (Kind::Switch, "yes"),
            (Kind::Switch, "True"),
            (count, "1.5"),
            (Kind::Bytes { min: 0, max: u64::MAX }, "99999999999999 GiB"),
            (Kind::Bytes { min: 0, max: 9 }, "MiB"),
            (Kind::Time { min: 0, max: 9 }, "-1"),
            (Kind::Time { min: 0, max: 9_999 }, "1h"),
            (Kind::Time { min: 0, max: 9_999 }, "1w"),
            (Kind::Choice(&["a", "b"]), "c"),
            (Kind::Address, "localhost"),
        ] {
            assert!(kind.parse(given).is_err(), "{kind:?} {given}");
        }
    }
}
