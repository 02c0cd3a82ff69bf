//! Letters: the turn that changes dead letters of its actor.

use crate::call::Question;
use crate::outbox::OutboxKey;
use crate::outbox::view::DeadLetterChange;

/// What the turn is asked for.
pub(crate) struct ChangeLetters {
    pub(crate) change: DeadLetterChange,
    /// Rows that were dead letters.
    pub(crate) keys: Vec<OutboxKey>,
    pub(crate) question: Question<LettersChanged>,
}

/// What one turn came to.
#[derive(Debug, Default)]
pub(crate) struct LettersChanged {
    /// Rows that are changed, durably.
    pub(crate) done: u64,
    /// Rows for a later turn.
    pub(crate) left: Vec<OutboxKey>,
    /// Whether these have to wait until the actor has fewer undelivered effects.
    pub(crate) is_full: bool,
}
