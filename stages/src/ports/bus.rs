//! Bus: messages between proxies, and the calls of actor systems that go over it.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::Error;
use crate::invocation::{Invocation, Payload};

/// A message: headers, and a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BusMessage {
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The content.
    pub body: Bytes,
}

impl BusMessage {
    /// The value of the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A message that came to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The message.
    pub message: BusMessage,
    /// The subject of its answer; `None`: its sender waits for none.
    pub reply: Option<String>,
}

/// Why a message got no answer, or was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Nobody subscribes to its subject: nobody has it.
    #[error("nobody subscribes to {0}")]
    NobodyThere(String),
    /// There is no connection: it was not sent.
    #[error("no connection: {0}")]
    Away(String),
    /// It is larger than the bus carries: it was not sent.
    #[error("{bytes} bytes are more than the {limit} bytes that one message may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest one.
        limit: usize,
    },
    /// It was sent, and no answer came in time: somebody may have it.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// It was sent, and the answer is lost: somebody may have it.
    #[error("the answer is lost: {0}")]
    Lost(String),
}

impl BusError {
    /// Whether nobody has the message.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::NobodyThere(_) | Self::Away(_) | Self::TooLarge { .. })
    }
}

/// Carries messages at most once: it may lose one, and never sends one again by itself.
pub trait Bus: Debug + Send + Sync + 'static {
    /// Sends a message and waits up to `limit` for one answer.
    fn request(
        &self,
        subject: String,
        message: BusMessage,
        limit: Duration,
    ) -> BoxFuture<'static, Result<BusMessage, BusError>>;

    /// Sends a message. `Ok` does not say that somebody has it.
    fn publish(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>>;

    /// Sends a message, or fails at once when there is no connection. Returns when it is handed to the network.
    fn publish_now(
        &self,
        subject: String,
        message: BusMessage,
    ) -> BoxFuture<'static, Result<(), BusError>>;

    /// Takes part in the messages of a subject, whose last part may be `*`: each goes to one subscription of the queue group;
    /// without a group, to every subscription. It outlives a lost connection.
    fn subscribe(
        &self,
        subject: String,
        queue: Option<String>,
    ) -> BoxFuture<'static, Result<Box<dyn BusSubscription>, BusError>>;
}

/// A subscription, with a bounded number of messages that wait. Dropping it ends it.
pub trait BusSubscription: Debug + Send {
    /// The next message; `None` after the last one.
    fn next(&mut self) -> BoxFuture<'_, Option<Delivered>>;

    /// Asks for no more messages. What is on its way still comes from [`next`](Self::next).
    fn close(&mut self) -> BoxFuture<'_, ()>;
}

/// Calls actors of systems that are not registered here.
pub trait OtherSystems: Debug + Send + Sync + 'static {
    /// Sends a call, at most once. Waits up to `limit` for its answer; when it is asynchronous or for a later time, until it is
    /// accepted.
    ///
    /// Fails with [`Error::Elsewhere`], which says whether the action may have run.
    fn call(
        &self,
        invocation: Box<Invocation>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<Payload, Error>>;
}
