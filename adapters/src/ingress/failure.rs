//! Failure: the words for what has failed, and for who failed.

use http::StatusCode;
use tidegate_stages::error::{Error, ErrorKind, FailedBy};

/// Who failed (decision 43).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blamed {
    /// The proxy, or the request itself.
    Proxy,
    /// The user function's host.
    Host,
    Store,
    /// A rule says no: trust, a rate limit.
    Policy,
}

impl Blamed {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Host => "host",
            Self::Store => "store",
            Self::Policy => "policy",
        }
    }
}

impl From<FailedBy> for Blamed {
    fn from(by: FailedBy) -> Self {
        match by {
            FailedBy::Proxy => Self::Proxy,
            FailedBy::Host => Self::Host,
            FailedBy::Store => Self::Store,
            FailedBy::Policy => Self::Policy,
        }
    }
}

/// Who failed.
pub(super) fn blamed(error: &Error) -> Blamed {
    match error {
        Error::ActionRan(source) => blamed(source),
        Error::NoAnswer(_) => Blamed::Host,
        Error::Store(_) => Blamed::Store,
        Error::Elsewhere(failed) => failed.by.into(),
        error => match error.kind() {
            ErrorKind::HostFailed | ErrorKind::ActionFailed => Blamed::Host,
            ErrorKind::StoreUnavailable => Blamed::Store,
            ErrorKind::Forbidden | ErrorKind::RateLimited => Blamed::Policy,
            _ => Blamed::Proxy,
        },
    }
}

/// All kinds that have a word.
const KINDS: [ErrorKind; 16] = [
    ErrorKind::Invalid,
    ErrorKind::ActorNotFound,
    ErrorKind::ActionNotFound,
    ErrorKind::NotFound,
    ErrorKind::Forbidden,
    ErrorKind::Conflict,
    ErrorKind::TooLarge,
    ErrorKind::Overloaded,
    ErrorKind::RateLimited,
    ErrorKind::StoreUnavailable,
    ErrorKind::Draining,
    ErrorKind::HostFailed,
    ErrorKind::ActionFailed,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Unsupported,
    ErrorKind::Internal,
];

/// The kind of failure that a word stands for.
pub(crate) fn kind_named(word: &str) -> Option<ErrorKind> {
    KINDS.into_iter().find(|kind| name(*kind) == word)
}

/// Who failed, by the word for it.
pub(crate) fn source_named(word: &str) -> Option<FailedBy> {
    let all = [FailedBy::Proxy, FailedBy::Host, FailedBy::Store, FailedBy::Policy];
    all.into_iter().find(|by| Blamed::from(*by).name() == word)
}

/// The word for a kind of failure.
pub(super) fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "invalid",
        ErrorKind::ActorNotFound => "actor_not_found",
        ErrorKind::ActionNotFound => "action_not_found",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Forbidden => "forbidden",
        ErrorKind::Conflict => "conflict",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::Overloaded => "overloaded",
        ErrorKind::RateLimited => "rate_limited",
        ErrorKind::StoreUnavailable => "store_unavailable",
        ErrorKind::Draining => "draining",
        ErrorKind::HostFailed => "host_failed",
        ErrorKind::ActionFailed => "action_failed",
        ErrorKind::DeadlineExceeded => "deadline_exceeded",
        ErrorKind::Unsupported => "unsupported",
        _ => "internal",
    }
}

/// The word for a failure of the request itself.
pub(super) fn kind_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "invalid",
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_FOUND => "not_found",
        StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
        StatusCode::NOT_ACCEPTABLE => "not_acceptable",
        StatusCode::REQUEST_TIMEOUT => "body_late",
        StatusCode::CONFLICT => "conflict",
        StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported_media_type",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded",
        _ => "internal",
    }
}

/// The name of a failed call's kind.
pub(crate) fn error_kind(error: &Error) -> &'static str {
    name(error.kind())
}

/// The name of who failed.
pub(crate) fn error_source(error: &Error) -> &'static str {
    blamed(error).name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_stands_for_its_kind() {
        for kind in KINDS {
            assert_eq!(kind_named(name(kind)), Some(kind));
        }
        assert_eq!(kind_named("other"), None);
        assert_eq!(source_named("store"), Some(FailedBy::Store));
    }
}
