//! Concerns: settings of the database under which an acknowledged change can be lost, or a proxy be mistaken.
//!
//! "A power cut loses nothing" is true only as far as the database keeps it. The server is asked, not the operator.

use std::collections::HashMap;

use scylla::client::session::Session;
use tidegate_stages::ports::Clock;

use super::{CqlStore, server};
use crate::store::cql_options::{Consistency, CqlOptions};

/// The clocks of proxy and database may differ by this much, in microseconds: times of revisions come from the proxy.
const CLOCKS_APART: u64 = 1_000_000;

/// What the server says.
#[derive(Debug, Default)]
struct Facts {
    /// Number of copies in each data centre; one without a name when there is one number for all.
    copies: Vec<(String, u32)>,
    durable_writes: Option<bool>,
    commitlog_sync: Option<String>,
    paxos_variant: Option<String>,
    has_tablets: bool,
    /// How far its clock is ahead of the proxy's, in microseconds; negative: behind.
    ahead: Option<i64>,
}

impl CqlStore {
    /// Returns what is to be changed at the database, or with the settings, and why. What the server does not tell is left out.
    pub async fn concerns(&self, options: &CqlOptions, clock: &dyn Clock) -> Vec<String> {
        let facts =
            Facts::ask(&self.shared.database.session, &options.keyspace_name(), clock).await;
        facts.concerns(options.consistency)
    }
}

impl Facts {
    async fn ask(session: &Session, keyspace: &str, clock: &dyn Clock) -> Self {
        let mut facts = Self::default();
        if let Some((replication, durable_writes)) = keyspace_settings(session, keyspace).await {
            facts.copies = copies(&replication);
            facts.durable_writes = Some(durable_writes);
        }
        let settings = server::settings(session).await;
        facts.commitlog_sync = server::value(&settings, "commitlog_sync").map(ToOwned::to_owned);
        facts.paxos_variant = server::value(&settings, "paxos_variant").map(ToOwned::to_owned);
        facts.has_tablets = has_tablets(session, keyspace).await;
        let before = clock.now().0;
        if let Some(theirs) = server_clock(session).await {
            facts.ahead = Some(ahead(theirs, before, clock.now().0));
        }
        facts
    }

    fn concerns(&self, consistency: Consistency) -> Vec<String> {
        let mut found = Vec::new();
        for (centre, copies) in &self.copies {
            if *copies == 1 {
                let at = if centre.is_empty() { String::new() } else { format!(" in {centre}") };
                found.push(format!(
                    "the keyspace has one copy of each row{at}: states are lost with a disk, and unavailable while a node is; \
                     ALTER KEYSPACE to three copies, then repair"
                ));
            }
        }
        let is_one = matches!(consistency, Consistency::One | Consistency::LocalOne);
        if is_one && self.copies.iter().map(|(_, copies)| copies).sum::<u32>() > 1 {
            found.push(
                "a write counts when one of several copies has it: an acknowledged change is lost with that node, and an older \
                 proxy is not fenced; set TIDEGATE_DATABASE_CONSISTENCY to local_quorum"
                    .into(),
            );
        }
        if self.durable_writes == Some(false) {
            found.push(
                "the keyspace has durable_writes = false: what is in a node's memory is lost when it is killed; ALTER KEYSPACE \
                 … WITH durable_writes = true"
                    .into(),
            );
        }
        if self.commitlog_sync.as_deref() == Some("periodic") {
            found.push(
                "the database has commitlog_sync: periodic, so it acknowledges before it syncs: a power cut of all copies at \
                 once loses the last seconds; set commitlog_sync: batch or group where that can happen"
                    .into(),
            );
        }
        if self.paxos_variant.as_deref() == Some("v1") {
            found.push(
                "the database has paxos_variant: v1, whose light-weight transactions can miss each other while nodes join or \
                 leave: two proxies may claim at once; set paxos_variant: v2"
                    .into(),
            );
        }
        if self.has_tablets {
            found.push(
                "the keyspace has tablets, with which not every ScyllaDB does light-weight transactions: claiming the keyspace may \
                 fail; make it WITH tablets = {'enabled': false}"
                    .into(),
            );
        }
        if let Some(ahead) = self.ahead.filter(|ahead| ahead.unsigned_abs() > CLOCKS_APART) {
            let way = if ahead > 0 { "ahead of" } else { "behind" };
            let seconds = ahead.unsigned_abs() / 1_000_000;
            found.push(format!(
                "the database's clock is {seconds} s {way} this machine's: times of revisions are this machine's; synchronise both"
            ));
        }
        found
    }
}

