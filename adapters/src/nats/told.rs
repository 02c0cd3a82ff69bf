//! Told: the header of an answer that is a failure.
//!
//! Its body is the text alone, as Spawn sends it. The header has the kind of the failure, who failed, and whether the call may be
//! made again: `overloaded; source=proxy; retry=true; after-ms=1000`.

use std::fmt::Write as _;
use std::time::Duration;

use tidegate_stages::error::{ErrorKind, FailedBy, FailedElsewhere};
use tidegate_stages::ports::BusMessage;

use crate::ingress::failure::{kind_named, source_named};
use crate::ingress::http::{Refusal, Told};

/// The header.
pub(super) const ERROR: &str = "tidegate-error";

/// Longest text that is taken from an answer, in characters.
const TEXT_CHARS: usize = 1_000;

/// The answer that says a failure.
pub(super) fn message(refusal: &Refusal) -> BusMessage {
    let Told { kind, source, is_safe_to_retry, retry_after, text } = refusal.told();
    let mut header = format!("{kind}; source={source}; retry={is_safe_to_retry}");
    if let Some(seconds) = retry_after {
        write!(header, "; after-ms={}", seconds.saturating_mul(1_000))
            .expect("a string takes all text");
    }
    BusMessage { headers: vec![(ERROR.into(), header)], body: text.into() }
}

/// Reads the failure that an answer is; `None`: no proxy of ours says that it is one.
pub(super) fn read(message: &BusMessage) -> Option<FailedElsewhere> {
    let mut parts = message.header(ERROR)?.split(';').map(str::trim);
    let mut failed = FailedElsewhere {
        // Of a later version, perhaps.
        kind: parts.next().and_then(kind_named).unwrap_or(ErrorKind::Internal),
        by: FailedBy::Proxy,
        is_retryable: false,
        retry_after: None,
        text: text(&message.body),
    };
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "source" => failed.by = source_named(value).unwrap_or(FailedBy::Proxy),
            "retry" => failed.is_retryable = value == "true",
            "after-ms" => failed.retry_after = value.parse().ok().map(Duration::from_millis),
            _ => {}
        }
    }
    Some(failed)
}

/// A text that somebody else wrote, bounded and in one line.
pub(super) fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..4 * TEXT_CHARS).unwrap_or(body)).into_owned();
    text.chars().take(TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use tidegate_stages::error::Error;
    use tidegate_stages::ports::StoreError;

    use super::*;

    fn answer(header: &str, body: &'static [u8]) -> BusMessage {
        BusMessage { headers: vec![("Tidegate-Error".into(), header.into())], body: body.into() }
    }

    #[test]
    fn a_failure_is_read_and_what_is_not_known_of_it_is_taken_for_the_worst() {
        let known = answer("overloaded; source=host; retry=true; after-ms=1500; new=x", b"no");
        assert_eq!(
            read(&known).unwrap(),
            FailedElsewhere {
                kind: ErrorKind::Overloaded,
                by: FailedBy::Host,
                is_retryable: true,
                retry_after: Some(Duration::from_millis(1500)),
                text: "no".into(),
            }
        );
        let unknown = read(&answer("of_tomorrow; source=moon; retry=maybe", b"a\nb")).unwrap();
        assert_eq!((unknown.kind, unknown.by), (ErrorKind::Internal, FailedBy::Proxy));
        assert!(!unknown.is_retryable && unknown.retry_after.is_none());
        assert_eq!(unknown.text, "a b");
        assert_eq!(
            read(&BusMessage { headers: Vec::new(), body: b"text".as_slice().into() }),
            None
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let after = Duration::from_secs(2);
        let errors = [
            Error::Overloaded { reason: "full".into(), retry_after: after },
            Error::ActorNotFound { system: "s".into(), name: "n".into() },
            Error::NoAnswer(after),
            Error::Store(StoreError::Full("x".into())),
            Error::NotAllowed("no".into()),
        ];
        for error in errors {
            let read = read(&message(&error.clone().into())).unwrap();
            assert_eq!((read.kind, read.is_retryable), (error.kind(), error.is_retryable()));
            assert_eq!(read.text, error.to_string());
            let is_overload = matches!(error, Error::Overloaded { .. });
            assert_eq!(read.retry_after == Some(after), is_overload, "{error}");
        }
    }

    #[test]
    fn a_long_text_of_somebody_else_is_cut() {
        assert_eq!(text(&vec![b'x'; 1 << 20]).len(), TEXT_CHARS);
    }
}
