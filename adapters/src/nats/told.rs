//! Told: the header of an answer that is a failure.
//!
//! Its body is the text alone, as Spawn sends it. The header has the kind of the failure, who failed, and whether the call may be
//! made again: `overloaded; source=proxy; retry=true; after-ms=1000`. Of an action that says that it failed, the text is followed
//! by what the action answered, and the header has the status and how many of the last bytes these are:
//! `action_failed; source=host; retry=false; status=422; body-bytes=10`. Of a call that was carried out, but whose answer is lost,
//! the header has `done=true`.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use tidegate_stages::error::{ErrorKind, FailedBy, FailedElsewhere};
use tidegate_stages::ports::BusMessage;

use crate::ingress::failure::{kind_named, source_named};
use crate::ingress::http::{Refusal, Told};
use crate::wire::json::ANSWERED_BYTES;

/// The header.
pub(super) const ERROR: &str = "tidegate-error";

/// Longest text that is taken from an answer, in characters.
const TEXT_CHARS: usize = 1_000;

/// What is between a text and what an action answered.
const BETWEEN: &[u8] = b": ";

/// The answer that says a failure.
pub(super) fn message(refusal: &Refusal) -> BusMessage {
    let Told { kind, source, is_safe_to_retry, retry_after, text, answered, is_done } =
        refusal.told();
    // Proxies of version 0.3 do not know the word, and would take it for a defect.
    let kind = if kind == "not_found" { "actor_not_found" } else { kind };
    let mut header = format!("{kind}; source={source}; retry={is_safe_to_retry}");
    if let Some(seconds) = retry_after {
        write!(header, "; after-ms={}", seconds.saturating_mul(1_000))
            .expect("a string takes all text");
    }
    if is_done {
        header.push_str("; done=true");
    }
    let mut body = text.into_bytes();
    if let Some((status, answered)) = answered {
        write!(header, "; status={status}; body-bytes={}", answered.len())
            .expect("a string takes all text");
        if !answered.is_empty() {
            body.extend_from_slice(BETWEEN);
            body.extend_from_slice(&answered);
        }
    }
    BusMessage { headers: vec![(ERROR.into(), header)], body: body.into() }
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
        answered: None,
        is_done: false,
    };
    let (mut status, mut body_bytes): (Option<u16>, usize) = (None, 0);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "source" => failed.by = source_named(value).unwrap_or(FailedBy::Proxy),
            "retry" => failed.is_retryable = value == "true",
            "done" => failed.is_done = value == "true",
            "after-ms" => failed.retry_after = value.parse().ok().map(Duration::from_millis),
            "status" => status = value.parse().ok(),
            "body-bytes" => body_bytes = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    if let Some(status) = status.filter(|_| failed.kind == ErrorKind::ActionFailed) {
        let (told, answered) = split(&message.body, body_bytes);
        failed.text = text(&told);
        failed.answered = Some((status, answered));
    }
    Some(failed)
}

/// The text, and the last bytes after it: what an action answered, as much of that as reaches its caller.
fn split(body: &Bytes, last: usize) -> (Bytes, Bytes) {
    let mut text = body.clone();
    let mut answered = text.split_off(body.len().saturating_sub(last));
    if !answered.is_empty() && text.ends_with(BETWEEN) {
        text.truncate(text.len() - BETWEEN.len());
    }
    answered.truncate(ANSWERED_BYTES);
    (text, answered)
}

/// A text that somebody else wrote, bounded and in one line.
pub(super) fn text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body.get(..4 * TEXT_CHARS).unwrap_or(body)).into_owned();
    text.chars().take(TEXT_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use tidegate_stages::error::Error;
    use tidegate_stages::ports::{HostError, StoreError};

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
                answered: None,
                is_done: false,
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
            let refusal = Refusal::from(error.clone());
            let lost = read(&message(&refusal.clone().of_lost_answer())).unwrap();
            assert!(lost.is_done && !lost.is_retryable && lost.retry_after.is_none(), "{lost:?}");
            let read = read(&message(&refusal)).unwrap();
            assert!(!read.is_done);
            assert_eq!((read.kind, read.is_retryable), (error.kind(), error.is_retryable()));
            assert_eq!(read.text, error.to_string());
            let is_overload = matches!(error, Error::Overloaded { .. });
            assert_eq!(read.retry_after == Some(after), is_overload, "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_by_a_word_that_every_version_knows() {
        let told = message(&Error::NotFound("no definition".into()).into());
        assert_eq!(read(&told).unwrap().kind, ErrorKind::ActorNotFound);
    }

    #[test]
    fn what_an_action_answered_is_read_with_its_status_and_stands_behind_the_text_for_others() {
        let bodies = [
            Bytes::from_static(b"{\"a\": \n1}"),
            vec![0xff_u8; ANSWERED_BYTES].into(),
            Bytes::new(),
        ];
        for body in bodies {
            let (address, status) = (String::from("a"), 422);
            let rejected = HostError::Rejected { address, status, body: body.clone() };
            let error = Error::Host(rejected);
            let sent = message(&error.clone().into());
            assert!(sent.body.starts_with(error.to_string().as_bytes()), "{sent:?}");
            assert!(sent.body.ends_with(&body));
            let read = read(&sent).unwrap();
            assert_eq!((read.kind, &read.text), (ErrorKind::ActionFailed, &error.to_string()));
            assert_eq!(read.answered, Some((status, body)));
        }
    }

    #[test]
    fn a_header_that_is_wrong_about_what_an_action_answered_does_no_harm() {
        let beyond = read(&answer("action_failed; status=422; body-bytes=9", b"no: 1")).unwrap();
        assert_eq!(beyond.answered, Some((422, Bytes::from_static(b"no: 1"))));
        let elsewhere = read(&answer("overloaded; status=422; body-bytes=1", b"no: 1")).unwrap();
        assert_eq!((elsewhere.text.as_str(), elsewhere.answered), ("no: 1", None));
        let without = read(&answer("action_failed; source=host", b"no: 1")).unwrap();
        assert_eq!(
            (without.text.as_str(), without.answered),
            ("no: 1", None),
            "of an earlier version"
        );
        let large: &[u8] = vec![b'x'; ANSWERED_BYTES + 1].leak();
        let header = format!("action_failed; status=422; body-bytes={}", large.len());
        let (_, cut) = read(&answer(&header, large)).unwrap().answered.unwrap();
        assert_eq!(cut.len(), ANSWERED_BYTES);
    }

    #[test]
    fn a_long_text_of_somebody_else_is_cut() {
        assert_eq!(text(&vec![b'x'; 1 << 20]).len(), TEXT_CHARS);
    }
}
