//! Server: reads the settings of the database's server.

use scylla::client::session::Session;

/// Settings by name; several tables may hold the same name.
pub(super) type Settings = [(String, Option<String>)];

/// Returns the settings of the server that answers: Apache Cassandra has one table of them, ScyllaDB another.
pub(super) async fn settings(session: &Session) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    for table in ["system_views.settings", "system.config"] {
        let query = format!("SELECT name, value FROM {table}");
        // A server without this table refuses the query.
        let Ok(found) = session.query_unpaged(query, ()).await else { continue };
        let Ok(rows) = found.into_rows_result() else { continue };
        let Ok(settings) = rows.rows::<(String, Option<String>)>() else { continue };
        all.extend(settings.filter_map(Result::ok));
    }
    all
}

/// Returns a setting, without the quotes that one of the servers writes.
pub(super) fn value<'a>(settings: &'a Settings, wanted: &str) -> Option<&'a str> {
    let (_, value) = settings.iter().find(|(name, _)| name == wanted)?;
    Some(value.as_deref()?.trim().trim_matches('"'))
}
