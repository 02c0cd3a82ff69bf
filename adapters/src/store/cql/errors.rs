//! Errors: classifies the driver's errors for writes and reads.
//!
//! A write that was handed to a connection may have happened, whatever failed afterwards. A write certainly
//! did not happen only if the driver did not send it, or if the coordinator reports that it refused the
//! write beforehand.

use std::fmt::Display;

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use tidegate_stages::ports::StoreError;

/// Classifies a failed write.
pub(super) fn of_write(error: &ExecutionError) -> StoreError {
    if is_unwritten(error) {
        StoreError::Unavailable(error.to_string())
    } else {
        StoreError::Unknown(error.to_string())
    }
}

/// Reports a failure before anything that counts was written: the whole is not written, whatever the failure was.
pub(super) fn unwritten(error: StoreError) -> StoreError {
    match error {
        StoreError::Unknown(text) => StoreError::Unavailable(text),
        other => other,
    }
}

/// Classifies a failed read.
pub(super) fn of_read(error: impl Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// Reports stored bytes that are not what was written.
pub(super) fn damage(what: &str, error: impl Display) -> StoreError {
    StoreError::Corrupt(format!("{what} of the database cannot be decoded: {error}"))
}

/// Whether the write certainly reached no replica.
fn is_unwritten(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::PrepareError(_)
        | ExecutionError::ConnectionPoolError(_) => true,
        ExecutionError::LastAttemptError(error) => is_refused(error),
        _ => false,
    }
}

fn is_refused(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::UnableToAllocStreamId
        | RequestAttemptError::RepreparedIdChanged { .. }
        | RequestAttemptError::RepreparedIdMissingInBatch => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::Unavailable { .. }
                | DbError::IsBootstrapping
                | DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::ConfigError
                | DbError::Unprepared { .. }
                | DbError::ProtocolError
                | DbError::RateLimitReached { rejected_by_coordinator: true, .. }
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scylla::errors::WriteType;
    use scylla::statement::Consistency;

    use super::*;

    fn said(error: DbError) -> StoreError {
        let attempt = RequestAttemptError::DbError(error, "said so".into());
        of_write(&ExecutionError::LastAttemptError(attempt))
    }

    #[test]
    fn what_was_refused_beforehand_is_not_written() {
        let few = DbError::Unavailable { consistency: Consistency::Quorum, required: 2, alive: 1 };
        for error in [few, DbError::IsBootstrapping, DbError::Invalid, DbError::Unauthorized] {
            assert!(matches!(said(error), StoreError::Unavailable(_)));
        }
        let unsent = ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId);
        assert!(!of_write(&unsent).may_have_happened());
        assert!(!of_write(&ExecutionError::EmptyPlan).may_have_happened());
    }

    #[test]
    fn what_was_handed_over_may_be_written() {
        let timeout = DbError::WriteTimeout {
            consistency: Consistency::Quorum,
            received: 1,
            required: 2,
            write_type: WriteType::Simple,
        };
        for error in [timeout, DbError::Overloaded, DbError::ServerError, DbError::Other(7)] {
            assert!(said(error).may_have_happened());
        }
        let silent = ExecutionError::RequestTimeout(Duration::from_secs(4));
        assert!(of_write(&silent).may_have_happened());
    }
}
