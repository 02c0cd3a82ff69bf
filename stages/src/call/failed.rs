//! Failed: a turn that a stage could not carry on.

use crate::call::Placed;
use crate::error::Error;

/// What a stage of the path returns.
pub(crate) type StageResult<T> = Result<T, Box<Failed>>;

/// A turn that failed, with everything needed to end it or to try it again.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) placed: Placed,
    pub(crate) error: Error,
    /// Whether the action may have run.
    pub(crate) may_have_run: bool,
    /// Whether nothing happened and another try may succeed: the turn may be parked.
    pub(crate) may_be_parked: bool,
}

impl Failed {
    /// The turn ends; its action did not run.
    pub(crate) fn before_action(placed: Placed, error: impl Into<Error>) -> Box<Self> {
        let error = error.into();
        Box::new(Self { placed, error, may_have_run: false, may_be_parked: false })
    }

    /// The turn may be tried again; its action did not run.
    pub(crate) fn retryable(placed: Placed, error: impl Into<Error>) -> Box<Self> {
        let error = error.into();
        Box::new(Self { placed, error, may_have_run: false, may_be_parked: true })
    }

    /// The turn ends; its action may have run.
    pub(crate) fn after_action(placed: Placed, error: impl Into<Error>) -> Box<Self> {
        let error = error.into();
        Box::new(Self { placed, error, may_have_run: true, may_be_parked: false })
    }

    /// Whether the host was not reached.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(&self.error, Error::Host(error) if error.is_unsent())
    }

    /// The same failure, of another turn: the one that needed the failed turn.
    pub(crate) fn on_behalf_of(self, placed: Placed) -> Box<Self> {
        Box::new(Self { placed, ..self })
    }

    /// Ends the turn: its caller gets the error.
    pub(crate) fn finish(self) {
        // Most errors that come after the action say so themselves; the others read as if trying again were safe.
        let says_safe = self.may_have_run && self.error.is_retryable();
        self.placed.fail(if says_safe { self.error.after_action() } else { self.error });
    }
}
