//! HTTP: maps each failure to its status. No other file does.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use metrics::counter;
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::ports::HostError;

use super::body::BodyError;
use super::failure::{Blamed, blamed, kind_of, name};
use super::metrics::status_label;
use super::trust::Refused;
use crate::audit::NotWritten;
use crate::metrics::ERRORS_TOTAL;
use crate::store::Owner;
use crate::wire::json::Problem;
use crate::wire::{self, Form, Malformed, Outcome};

const OCTET_STREAM: HeaderValue =
    HeaderValue::from_static("application/octet-stream; charset=utf-8");

/// Header of a failure: who failed.
const ERROR_SOURCE: HeaderName = HeaderName::from_static("tidegate-error-source");

/// Content type of JSON.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Content type of a failure in JSON (RFC 9457).
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Seconds after which a refusal that names no time may be tried again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// An answer.
pub type Answer = Response<Bytes>;

/// A failure with its status and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    outcome: Outcome,
    text: String,
    /// Seconds after which to try again.
    retry_after: Option<u64>,
    /// The methods of the resource, for a wrong method.
    allow: Option<&'static str>,
    blamed: Blamed,
    /// Credentials that would have been taken.
    challenges: Vec<&'static str>,
    /// What it is, in JSON.
    kind: &'static str,
    safe_to_retry: bool,
    /// Whether what was asked for was done, and only its answer is lost.
    is_done: bool,
    /// What the action answered, if it says that it failed. Boxed: most refusals have none.
    answered: Option<Box<Bytes>>,
}

/// What another system is told of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The word for what it is.
    pub(crate) kind: &'static str,
    /// The word for who failed.
    pub(crate) source: &'static str,
    pub(crate) is_safe_to_retry: bool,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u64>,
    pub(crate) text: String,
    /// The status and the body that its action answered, if it says that it failed.
    pub(crate) answered: Option<(u16, Bytes)>,
    /// Whether what was asked for was done, and only its answer is lost.
    pub(crate) is_done: bool,
}

impl Refusal {
    /// A failure of the request itself.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let retry_after =
            (status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY_AFTER_SECONDS);
        let (outcome, text) = (Outcome::Error, text.into());
        Self {
            status,
            outcome,
            text,
            retry_after,
            allow: None,
            blamed: Blamed::Proxy,
            challenges: Vec::new(),
            kind: kind_of(status),
            safe_to_retry: matches!(
                status,
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT
            ),
            is_done: false,
            answered: None,
        }
    }

    /// A rule says no.
    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self { blamed: Blamed::Policy, ..Self::new(StatusCode::FORBIDDEN, text) }
    }

    /// Whether a rule says no, and not the action.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && self.blamed == Blamed::Policy
    }

    /// Whether the text of an error says where a host is, or what connecting to it said.
    pub(super) fn names_hosts(error: &Error) -> bool {
        untold(error).is_some()
    }

    /// A failed call of a client that may not know where hosts are: neither addresses nor what connecting to them said.
    pub(crate) fn without_hosts(error: Error) -> Self {
        let told = untold(&error);
        let mut refusal = Self::from(error);
        if let Some(told) = told {
            refusal.text = format!(
                "{told}; clients in TIDEGATE_TRUSTED_PEERS are told where and what happened"
            );
        }
        refusal
    }

    /// The same when what was asked for was done, and only its answer is lost: it must not be asked for again.
    pub(crate) fn of_lost_answer(self) -> Self {
        Self { is_done: true, safe_to_retry: false, retry_after: None, ..self }
    }

    /// A method that the resource does not know.
    pub(super) fn method(allowed: &'static str) -> Self {
        let text = format!("method not allowed here, use {allowed}");
        Self { allow: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, text) }
    }

    /// Credentials are missing or wrong; these would be taken.
    pub(super) fn unauthorized(text: impl Into<String>, challenges: Vec<&'static str>) -> Self {
        Self { blamed: Blamed::Policy, challenges, ..Self::new(StatusCode::UNAUTHORIZED, text) }
    }

    /// Adds where the owner of the store is, if the request collides with what is there.
    pub(super) fn naming(mut self, owner: Option<&Owner>) -> Self {
        if let Some(owner) = owner.filter(|_| self.status == StatusCode::CONFLICT) {
            self.text = format!("{}; the store now belongs to {owner}", self.text);
        }
        self
    }

    /// What another system is told of it.
    pub(crate) fn told(&self) -> Told {
        let answered = self.answered.as_deref();
        Told {
            kind: self.kind,
            source: self.blamed.name(),
            is_safe_to_retry: self.safe_to_retry,
            retry_after: self.retry_after,
            text: self.text.clone(),
            answered: answered.map(|body| (self.status.as_u16(), body.clone())),
            is_done: self.is_done,
        }
    }

    /// The same without the body that its action answered: that is larger than one message may be.
    pub(crate) fn without_body(self) -> Self {
        Self { answered: self.answered.map(|_| Box::default()), ..self }
    }

    /// Its text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns its text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    /// The answer; its body is never empty.
    pub(super) fn into_answer(self, form: Form) -> Answer {
        let status = status_label(self.status).unwrap_or_default();
        let labels = [("kind", self.kind), ("source", self.blamed.name()), ("status", status)];
        counter!(ERRORS_TOTAL, &labels).increment(1);
        let mut answer = match form {
            Form::Protobuf => {
                let mut text = self.text;
                if let Some(answered) = self.answered.filter(|answered| !answered.is_empty()) {
                    text = format!("{text}: {}", String::from_utf8_lossy(&answered));
                }
                octets(wire::error(self.outcome, text))
            }
            Form::Json => {
                let problem = Problem {
                    r#type: "about:blank",
                    title: self.status.canonical_reason().unwrap_or("Error"),
                    status: self.status.as_u16(),
                    detail: &self.text,
                    error: &self.text,
                    kind: self.kind,
                    source: self.blamed.name(),
                    safe_to_retry: self.safe_to_retry,
                    body: self.answered.and_then(|body| wire::json::answered(&body)),
                };
                of_type(PROBLEM, wire::json::problem(&problem))
            }
        };
        *answer.status_mut() = self.status;
        answer.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static(self.blamed.name()));
        if let Some(seconds) = self.retry_after {
            answer.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allowed) = self.allow {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        for challenge in self.challenges {
            let challenge = HeaderValue::from_static(challenge);
            answer.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let mut refusal = Self::new(status(kind), error.to_string());
        refusal.blamed = blamed(&error);
        refusal.kind = name(kind);
        refusal.safe_to_retry = error.is_retryable();
        if let Some((status, body)) = rejected(&error) {
            refusal.status = status;
            refusal.answered = Some(body.into());
        }
        // Of what is not there, protobuf clients know only this outcome.
        if matches!(kind, ErrorKind::ActorNotFound | ErrorKind::NotFound) {
            refusal.outcome = Outcome::ActorNotFound;
        }
        if let Error::Elsewhere(failed) = &error {
            let after = failed.retry_after.map(whole_seconds);
            refusal.retry_after = after.or(refusal.retry_after);
        }
        if let Error::HostAway { .. } = error {
            refusal.retry_after = Some(RETRY_AFTER_SECONDS);
        }
        if let Error::Overloaded { retry_after, .. } | Error::RateLimited { retry_after, .. } =
            error
        {
            refusal.retry_after = Some(whole_seconds(retry_after));
        }
        if !refusal.safe_to_retry {
            // Clients take a time as leave to send the same again.
            refusal.retry_after = None;
        }
        refusal
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1_000).try_into().map_or(u64::MAX, |seconds: u64| seconds.max(1))
}

