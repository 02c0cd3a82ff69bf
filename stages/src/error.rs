//! Error: why a call did not succeed, and whether trying again is safe.

use std::time::Duration;

use bytes::Bytes;

use crate::ports::{HostError, StoreError};

/// What kind of failure it is; a protocol maps it to its own status in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request makes no sense.
    Invalid,
    /// No such actor or system.
    ActorNotFound,
    /// The actor has no such action.
    ActionNotFound,
    /// No such definition, revision, schedule, turn, effect or topic.
    NotFound,
    /// The caller may not do this.
    Forbidden,
    /// The request collides with what is registered or running.
    Conflict,
    /// A state, payload or chain is larger than allowed.
    TooLarge,
    /// A bound is reached; try again later.
    Overloaded,
    /// Too many calls of one peer, system or definition; try again later.
    RateLimited,
    /// The store cannot take or give state now; try again later.
    StoreUnavailable,
    /// The proxy is shutting down.
    Draining,
    /// The user function's host failed.
    HostFailed,
    /// The user function says that the action failed.
    ActionFailed,
    /// The call's time ran out.
    DeadlineExceeded,
    /// The protocol has it, this version does not yet.
    Unsupported,
    /// A defect of the proxy.
    Internal,
}

/// Who failed (decision 43).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedBy {
    /// The proxy, or the request itself.
    Proxy,
    /// The user function's host.
    Host,
    /// The store.
    Store,
    /// A rule says no.
    Policy,
}

/// A call for another system that did not succeed, as it was told here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedElsewhere {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// Who failed.
    pub by: FailedBy,
    /// Whether the call may be made again without running the action twice.
    pub is_retryable: bool,
    /// When to come back, if that was told.
    pub retry_after: Option<Duration>,
    /// The text.
    pub text: String,
    /// The status and the body that its action answered, if it says that it failed.
    pub answered: Option<(u16, Bytes)>,
    /// Whether the call was carried out, and only its answer is lost.
    pub is_done: bool,
}

