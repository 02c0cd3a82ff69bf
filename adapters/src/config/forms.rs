//! Forms: values whose text has a form of its own.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tidegate_pipeline::Full;
use tidegate_pipeline::layer::RateLimitOptions;

use super::value::{Kind, Value};
use crate::store::{Consistency, Key, Replication};

/// The largest number in a rate.
const MOST_CALLS: u32 = 1_000_000;

/// Most peers, systems or definitions with a rate limit state of their own.
const RATE_KEYS: usize = 65_536;

/// The words of [`consistency`].
pub(super) const CONSISTENCIES: &[&str] =
    &["one", "local_one", "local_quorum", "quorum", "each_quorum", "all"];

/// A consistency, by its word.
pub(super) fn consistency(word: &str) -> Consistency {
    match word {
        "one" => Consistency::One,
        "local_one" => Consistency::LocalOne,
        "quorum" => Consistency::Quorum,
        "each_quorum" => Consistency::EachQuorum,
        "all" => Consistency::All,
        _ => Consistency::LocalQuorum,
    }
}

pub(super) fn mode(text: &str) -> Result<(), String> {
    parse_mode(text).map(|_| ())
}

/// Parses the mode of a socket, in octal. Requires that its owner may read and write; this also refuses the decimal number
/// that TOML makes of `0o660`.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let is_octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten();
    mode.filter(|mode| (0o600..=0o777).contains(mode)).ok_or_else(|| {
        format!("must be an octal mode from 0600 to 0777, such as 0660, not {text:?}")
    })
}

pub(super) fn admin_address(text: &str) -> Result<(), String> {
    parse_admin_address(text).map(|_| ())
}

/// Parses where the admin port is opened; `None`: nowhere.
pub(super) fn parse_admin_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let wrong = || format!("must be off, or an IP address and a port, not {text:?}");
    text.parse().map(Some).map_err(|_| wrong())
}

/// Where something listens that is reached over HTTP.
pub(super) fn http_address(text: &str) -> Result<(), String> {
    if text.contains('@') {
        return Err("must not hold a user or a password: this is shown".into());
    }
    let uri = text.parse::<http::Uri>().ok();
    let is_one = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    });
    let wrong = || format!("must be http://host:port or https://host:port, not {text:?}");
    if is_one { Ok(()) } else { Err(wrong()) }
}

/// Checks that a header can carry a token.
pub(super) fn token(text: &str) -> Result<(), String> {
    if text.trim() == text && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err("must be visible ASCII, without blanks at its ends: a header has to carry it".into())
}

pub(super) fn ratio(text: &str) -> Result<(), String> {
    parse_ratio(text).map(|_| ())
}

/// Parses a part of a whole.
pub(super) fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("must be a number from 0 to 1, such as 0.01, not {text:?}"))
}

pub(super) fn full(text: &str) -> Result<(), String> {
    parse_full(text).map(|_| ())
}

/// Parses what a full buffer does with the next call.
pub(super) fn parse_full(text: &str) -> Result<Full, String> {
    const TIME: Kind = Kind::Time { min: 1, max: 60_000 };
    let wrong = || format!("must be shed, or wait: and a time of 1 ms to 60 s, not {text:?}");
    let Some(time) = text.strip_prefix("wait:") else {
        return if text == "shed" { Ok(Full::Shed) } else { Err(wrong()) };
    };
    match TIME.parse(time) {
        Ok(Value::Time(limit)) => Ok(Full::Wait(limit)),
        _ => Err(wrong()),
    }
}

/// Checks the name of a keyspace: it becomes part of statements.
pub(super) fn keyspace(name: &str) -> Result<(), String> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let goes_on = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if begins && goes_on && name.len() <= 48 {
        return Ok(());
    }
    Err(format!("must be a letter, then letters, digits and _, at most 48 in all, not {name:?}"))
}

pub(super) fn replication(text: &str) -> Result<(), String> {
    parse_replication(text).map(|_| ())
}

/// Parses a number, or `centre:number` for each data centre.
pub(super) fn parse_replication(text: &str) -> Result<Replication, String> {
    let wrong = || format!("must be a number of replicas, or dc1:3,dc2:3, not {text:?}");
    let number = |text: &str| text.trim().parse().ok().filter(|number| *number > 0);
    if let Some(number) = number(text) {
        return Ok(Replication::Everywhere(number));
    }
    let centre = |part: &str| {
        let (name, factor) = part.rsplit_once(':')?;
        let name = name.trim();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_plain = !name.is_empty() && name.chars().all(plain);
        Some((is_plain.then(|| name.to_owned())?, number(factor)?))
    };
    let centres: Option<Vec<_>> = text.split(',').map(centre).collect();
    centres.map(Replication::Centres).ok_or_else(wrong)
}