/// The status and the body of an action that says that it failed: its own status if it blames its caller, else 502.
fn rejected(error: &Error) -> Option<(StatusCode, Bytes)> {
    let (status, body) = match error {
        Error::ActionRan(source) => return rejected(source),
        Error::Host(HostError::Rejected { status, body, .. }) => (*status, body.clone()),
        Error::Elsewhere(failed) => failed.answered.clone()?,
        _ => return None,
    };
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error);
    Some((status.unwrap_or(StatusCode::BAD_GATEWAY), body))
}

/// What is told of a failed host without its address; `None`: the error names none.
fn untold(error: &Error) -> Option<&'static str> {
    match error {
        Error::Host(HostError::Connect { .. }) | Error::HostAway { .. } => {
            Some("not started, it is safe to retry: the actor host cannot be reached")
        }
        Error::Host(HostError::Rejected { .. }) => None,
        Error::Host(_) => Some("the actor host failed; the action may have run"),
        Error::ActionRan(source) => untold(source)
            .map(|_| "an actor host cannot be reached, or failed; an action of this call has run"),
        _ => None,
    }
}

/// The status of each kind of failure.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::ActorNotFound | ErrorKind::ActionNotFound | ErrorKind::NotFound => {
            StatusCode::NOT_FOUND
        }
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::Overloaded | ErrorKind::StoreUnavailable | ErrorKind::Draining => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::HostFailed | ErrorKind::ActionFailed => StatusCode::BAD_GATEWAY,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        // A new kind is a defect until it gets a status here.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        let status = match malformed {
            Malformed::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, malformed.to_string())
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self::forbidden(refused.to_string())
    }
}

impl From<NotWritten> for Refusal {
    fn from(error: NotWritten) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("not done: {error}"))
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::NoCapacity(_) => StatusCode::SERVICE_UNAVAILABLE,
            BodyError::Late(_) => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

/// A message of the protocol, under 200.
pub(super) fn octets(body: Bytes) -> Answer {
    of_type(OCTET_STREAM, body)
}

