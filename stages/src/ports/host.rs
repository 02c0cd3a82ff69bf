//! Host: calls user functions, and finds out whether their hosts accept connections.

use std::fmt::Debug;
use std::future::Future;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tower::Service;

use crate::actor::HostAddress;
use crate::invocation::{ActorInvocation, ActorInvocationResponse};

/// Why a user function returned no usable response.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// No connection was made: the function never ran, a retry is safe.
    #[error("cannot connect to the actor host at {address}: {reason}")]
    Connect {
        /// The address that was tried.
        address: String,
        /// The error of the operating system, and a hint.
        reason: String,
    },
    /// The connection failed after the request was written, at least in part: the function may have run.
    #[error("the actor host at {address} broke off: {reason}; the action may have run")]
    Broken {
        /// Which host.
        address: String,
        /// The error.
        reason: String,
    },
    /// The host returned something that is no valid response: the function may have run.
    #[error("the actor host at {address} answered {answer}; the action may have run")]
    Garbled {
        /// Which host.
        address: String,
        /// A description of what the host returned.
        answer: String,
    },
    /// The user function says that the action failed: it ran, and nothing changed.
    #[error("the action failed: its host answered HTTP {status}")]
    Rejected {
        /// Which host.
        address: String,
        /// The status of its answer.
        status: u16,
        /// What it answered, for the caller. Not part of the text, because texts are logged.
        body: Bytes,
    },
    /// The answer was not read, because other answers held all bytes for too long: the function ran.
    #[error("the answer of the actor host at {address} found no free bytes; the action ran")]
    Unread {
        /// Which host.
        address: String,
    },
}

impl HostError {
    /// Which host it is.
    pub fn address(&self) -> &str {
        match self {
            HostError::Connect { address, .. }
            | HostError::Broken { address, .. }
            | HostError::Garbled { address, .. }
            | HostError::Rejected { address, .. }
            | HostError::Unread { address, .. } => address,
        }
    }

    /// Whether there was a complete answer, however useless.
    pub fn is_answer(&self) -> bool {
        matches!(self, HostError::Garbled { .. } | HostError::Rejected { .. })
    }

    /// Whether the user function certainly never ran.
    pub fn is_unsent(&self) -> bool {
        matches!(self, HostError::Connect { .. })
    }
}

/// Calls the user function. One call is at most one execution: never a retry after the request was sent.
///
/// Sets no limit on the response time; the invoke stage does. Dropping the future abandons the call.
pub trait Host:
    Service<
        ActorInvocation,
        Response = ActorInvocationResponse,
        Error = HostError,
        Future: Future + Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Host for S where
    S: Service<
            ActorInvocation,
            Response = ActorInvocationResponse,
            Error = HostError,
            Future: Future + Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Tells whether a host accepts connections.
pub trait HostProbe: Debug + Send + Sync + 'static {
    /// Connects to a host and closes the connection. The stage sets the deadline.
    fn probe(&self, address: &HostAddress) -> BoxFuture<'static, Result<(), HostError>>;
}

/// Finds every host absent.
impl HostProbe for () {
    fn probe(&self, address: &HostAddress) -> BoxFuture<'static, Result<(), HostError>> {
        let (address, reason) = (address.to_string(), "nobody probes".to_owned());
        Box::pin(std::future::ready(Err(HostError::Connect { address, reason })))
    }
}