pub(super) fn rate(text: &str) -> Result<(), String> {
    parse_rate(text).map(|_| ())
}

/// Parses `100/s`, `100/m`, or with a burst `100/s:200`. Without a burst, the burst is the number itself.
pub(super) fn parse_rate(text: &str) -> Result<RateLimitOptions, String> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| (1..=MOST_CALLS).contains(number));
        number.and_then(NonZeroU32::new)
    };
    let parsed = || {
        let (rate, burst) =
            text.split_once(':').map_or((text, None), |(rate, burst)| (rate, Some(burst)));
        let (calls, unit) = rate.split_once('/')?;
        let calls = number(calls)?;
        let burst = burst.map_or(Some(calls), number)?;
        let period = match unit {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            _ => return None,
        };
        Some(RateLimitOptions { calls, period, burst, max_keys: RATE_KEYS })
    };
    parsed().ok_or_else(|| {
        format!(
            "must be calls per second or minute from 1 to {MOST_CALLS}, such as 100/s, or with a burst 100/s:200, not {text:?}"
        )
    })
}

pub(super) fn key(text: &str) -> Result<(), String> {
    Key::parse(text).map(|_| ())
}

pub(super) fn keys(text: &str) -> Result<(), String> {
    parse_keys(text).map(|_| ())
}

/// Parses keys separated by commas.
pub(super) fn parse_keys(text: &str) -> Result<Vec<Key>, String> {
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty()).map(Key::parse);
    keys.collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn replication_is_a_number_or_one_for_each_data_centre() {
        assert_eq!(parse_replication("3"), Ok(Replication::Everywhere(3)));
        let two = vec![("dc1".to_owned(), 3), ("eu-west".to_owned(), 2)];
        assert_eq!(parse_replication("dc1:3, eu-west:2"), Ok(Replication::Centres(two)));
        for wrong in ["0", "", "dc1", "dc1:0", "dc1:x", "dc'1:3", ":3", "dc1:3,"] {
            assert!(parse_replication(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_full_buffer_sheds_or_waits_for_a_time() {
        assert_eq!(parse_full("shed"), Ok(Full::Shed));
        assert_eq!(parse_full("wait:500ms"), Ok(Full::Wait(Duration::from_millis(500))));
        assert_eq!(parse_full("wait:2s"), Ok(Full::Wait(Duration::from_secs(2))));
        for wrong in ["", "Shed", "wait", "wait:", "wait:0", "wait:61s", "wait:soon", "500ms"] {
            assert!(parse_full(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_rate_is_calls_per_second_or_minute_with_a_burst() {
        for (text, calls, seconds, burst) in [
            ("100/s", 100, 1, 100),
            ("100/s:200", 100, 1, 200),
            ("1/m", 1, 60, 1),
            ("1000000/m:1", 1_000_000, 60, 1),
        ] {
            let rate = parse_rate(text).unwrap();
            let found = (rate.calls.get(), rate.period.as_secs(), rate.burst.get());
            assert_eq!(found, (calls, seconds, burst), "{text}");
        }
        for wrong in [
            "",
            "100",
            "/s",
            "100/",
            "100/h",
            "0/s",
            "-1/s",
            "1.5/s",
            "100/s:",
            "100/s:0",
            "100/s:x",
            "100 /s",
            "1000001/s",
            "1/s:1000001",
            "100/s:200:300",
            "s/100",
        ] {
            let told = parse_rate(wrong).unwrap_err();
            assert!(told.contains("100/s:200") && told.contains(&format!("{wrong:?}")), "{told}");
        }
    }

    #[test]
    fn an_address_holds_no_credentials() {
        assert!(http_address("https://collector:4318").is_ok());
        for wrong in ["http://user:hush@collector:4318", "user:hush@collector"] {
            let told = http_address(wrong).unwrap_err();
            assert!(told.contains("user or a password") && !told.contains("hush"), "{told}");
        }
    }

    #[test]
    fn a_keyspace_is_a_plain_name() {
        assert!(keyspace("tidegate_2").is_ok());
        let long = "a".repeat(49);
        for wrong in ["", "2a", "a-b", "a b", "a;drop", "ä", &long] {
            assert!(keyspace(wrong).is_err(), "{wrong:?}");
        }
    }
}
