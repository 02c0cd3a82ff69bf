//! Refused: why an event was not admitted.

use std::fmt;

/// Why an event was not admitted. It has not run and never will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The buffer is full and stayed full for as long as the event may wait.
    #[error("the buffer is full")]
    Full,
    /// The event's [share](crate::share) of the buffer is full, and stayed full for as long as the event may wait.
    #[error("the share of the buffer is full")]
    ShareFull,
    /// The queue of the event's key is full.
    #[error("the queue of this key is full")]
    KeyFull,
    /// The stage is draining or has ended.
    #[error("the stage is closed")]
    Closed,
    /// The event alone is larger than the whole buffer.
    #[error("the event is larger than the buffer")]
    TooLarge,
}

/// A refused event, returned to its sender with the reason.
pub struct Rejected<T> {
    /// The event, unchanged.
    pub event: T,
    /// Why it was refused.
    pub reason: Refused,
}

/// Does not show the event, which may be of any type.
impl<T> fmt::Debug for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("reason", &self.reason).finish_non_exhaustive()
    }
}
