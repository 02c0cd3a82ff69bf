//! Schema: the keyspace, its tables and their version; created if missing and if the access mode allows.
//!
//! ```text
//! heads      one partition per actor; its rows, by kind:
//!            0 a head            epoch                 the owner's; the highest is the latest state
//!            1 outbox            epoch, place = index  of the head of that epoch
//!            2 bucket by time    place = its start
//!            3 bucket by number  place = number of its first revision
//!            4 newest revision   place = its number    only while revisions expire
//! revisions  one partition per bucket of an actor's history, by time, then number
//! actors     one partition per shard of a system: which actors there are
//! registry   one partition per system: what is registered
//! meta       version of the schema, newest epoch, clock, notes
//! ```

use scylla::client::session::Session;
use scylla::response::query_result::QueryRowsResult;
use scylla::statement::Statement;
use tracing::{info, warn};

use super::error::CqlOpenError;
use super::options::{CqlOptions, Replication};
use crate::store::access::Access;

pub(super) const VERSION: i64 = 1;
/// Name of the row of `meta` with the version.
pub(super) const SCHEMA: &str = "schema";
/// How often creation is tried: other proxies may create the schema at the same time.
const TRIES: u32 = 5;

const TABLES: [&str; 5] = [
    "meta (name text PRIMARY KEY, number bigint, value blob)",
    "heads (system text, actor text, parent text, kind tinyint, epoch bigint, place bigint, \
     format tinyint, version bigint, revision bigint, incarnation bigint, status tinyint, at bigint, \
     tags frozen<map<text, text>>, type_url text, value blob, sealed boolean, outbox int, owner bigint, \
     bucket bigint, written int, dropped int, size bigint, first bigint, last bigint, \
     PRIMARY KEY ((system, actor, parent), kind, epoch, place)) \
     WITH CLUSTERING ORDER BY (kind ASC, epoch DESC, place ASC)",
    "revisions (system text, actor text, parent text, bucket bigint, at bigint, revision bigint, \
     format tinyint, version bigint, incarnation bigint, epoch bigint, status tinyint, \
     tags frozen<map<text, text>>, type_url text, value blob, sealed boolean, \
     PRIMARY KEY ((system, actor, parent, bucket), at, revision)) \
     WITH CLUSTERING ORDER BY (at ASC, revision ASC)",
    "actors (system text, shard tinyint, actor text, parent text, \
     PRIMARY KEY ((system, shard), actor, parent))",
    "registry (system text, name text, record blob, PRIMARY KEY ((system), name))",
];

/// Checks the version of an existing schema; creates a missing one only with [`Access::Create`].
pub(super) async fn prepare(
    session: &Session,
    options: &CqlOptions,
    access: Access,
) -> Result<(), CqlOpenError> {
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

struct Schema<'a> {
    session: &'a Session,
    options: &'a CqlOptions,
    access: Access,
}

impl Schema<'_> {
    async fn prepare(&self) -> Result<(), CqlOpenError> {
        let keyspace = self.options.keyspace_name();
        let mut found = self.tables(&keyspace).await?;
        if found.iter().any(|table| table == "meta")
            && let Some(version) = self.version(&keyspace).await?
        {
            if version > VERSION {
                return Err(CqlOpenError::Newer { keyspace, found: version, known: VERSION });
            }
            found.sort_unstable();
            if TABLES.iter().all(|table| found.binary_search(&name_of(table)).is_ok()) {
                return Ok(());
            }
        }
        if self.access != Access::Create {
            return Err(CqlOpenError::Missing { keyspace });
        }
        if found.is_empty() && !self.is_there(&keyspace).await? {
            info!(keyspace, "making the keyspace");
            self.run(&format!(
                "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {} AND durable_writes = true",
                replication(&self.options.replication)
            ))
            .await?;
        }
        for table in TABLES.iter().filter(|table| !found.contains(&name_of(table))) {
            let (name, rest) = table.split_once(' ').expect("a table has a name");
            self.run(&format!("CREATE TABLE IF NOT EXISTS \"{keyspace}\".{name} {rest}")).await?;
        }
        // Written last: tables without a version are from an interrupted start.
        self.run(&format!(
            "INSERT INTO \"{keyspace}\".meta (name, number) VALUES ('{SCHEMA}', {VERSION})"
        ))
        .await
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

    async fn tables(&self, keyspace: &str) -> Result<Vec<String>, CqlOpenError> {
        let query = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
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

fn name_of(table: &str) -> String {
    table.split(' ').next().unwrap_or_default().to_owned()
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