/// Why a call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field is missing or wrong; nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// No such actor; nothing was done.
    #[error("Actor {name} not found on ActorSystem {system}")]
    ActorNotFound {
        /// System that was asked.
        system: String,
        /// Actor that was asked for.
        name: String,
    },
    /// What is asked for or referred to, and is no actor, does not exist; nothing was done.
    #[error("{0}")]
    NotFound(String),
    /// The actor has no such action; nothing was done.
    #[error("Action [{action}] not found for Actor [{actor}]")]
    ActionNotFound {
        /// The actor.
        actor: String,
        /// The action asked for.
        action: String,
    },
    /// The caller may not do this; nothing was done.
    #[error("{0}")]
    Forbidden(String),
    /// An access policy refuses the call; nothing was done unless the text says so.
    #[error("{0}")]
    NotAllowed(String),
    /// The request collides with what is registered or running; nothing was done unless the text says so.
    #[error("{0}")]
    Conflict(String),
    /// Too large; the old state stays. When the action ran, the text says so.
    #[error("{0}")]
    TooLarge(String),
    /// A bound is reached. Nothing was done; it is safe to try again later.
    #[error("{reason}; try again in {retry_after:?}")]
    Overloaded {
        /// Which bound was reached.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// More calls than a rate limit allows; nothing was done, trying again later is safe.
    #[error("{reason}; try again in {retry_after:?}")]
    RateLimited {
        /// Which limit it is.
        reason: String,
        /// When the next call is allowed.
        retry_after: Duration,
    },
    /// The store failed; the source says whether a write may have happened.
    #[error("state of the actor cannot be kept or read: {0}")]
    Store(StoreError),
    /// The proxy is shutting down; nothing was done.
    #[error("not started: the proxy is shutting down")]
    Draining,
    /// The proxy has ended while the action ran, or before its change was known to be kept.
    #[error("the proxy has ended before the answer; the action may have run")]
    Ended,
    /// The host failed; the source says whether the action may have run.
    #[error("{0}")]
    Host(HostError),
    /// The host accepts no connections, and the call does not wait for it; nothing was done, trying again later is safe.
    #[error(
        "not started, it is safe to retry: the actor host has accepted no connection for {away_for:.1?}: {reason}"
    )]
    HostAway {
        /// For how long.
        away_for: Duration,
        /// What connecting to it said.
        reason: String,
    },
    /// The host's response routes its call to what does not exist; the action ran, its state was not kept.
    #[error("{0}")]
    BadRoute(String),
    /// Time ran out before the action was started; trying again is safe.
    #[error("not started within {0:?}: {1}")]
    NotStarted(Duration, String),
    /// Time ran out after the action was started: it may still run to its end.
    #[error("no answer within {0:?}; the action was started and may still finish")]
    NoAnswer(Duration),
    /// The protocol has it, this version does not yet; nothing was done unless the text says so.
    #[error("{0}")]
    Unsupported(String),
    /// As the source, but an action of this call has run: trying again would run it twice. The text does not promise what the
    /// source promises.
    #[error("{}; an action of this call has run", .0.without_promise())]
    ActionRan(Box<Error>),
    /// Somebody cancelled the call before its action was started; nothing was done, trying again is safe.
    #[error("not started, it is safe to retry: the call was cancelled")]
    Cancelled,
    /// Somebody cancelled the call after its action was started: the connection to its host was closed, and neither state nor
    /// effects are kept.
    #[error(
        "the call was cancelled; its action was started and may have run, its state and effects are not kept"
    )]
    CancelledRunning,
    /// A call for another system failed, on its way or there. It says itself whether the action may have run.
    #[error("{}", .0.text)]
    Elsewhere(Box<FailedElsewhere>),
    /// A defect of the proxy; the action may have run.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Invalid(_) => ErrorKind::Invalid,
            Error::ActorNotFound { .. } => ErrorKind::ActorNotFound,
            Error::NotFound(_) => ErrorKind::NotFound,
            Error::ActionNotFound { .. } => ErrorKind::ActionNotFound,
            Error::Forbidden(_) | Error::NotAllowed(_) => ErrorKind::Forbidden,
            Error::Conflict(_)
            | Error::Cancelled
            | Error::CancelledRunning
            | Error::Store(StoreError::Fenced(_)) => ErrorKind::Conflict,
            Error::TooLarge(_) | Error::Store(StoreError::TooLarge(_)) => ErrorKind::TooLarge,
            Error::Overloaded { .. } | Error::Host(HostError::Unread { .. }) => {
                ErrorKind::Overloaded
            }
            Error::RateLimited { .. } => ErrorKind::RateLimited,
            Error::Store(_) => ErrorKind::StoreUnavailable,
            Error::Draining | Error::Ended => ErrorKind::Draining,
            Error::Host(HostError::Rejected { .. }) => ErrorKind::ActionFailed,
            Error::Host(_) | Error::HostAway { .. } | Error::BadRoute(_) => ErrorKind::HostFailed,
            Error::NotStarted(..) | Error::NoAnswer(_) => ErrorKind::DeadlineExceeded,
            Error::Unsupported(_) => ErrorKind::Unsupported,
            Error::Elsewhere(failed) => failed.kind,
            // "Not found" would read as if nothing had been done.
            Error::ActionRan(source) => match source.kind() {
                ErrorKind::ActorNotFound | ErrorKind::ActionNotFound | ErrorKind::NotFound => {
                    ErrorKind::HostFailed
                }
                kind => kind,
            },
            Error::Internal(_) => ErrorKind::Internal,
        }
    }

    /// A history has no such revision.
    pub(crate) fn no_revision(system: &str, name: &str, number: u64) -> Self {
        Error::NotFound(format!(
            "the history of Actor {name} on ActorSystem {system} has no revision {number}"
        ))
    }

    /// The same failure, of a call that has run an action.
    #[must_use]
    pub(crate) fn after_action(self) -> Self {
        match self {
            Error::Store(_)
            | Error::Overloaded { .. }
            | Error::Draining
            | Error::NotStarted(..)
            | Error::ActorNotFound { .. }
            | Error::NotFound(_)
            | Error::ActionNotFound { .. }
            | Error::HostAway { .. }
            | Error::Cancelled
            | Error::Host(_) => Error::ActionRan(Box::new(self)),
            says_so_or_is_final => says_so_or_is_final,
        }
    }

    /// Its text without the promise that nothing was done: that is true of one action, and false of a call that has run another.
    fn without_promise(&self) -> String {
        if let Error::Overloaded { reason, .. } = self {
            return reason.clone();
        }
        let text = self.to_string();
        let promises = ["not started, it is safe to retry: ", "not started: "];
        match promises.iter().find_map(|promise| text.strip_prefix(*promise)) {
            Some(rest) => rest.to_owned(),
            None if matches!(self, Error::NotStarted(..)) => format!("its next action was {text}"),
            None => text,
        }
    }

    /// Whether the same call may be made again without running the action twice.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Overloaded { .. }
            | Error::RateLimited { .. }
            | Error::Draining
            | Error::HostAway { .. }
            | Error::Cancelled
            | Error::NotStarted(..) => true,
            Error::Host(error) => error.is_unsent(),
            Error::Store(error) => !error.may_have_happened() && !error.is_final(),
            Error::Elsewhere(failed) => failed.is_retryable,
            _ => false,
        }
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Error::Host(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::Store(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_has_run_an_action_is_never_told_as_not_started_or_safe_to_retry() {
        let second = Duration::from_secs(1);
        for error in [
            Error::Store(StoreError::Unavailable("x".into())),
            Error::Store(StoreError::Unknown("x".into())),
            Error::Overloaded { reason: "x".into(), retry_after: second },
            Error::Draining,
            Error::NotStarted(second, "x".into()),
            Error::ActorNotFound { system: "s".into(), name: "n".into() },
            Error::NotFound("x".into()),
            Error::ActionNotFound { actor: "n".into(), action: "x".into() },
            Error::HostAway { away_for: second, reason: "x".into() },
            Error::Cancelled,
            Error::Host(HostError::Connect { address: "a".into(), reason: "x".into() }),
            Error::Host(HostError::Unread { address: "a".into() }),
        ] {
            let told = error.after_action();
            assert!(matches!(told, Error::ActionRan(_)) && !told.is_retryable(), "{told}");
            let told = told.to_string();
            assert!(told.ends_with("; an action of this call has run"), "{told}");
            assert!(!told.starts_with("not started"), "{told}");
            assert!(!told.contains("safe to retry") && !told.contains("try again"), "{told}");
        }
    }
}
