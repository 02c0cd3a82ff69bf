//! Database: sends requests to the cluster and records whether the last ones failed.

use std::time::Duration;

use parking_lot::Mutex;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryRowsResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tidegate_stages::ports::StoreError;
use tokio::time::Instant;

use super::errors::{damage, of_read, of_write};
use super::statements::Statements;

/// How long all requests may fail before the store counts as unhealthy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The values of one change in a batch.
pub(super) type Values<'a> = Box<dyn SerializeRow + Send + Sync + 'a>;

/// Changes that are written together, to one partition or several.
#[derive(Default)]
pub(super) struct Changes<'a> {
    statements: Vec<PreparedStatement>,
    values: Vec<Values<'a>>,
}

impl<'a> Changes<'a> {
    /// Adds a change.
    pub(super) fn add(
        &mut self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Send + Sync + 'a,
    ) {
        self.statements.push(statement.clone());
        self.values.push(Box::new(values));
    }
}

/// A page of rows, and the state that starts the next page.
pub(super) struct Rows<R> {
    pub(super) rows: Vec<R>,
    pub(super) next: Option<PagingState>,
}

/// The session and its prepared statements.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) session: Session,
    pub(super) cql: Statements,
    /// Since when every request has failed; `None` when the last one succeeded.
    failing_since: Mutex<Option<Instant>>,
}

impl Database {
    pub(super) fn new(session: Session, cql: Statements) -> Self {
        Self { session, cql, failing_since: Mutex::new(None) }
    }

    /// `false` once all requests have failed for [`PATIENCE`].
    pub(super) fn is_healthy(&self) -> bool {
        self.failing_since.lock().is_none_or(|since| since.elapsed() < PATIENCE)
    }

    /// Whether the last request failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failing_since.lock().is_some()
    }

    fn note<T, E>(
        &self,
        done: Result<T, E>,
        told: impl FnOnce(E) -> StoreError,
    ) -> Result<T, StoreError> {
        let mut failing_since = self.failing_since.lock();
        match done {
            Ok(value) => {
                *failing_since = None;
                Ok(value)
            }
            Err(error) => {
                failing_since.get_or_insert_with(Instant::now);
                Err(told(error))
            }
        }
    }

    /// Returns all rows; the statement bounds their number.
    pub(super) async fn read<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let found = Box::pin(self.session.execute_unpaged(statement, values)).await;
        let found = self.note(found, |error| of_read(&error))?;
        decoded(&found.into_rows_result().map_err(of_read)?)
    }

    pub(super) async fn read_one<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<Option<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        Ok(self.read(statement, values).await?.into_iter().next())
    }

    /// Returns one page of at most `size` rows.
    pub(super) async fn read_page<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        size: usize,
        from: PagingState,
    ) -> Result<Rows<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut statement = statement.clone();
        statement.set_page_size(i32::try_from(size.max(1)).unwrap_or(i32::MAX));
        let found = Box::pin(self.session.execute_single_page(&statement, values, from)).await;
        let (found, next) = self.note(found, |error| of_read(&error))?;
        let rows = decoded(&found.into_rows_result().map_err(of_read)?)?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok(Rows { rows, next })
    }

    /// Executes one write with its timestamp.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        stamp: i64,
    ) -> Result<(), StoreError> {
        let bound = statement.clone().bind(&values);
        let mut bound = bound.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        bound.set_timestamp(Some(stamp));
        let done = Box::pin(self.session.execute_bound_unpaged(&bound)).await;
        self.note(done, |error| of_write(&error)).map(drop)
    }

    /// Writes the changes of one partition together, as one write.
    pub(super) async fn commit(
        &self,
        mut changes: Changes<'_>,
        stamp: i64,
    ) -> Result<(), StoreError> {
        if changes.values.len() > 1 {
            return self.batch(changes, stamp).await;
        }
        // Most writes are one row, and a batch of one row costs client and server more than the row does.
        match (changes.statements.pop(), changes.values.pop()) {
            (Some(statement), Some(values)) => self.write(&statement, values, stamp).await,
            _ => Ok(()),
        }
    }

    async fn batch(&self, changes: Changes<'_>, stamp: i64) -> Result<(), StoreError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        for statement in changes.statements {
            batch.append_statement(statement);
        }
        batch.set_timestamp(Some(stamp));
        let done = Box::pin(self.session.batch(&batch, changes.values)).await;
        self.note(done, |error| of_write(&error)).map(drop)
    }

    /// Runs a light-weight transaction; returns whether the database applied it. If not, the database
    /// returns other columns.
    pub(super) async fn transact(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<bool, StoreError> {
        let done = Box::pin(self.session.execute_unpaged(statement, values)).await;
        let done = self.note(done, |error| of_write(&error))?;
        let rows = done.into_rows_result().map_err(of_read)?;
        let applied = rows.column_specs().get_by_name("[applied]").map(|(place, _)| place);
        let row: Option<scylla::value::Row> =
            rows.maybe_first_row().map_err(|error| damage("an answer", error))?;
        let applied = applied
            .zip(row)
            .and_then(|(place, row)| row.columns.get(place)?.as_ref()?.as_boolean());
        applied.ok_or_else(|| damage("an answer", "it does not say whether it was applied"))
    }
}

fn decoded<R>(found: &QueryRowsResult) -> Result<Vec<R>, StoreError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let rows = found.rows::<R>().map_err(|error| damage("a row", error))?;
    rows.collect::<Result<_, _>>().map_err(|error| damage("a row", error))
}
