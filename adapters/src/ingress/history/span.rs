//! Span: which part of a history a request asks for.

use tidegate_stages::history::{Interval, Position};
use tidegate_stages::state::Timestamp;

use crate::ingress::http::Refusal;
use crate::ingress::query::{Query, wrong};

/// Parses the number of a revision.
pub(super) fn number(what: &str, given: &str) -> Result<u64, Refusal> {
    let digits = given.bytes().all(|byte| byte.is_ascii_digit());
    let number = given.parse::<i64>().ok().filter(|number| digits && *number > 0);
    number.and_then(|number| u64::try_from(number).ok()).ok_or_else(|| {
        wrong(format!("{what} must be a whole number from 1, such as 7, not {given:?}"))
    })
}

/// The requested part of a history.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) interval: Interval,
    pub(crate) limit: usize,
}

impl Span {
    pub(crate) fn of(query: &Query<'_>) -> Result<Self, Refusal> {
        query.knows(&["from", "to", "limit", "next"])?;
        let (from, to) = (query.time("from")?, query.time("to")?);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(wrong("from in the query is later than to".into()));
        }
        let limit = query.limit()?;
        let (after, until) = match query.get("next") {
            None => (None, None),
            Some(given) => read_next(given).ok_or_else(|| {
                wrong(format!(
                    "next in the query must be what the last answer gave as \"next\", not {given:?}"
                ))
            })?,
        };
        Ok(Self { interval: Interval { from, to: to.or(until), after }, limit })
    }

    /// Returns the `next` parameter for the entries after `last`. It includes the interval's end and needs no other parameter.
    pub(super) fn next(&self, last: Position) -> String {
        let to = self.interval.to.map(|to| format!("{:x}", to.0)).unwrap_or_default();
        format!("{:x}.{:x}.{to}", last.at.0, last.revision)
    }
}

fn read_next(given: &str) -> Option<(Option<Position>, Option<Timestamp>)> {
    let mut parts = given.split('.');
    let number =
        |part: &str| i64::from_str_radix(part, 16).ok().and_then(|part| u64::try_from(part).ok());
    let (at, revision) = (number(parts.next()?)?, number(parts.next()?)?);
    let to = match parts.next()? {
        "" => None,
        to => Some(Timestamp(number(to)?)),
    };
    let place = Position { at: Timestamp(at), revision };
    parts.next().is_none().then_some((Some(place), to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(query: &str) -> Result<Span, Refusal> {
        Span::of(&Query::read(Some(query))?)
    }

    #[test]
    fn both_ends_a_limit_and_a_next_are_understood() {
        let all = Span { interval: Interval::ALL, limit: 100 };
        assert_eq!(span("").unwrap(), all);
        assert_eq!(span("from=&to=&limit=&next=").unwrap(), all);
        let some = span("from=1970-01-01T00%3A00%3A01%2B00:00&to=2000&limit=1000").unwrap();
        let interval = Interval::between(Timestamp(1_000_000), Timestamp(2_000_000));
        assert_eq!(some, Span { interval, limit: 1_000 });
        let place = Position { at: Timestamp(1_500_000), revision: 7 };
        let next = some.next(place);
        let following = span(&format!("next={next}")).unwrap().interval;
        assert_eq!((following.to, following.after), (interval.to, Some(place)));
        let following = span(&format!("next={}", all.next(place))).unwrap().interval;
        assert_eq!((following.to, following.after), (None, Some(place)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            "from=yesterday",
            "to=2026-01-31",
            "from=2&to=1",
            "limit=0",
            "limit=1001",
            "limit=many",
            "next=x",
            "next=1.2",
            "next=1.2..",
            "next=-1.2.",
            "next=ffffffffffffffff.1.",
            "form=1",
            "from=%ff",
        ] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "-1", "+1", "1.0", "x", "9223372036854775808"] {
            assert!(number("it", wrong).is_err(), "{wrong}");
        }
        assert_eq!(number("it", "9223372036854775807").unwrap(), u64::MAX / 2);
    }
}
