//! Store limit: how long the store or the registry may take.

use std::time::Duration;

use tokio::time::timeout;

use crate::ports::StoreError;

/// How long the store or the registry may take to answer.
pub(crate) const STORE_LIMIT: Duration = Duration::from_secs(10);

/// Waits for the store or the registry, for at most [`STORE_LIMIT`].
///
/// # Errors
/// The store's error, or [`StoreError::Unknown`] when the time ran out.
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(STORE_LIMIT, answer).await.unwrap_or_else(|_| {
        Err(StoreError::Unknown(format!("the state store gave no answer within {STORE_LIMIT:?}")))
    })
}
