//! Schema: the keyspace, its tables and their version; created if missing and if the access mode allows.

use scylla::client::session::Session;
use scylla::response::query_result::QueryRowsResult;
use scylla::statement::Statement;
use tracing::{info, warn};

use super::error::CqlOpenError;
use super::tables::{NEW_IN_HEADS, OLD_REGISTRY, TABLES, name_of};
use crate::store::access::Access;
use crate::store::cql_options::{CqlOptions, Replication};

pub(super) const VERSION: i64 = 2;
/// The version that is migrated.
const FORMER: i64 = 1;
/// Name of the row of `meta` with the version.
pub(super) const SCHEMA: &str = "schema";
/// How often creation is tried: other proxies may create the schema at the same time.
const TRIES: u32 = 5;

/// What a keyspace holds once it is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// This schema.
    Current,
    /// The tables of this schema, and content of the former one that is to be [migrated](super::migrate).
    Former,
}

/// Checks the version of an existing schema. Creates a missing one, and the tables that a former one lacks, only with
/// [`Access::Create`].
pub(super) async fn prepare(
    session: &Session,
    options: &CqlOptions,
    access: Access,
) -> Result<Found, CqlOpenError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let schema = Schema { session, options, access };
        match schema.prepare().await {
            Err(error @ CqlOpenError::Schema { .. }) if tries < TRIES => {
                warn!(%error, "schema of the database not ready yet, trying again");
                if let Err(error) = session.await_schema_agreement().await {
                    warn!(%error, "nodes of the database do not agree on the schema");
                }
            }
            done => return done,
        }
    }
}

const TABLES_OF: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
const COLUMNS_OF_HEADS: &str = "SELECT column_name FROM system_schema.columns \
    WHERE keyspace_name = ? AND table_name = 'heads'";

struct Schema<'a> {
    session: &'a Session,
    options: &'a CqlOptions,
    access: Access,
}

impl Schema<'_> {
    async fn prepare(&self) -> Result<Found, CqlOpenError> {
        let keyspace = self.options.keyspace_name();
        let tables = self.names(TABLES_OF, &keyspace).await?;
        let has = |table: &str| tables.iter().any(|found| found == table);
        let found = if has("meta") { self.version(&keyspace).await? } else { None };
        let may_create = self.access == Access::Create;
        match found {
            Some(found) if found > VERSION => {
                return Err(CqlOpenError::Newer { keyspace, found, known: VERSION });
            }
            Some(found) if found < VERSION && !may_create => {
                return Err(CqlOpenError::Older { keyspace, found, known: VERSION });
            }
            Some(VERSION) if TABLES.iter().all(|table| has(name_of(table))) => {
                if may_create && has(OLD_REGISTRY) {
                    self.drop_former().await?;
                }
                return Ok(Found::Current);
            }
            _ if !may_create => return Err(CqlOpenError::Missing { keyspace }),
            _ => {}
        }
        if tables.is_empty() && !self.is_there(&keyspace).await? {
            info!(keyspace, "making the keyspace");
            self.run(&format!(
                "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {} AND durable_writes = true",
                replication(&self.options.replication)
            ))
            .await?;
        }
        if has("heads") {
            self.extend_heads(&keyspace).await?;
        }
        for table in TABLES.iter().filter(|table| !has(name_of(table))) {
            let (name, rest) = table.split_once(' ').expect("a table has a name");
            self.run(&format!("CREATE TABLE IF NOT EXISTS \"{keyspace}\".{name} {rest}")).await?;
        }
        if found == Some(FORMER) {
            return Ok(Found::Former);
        }
        // Written last: tables without a version are from an interrupted start.
        self.run(&format!(
            "INSERT INTO \"{keyspace}\".meta (name, number) VALUES ('{SCHEMA}', {VERSION})"
        ))
        .await?;
        Ok(Found::Current)
    }

    /// Adds the columns that `heads` of the former schema lacks.
    async fn extend_heads(&self, keyspace: &str) -> Result<(), CqlOpenError> {
        let columns = self.names(COLUMNS_OF_HEADS, keyspace).await?;
        let has = |column: &str| columns.iter().any(|found| found == column);
        if !has("incarnation") {
            return Err(self.failed("its table heads is not one of Tidegate"));
        }
        for column in NEW_IN_HEADS.iter().filter(|column| !has(name_of(column))) {
            self.run(&format!("ALTER TABLE \"{keyspace}\".heads ADD {column}")).await?;
        }
        Ok(())
    }

    /// Drops the table of the former schema whose content has been moved.
    async fn drop_former(&self) -> Result<(), CqlOpenError> {
        let keyspace = self.options.keyspace_name();
        self.run(&format!("DROP TABLE IF EXISTS \"{keyspace}\".{OLD_REGISTRY}")).await
    }

    async fn run(&self, statement: &str) -> Result<(), CqlOpenError> {
        let done = self.session.query_unpaged(statement, ()).await;
        done.map(drop).map_err(|error| self.failed(error))
    }

    async fn select(&self, statement: &str, name: &str) -> Result<QueryRowsResult, CqlOpenError> {
        let mut statement = Statement::new(statement);
        statement.set_consistency(self.options.consistency.of_reads());
        statement.set_is_idempotent(true);
        let found = self.session.query_unpaged(statement, (name,)).await;
        let found = found.map_err(|error| self.failed(error))?;
        found.into_rows_result().map_err(|error| self.failed(error))
    }

    async fn is_there(&self, keyspace: &str) -> Result<bool, CqlOpenError> {
        let query = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        Ok(self.select(query, keyspace).await?.rows_num() > 0)
    }

    async fn names(&self, query: &str, keyspace: &str) -> Result<Vec<String>, CqlOpenError> {
        let found = self.select(query, keyspace).await?;
        let rows = found.rows::<(String,)>().map_err(|error| self.failed(error))?;
        rows.map(|row| row.map(|(name,)| name))
            .collect::<Result<_, _>>()
            .map_err(|e| self.failed(e))
    }

    async fn version(&self, keyspace: &str) -> Result<Option<i64>, CqlOpenError> {
        let query = format!("SELECT number FROM \"{keyspace}\".meta WHERE name = ?");
        let found = self.select(&query, SCHEMA).await?;
        let row = found.maybe_first_row::<(Option<i64>,)>().map_err(|error| self.failed(error))?;
        Ok(row.and_then(|(number,)| number))
    }

    fn failed(&self, error: impl std::fmt::Display) -> CqlOpenError {
        let keyspace = self.options.keyspace_name();
        CqlOpenError::Schema { keyspace, reason: error.to_string() }
    }
}

fn replication(replication: &Replication) -> String {
    let class = "'class': 'NetworkTopologyStrategy'";
    match replication {
        Replication::Everywhere(count) => format!("{{{class}, 'replication_factor': {count}}}"),
        Replication::Centres(centres) => {
            let quoted = |name: &str| name.replace('\'', "''");
            let centres =
                centres.iter().map(|(name, count)| format!(", '{}': {count}", quoted(name)));
            format!("{{{class}{}}}", centres.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_is_spelled_for_the_database() {
        assert_eq!(
            replication(&Replication::Everywhere(3)),
            "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
        );
        let centres = Replication::Centres(vec![("a".into(), 3), ("b'".into(), 1)]);
        assert_eq!(replication(&centres), "{'class': 'NetworkTopologyStrategy', 'a': 3, 'b''': 1}");
    }
}