/// A body of some other type, under 200.
pub(super) fn of_type(content_type: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

#[cfg(test)]
mod tests {
    use tidegate_stages::error::{FailedBy, FailedElsewhere};
    use tidegate_stages::ports::StoreError;

    use super::*;

    #[test]
    fn every_failure_has_its_status() {
        let host = HostError::Broken { address: "a".into(), reason: "b".into() };
        let not_found = Error::ActorNotFound { system: "s".into(), name: "n".into() };
        let no_action = Error::ActionNotFound { actor: "n".into(), action: "x".into() };
        let second = Duration::from_secs(1);
        for (error, status) in [
            (Error::Invalid("x".into()), 400),
            (not_found, 404),
            (Error::NotFound("x".into()), 404),
            (no_action, 404),
            (Error::Forbidden("x".into()), 403),
            (Error::NotAllowed("x".into()), 403),
            (Error::Conflict("x".into()), 409),
            (Error::Cancelled, 409),
            (Error::CancelledRunning, 409),
            (Error::TooLarge("x".into()), 413),
            (Error::Overloaded { reason: "x".into(), retry_after: second }, 503),
            (Error::RateLimited { reason: "x".into(), retry_after: second }, 429),
            (Error::Store(StoreError::Full("x".into())), 503),
            (Error::Store(StoreError::Fenced(7)), 409),
            (Error::Draining, 503),
            (Error::Ended, 503),
            (Error::Host(host), 502),
            (Error::BadRoute("x".into()), 502),
            (Error::NotStarted(second, "x".into()), 504),
            (Error::NoAnswer(second), 504),
            (Error::Unsupported("x".into()), 501),
            (Error::Internal("x".into()), 500),
        ] {
            assert_eq!(Refusal::from(error.clone()).status.as_u16(), status, "{error}");
        }
    }

    #[test]
    fn every_failure_says_who_failed_and_nobody_has_to_be_told_where() {
        let connect = HostError::Connect { address: "10.1.1.1:80".into(), reason: "why".into() };
        let broken = HostError::Broken { address: "10.1.1.1:80".into(), reason: "why".into() };
        let away = Error::HostAway { away_for: Duration::from_secs(5), reason: "why".into() };
        let second = Duration::from_secs(1);
        let limited = Error::RateLimited { reason: "x".into(), retry_after: second };
        for (error, source, names_host) in [
            (Error::Host(connect.clone()), "host", true),
            (Error::Host(broken), "host", true),
            (away, "host", true),
            (Error::ActionRan(Box::new(Error::Host(connect))), "host", true),
            (Error::BadRoute("x".into()), "host", false),
            (Error::NoAnswer(second), "host", false),
            (Error::NotStarted(second, "x".into()), "proxy", false),
            (Error::ActionRan(Box::new(Error::NotStarted(second, "x".into()))), "proxy", false),
            (Error::Ended, "proxy", false),
            (Error::Store(StoreError::Full("x".into())), "store", false),
            (limited, "policy", false),
            (Error::Forbidden("x".into()), "policy", false),
            (Error::Internal("x".into()), "proxy", false),
            (Error::Invalid("x".into()), "proxy", false),
        ] {
            let answer = Refusal::from(error.clone()).into_answer(Form::Json);
            assert_eq!(answer.headers()[ERROR_SOURCE], source, "{error}");
            let body = String::from_utf8_lossy(answer.body()).into_owned();
            assert!(body.contains(&format!(r#""tidegate-error-source":"{source}""#)), "{body}");
            let untold = Refusal::without_hosts(error.clone());
            assert_eq!(untold.status, answer.status());
            assert_eq!(untold.text != error.to_string(), names_host, "{}", untold.text);
            assert!(!untold.text.contains("10.1.1.1") && !untold.text.contains("why"));
        }
    }

    #[test]
    fn a_failure_elsewhere_is_told_as_it_was_told_there() {
        let failed = FailedElsewhere {
            kind: ErrorKind::Overloaded,
            by: FailedBy::Store,
            is_retryable: true,
            retry_after: Some(Duration::from_millis(2_500)),
            text: "no place there".into(),
            answered: None,
            is_done: false,
        };
        let refusal = Refusal::from(Error::Elsewhere(Box::new(failed)));
        assert!(refusal.safe_to_retry);
        let answer = refusal.into_answer(Form::Json);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()[RETRY_AFTER]),
            (503, &"3".parse().unwrap())
        );
        assert_eq!(answer.headers()[ERROR_SOURCE], "store");
    }

    #[test]
    fn only_what_is_safe_to_retry_says_when_to_come_back() {
        let overloaded =
            Error::Overloaded { reason: "x".into(), retry_after: Duration::from_secs(1) };
        for (error, is_told) in [
            (overloaded.clone(), true),
            (Error::Draining, true),
            (Error::Store(StoreError::Full("x".into())), true),
            (Error::Store(StoreError::Unknown("x".into())), false),
            (Error::ActionRan(Box::new(overloaded)), false),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!(refusal.safe_to_retry, is_told, "{}", refusal.text);
            let answer = refusal.into_answer(Form::Json);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.headers().contains_key(RETRY_AFTER), is_told);
        }
    }

    #[test]
    fn an_overload_and_a_rate_limit_say_when_to_come_back_in_whole_seconds() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let (retry_after, reason) = (Duration::from_millis(millis), String::from("full"));
            let overloaded = Error::Overloaded { reason: reason.clone(), retry_after };
            for error in [overloaded, Error::RateLimited { reason, retry_after }] {
                let answer = Refusal::from(error).into_answer(Form::Protobuf);
                assert_eq!(answer.headers()[RETRY_AFTER], seconds);
            }
        }
    }
}