/// Returns replication and durable writes of a keyspace.
async fn keyspace_settings(
    session: &Session,
    keyspace: &str,
) -> Option<(HashMap<String, String>, bool)> {
    let query =
        "SELECT replication, durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let found = session.query_unpaged(query, (keyspace,)).await.ok()?.into_rows_result().ok()?;
    found.maybe_first_row().ok()?
}

/// Reads the number of copies from the replication of a keyspace, as the schema spells it.
fn copies(replication: &HashMap<String, String>) -> Vec<(String, u32)> {
    let number = |text: &str| text.split('/').next().and_then(|number| number.parse().ok());
    let mut copies: Vec<_> = replication
        .iter()
        .filter(|(name, _)| *name != "class")
        .filter_map(|(name, text)| {
            let centre = if name == "replication_factor" { "" } else { name };
            Some((centre.to_owned(), number(text)?))
        })
        .collect();
    copies.sort_unstable();
    copies
}

/// Only ScyllaDB has tablets, and only it has this table.
async fn has_tablets(session: &Session, keyspace: &str) -> bool {
    let query =
        "SELECT initial_tablets FROM system_schema.scylla_keyspaces WHERE keyspace_name = ?";
    let Ok(found) = session.query_unpaged(query, (keyspace,)).await else { return false };
    let Ok(found) = found.into_rows_result() else { return false };
    found
        .maybe_first_row::<(Option<i32>,)>()
        .is_ok_and(|row| row.is_some_and(|(tablets,)| tablets.is_some()))
}

/// Returns the time of the server that answers, in microseconds.
async fn server_clock(session: &Session) -> Option<u64> {
    let query = "SELECT toUnixTimestamp(now()) FROM system.local";
    let found = session.query_unpaged(query, ()).await.ok()?.into_rows_result().ok()?;
    let (milliseconds,): (i64,) = found.maybe_first_row().ok()??;
    u64::try_from(milliseconds).ok()?.checked_mul(1_000)
}

/// How far a clock is ahead that was read between these two times.
fn ahead(theirs: u64, before: u64, after: u64) -> i64 {
    let apart = |far: u64, near: u64| i64::try_from(far - near).unwrap_or(i64::MAX);
    if theirs > after {
        apart(theirs, after)
    } else if theirs < before {
        -apart(before, theirs)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replication(entries: &[(&str, &str)]) -> Vec<(String, u32)> {
        copies(&entries.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect())
    }

    #[test]
    fn copies_are_read_as_servers_spell_them() {
        let simple = replication(&[("class", "SimpleStrategy"), ("replication_factor", "1")]);
        assert_eq!(simple, [(String::new(), 1)]);
        let centres =
            replication(&[("class", "NetworkTopologyStrategy"), ("dc2", "3/1"), ("dc1", "1")]);
        assert_eq!(centres, [("dc1".into(), 1), ("dc2".into(), 3)]);
    }

    #[test]
    fn a_clock_within_the_time_of_the_question_is_right() {
        assert_eq!((ahead(15, 10, 20), ahead(25, 10, 20), ahead(4, 10, 20)), (0, 5, -6));
    }

    fn told(facts: &Facts, consistency: Consistency) -> String {
        facts.concerns(consistency).join("\n")
    }

    #[test]
    fn each_setting_that_can_lose_changes_is_told() {
        let sound = || Facts {
            copies: vec![("dc1".into(), 3)],
            durable_writes: Some(true),
            commitlog_sync: Some("batch".into()),
            paxos_variant: Some("v2".into()),
            has_tablets: false,
            ahead: Some(999_999),
        };
        assert_eq!(told(&sound(), Consistency::LocalQuorum), "");
        assert_eq!(told(&Facts::default(), Consistency::One), "", "nothing is known");
        assert!(told(&sound(), Consistency::LocalOne).contains("local_quorum"));
        let one = Facts { copies: vec![("dc1".into(), 1)], ..sound() };
        let one_copy = told(&one, Consistency::One);
        assert!(one_copy.contains("one copy of each row in dc1"), "{one_copy}");
        assert!(!one_copy.contains("local_quorum"), "one of one is a quorum: {one_copy}");
        for (facts, word) in [
            (Facts { durable_writes: Some(false), ..sound() }, "durable_writes"),
            (Facts { commitlog_sync: Some("periodic".into()), ..sound() }, "commitlog_sync"),
            (Facts { paxos_variant: Some("v1".into()), ..sound() }, "paxos_variant"),
            (Facts { has_tablets: true, ..sound() }, "tablets"),
            (Facts { ahead: Some(-3_600_000_000), ..sound() }, "3600 s behind"),
        ] {
            let told = told(&facts, Consistency::LocalQuorum);
            assert!(told.contains(word), "{word}: {told}");
        }
    }
}
