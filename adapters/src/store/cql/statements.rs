//! Statements: all statements sent to the database, prepared once.

use std::sync::Arc;

use scylla::client::session::Session;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::statement::prepared::PreparedStatement;

use super::error::CqlOpenError;
use crate::store::cql_options::CqlOptions;

/// Prepares each statement under its name: reads first, then writes.
macro_rules! statements {
    (read: { $($read:ident = $read_cql:expr,)* } write: { $($write:ident = $write_cql:expr,)* }) => {
        /// The prepared statements; `{ks}` stands for the keyspace.
        #[derive(Debug)]
        pub(super) struct Statements {
            $(pub(super) $read: PreparedStatement,)*
            $(pub(super) $write: PreparedStatement,)*
        }

        impl Statements {
            pub(super) async fn prepare(
                session: &Session,
                options: &CqlOptions,
            ) -> Result<Self, CqlOpenError> {
                let preparing = Preparing { session, options };
                let [$($read,)*] = preparing.reads([$($read_cql,)*]).await?;
                let [$($write,)*] = preparing.all([$($write_cql,)*]).await?;
                Ok(Self { $($read,)* $($write,)* })
            }
        }
    };
}

/// Columns of a head or revision.
macro_rules! content {
    () => {
        "format, version, revision, incarnation, status, at, tags, type_url, value, sealed"
    };
}

/// One actor's partition of `heads`.
macro_rules! of_actor {
    ($($rest:literal),* $(,)?) => {
        concat!(" FROM {ks}.heads WHERE system = ? AND actor = ? AND parent = ?", $($rest),*)
    };
}

/// One bucket of an actor's history.
macro_rules! of_bucket {
    ($($rest:literal),* $(,)?) => {
        concat!(
            " FROM {ks}.revisions WHERE system = ? AND actor = ? AND parent = ? AND bucket = ?",
            $($rest),*
        )
    };
}

macro_rules! bucket_columns {
    () => {
        "SELECT place, written, dropped, size, first, last"
    };
}

statements! {
    read: {
    head = concat!("SELECT kind, epoch, outbox, ", content!(), of_actor!(" AND kind IN (0, 7)")),
    head_epochs = concat!("SELECT kind, epoch", of_actor!(" AND kind IN (0, 7)")),
    bare = concat!(
        "SELECT kind, epoch, place, version, seen, taken",
        of_actor!(" AND kind IN (0, 5, 6, 7)")
    ),
    owner = concat!("SELECT kind, epoch, taken", of_actor!(" AND kind IN (0, 7)")),
    outbox_epoch = concat!(
        "SELECT epoch",
        of_actor!(
            " AND kind = 5 AND epoch >= ?",
            " ORDER BY kind DESC, epoch ASC, place DESC LIMIT 1"
        )
    ),
    outbox = concat!(
        "SELECT epoch, place, effect, value, sealed",
        of_actor!(" AND kind = 5 AND epoch = ? AND place > ? AND place <= ? LIMIT ?")
    ),
    outbox_keys = concat!("SELECT epoch, place", of_actor!(" AND kind = 5")),
    seen = concat!("SELECT epoch, seen", of_actor!(" AND kind = 6")),
    pending_after = "SELECT system, actor, parent FROM {ks}.pending \
        WHERE shard = ? AND (system, actor, parent) > (?, ?, ?) LIMIT ?",
    due_days = "SELECT DISTINCT day FROM {ks}.due_minutes",
    minutes_after = "SELECT minute, shard FROM {ks}.due_minutes \
        WHERE day = ? AND (minute, shard) > (?, ?) LIMIT ?",
    due_after = "SELECT at, id, record, sealed FROM {ks}.due \
        WHERE minute = ? AND shard = ? AND (at, id) > (?, ?) LIMIT ?",
    pauses_after = "SELECT system, name, record FROM {ks}.pauses \
        WHERE part = 0 AND kind = ? AND (system, name) > (?, ?) LIMIT ?",
    schedule = "SELECT system, name, runs, record FROM {ks}.schedules \
        WHERE shard = ? AND system = ? AND name = ?",
    schedules_after = "SELECT system, name, runs, record FROM {ks}.schedules \
        WHERE shard = ? AND (system, name) > (?, ?) LIMIT ?",
    bucket_at = concat!(
        bucket_columns!(),
        of_actor!(
            " AND kind = 2 AND epoch = 0 AND place <= ?",
            " ORDER BY kind DESC, epoch ASC, place DESC LIMIT ?"
        )
    ),
    buckets_after = concat!(
        bucket_columns!(),
        of_actor!(" AND kind = 2 AND epoch = 0 AND place > ? AND place <= ? LIMIT ?")
    ),
    bucket_of = concat!(
        "SELECT bucket",
        of_actor!(
            " AND kind = 3 AND epoch = 0 AND place <= ?",
            " ORDER BY kind DESC, epoch ASC, place DESC LIMIT 1"
        )
    ),
    newest_position = concat!(
        "SELECT at, revision",
        of_actor!(" AND kind = 4 AND epoch = 0 ORDER BY kind DESC, epoch ASC, place DESC LIMIT 1")
    ),
    newest = concat!(
        "SELECT kind, owner AS epoch, outbox, ", content!(),
        of_actor!(" AND kind = 4 AND epoch = 0 ORDER BY kind DESC, epoch ASC, place DESC LIMIT 1")
    ),
    last_until = concat!(
        "SELECT epoch, ", content!(),
        of_bucket!(
            " AND (at, revision) <= (?, ?) ORDER BY at DESC, revision DESC LIMIT 1"
        )
    ),
    by_number = concat!(
        "SELECT epoch, ", content!(), of_bucket!(" AND revision = ? ALLOW FILTERING")
    ),
    interval = concat!(
        "SELECT epoch, ", content!(),
        of_bucket!(" AND (at, revision) >= (?, ?) AND (at, revision) <= (?, ?)")
    ),
    places = concat!("SELECT at, revision", of_bucket!("")),
    actors_after = "SELECT actor, parent FROM {ks}.actors \
        WHERE system = ? AND shard = ? AND (actor, parent) > (?, ?) LIMIT ?",
    actors_first = "SELECT actor, parent FROM {ks}.actors WHERE system = ? AND shard = ? LIMIT ?",
    parents = "SELECT parent FROM {ks}.actors WHERE system = ? AND shard = ? AND actor = ?",
    visible = "SELECT epoch, change FROM {ks}.visible WHERE part = 0",
    registrations = "SELECT system, name, epoch, change, record FROM {ks}.registrations WHERE shard = ?",
    changes_of = "SELECT name, epoch, change FROM {ks}.registrations \
        WHERE shard = ? AND system = ? AND name IN ?",
    beat = "SELECT epoch, heartbeat, address FROM {ks}.members WHERE part = 0 AND member = 'owner'",
    number = "SELECT number FROM {ks}.meta WHERE name = ?",
    epoch = "SELECT number, value FROM {ks}.meta WHERE name = ?",
    note = "SELECT value FROM {ks}.meta WHERE name = ?",
    }
    write: {
    put_head = concat!(
        "INSERT INTO {ks}.heads (system, actor, parent, kind, epoch, place, owner, ",
        content!(), ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ),
    put_outbox = "INSERT INTO {ks}.heads \
        (system, actor, parent, kind, epoch, place, format, effect, value, sealed) \
        VALUES (?, ?, ?, 5, ?, ?, 1, ?, ?, ?)",
    put_seen = "UPDATE {ks}.heads SET seen[?] = ? \
        WHERE system = ? AND actor = ? AND parent = ? AND kind = 6 AND epoch = ? AND place = ?",
    drop_seen = concat!(
        "DELETE seen[?]",
        of_actor!(" AND kind = 6 AND epoch = ? AND place = ?")
    ),
    put_owner = "INSERT INTO {ks}.heads (system, actor, parent, kind, epoch, place, taken) \
        VALUES (?, ?, ?, 7, ?, 0, ?)",
    drop_epochs = concat!("DELETE", of_actor!(" AND kind = ? AND epoch < ?")),
    drop_outbox = concat!("DELETE", of_actor!(" AND kind = 5 AND epoch = ? AND place = ?")),
    drop_beyond = concat!("DELETE", of_actor!(" AND kind = 5 AND epoch = ? AND place > ?")),
    drop_between = concat!("DELETE", of_actor!(" AND kind = 5 AND epoch > ? AND epoch < ?")),
    drop_newest = concat!("DELETE", of_actor!(" AND kind = 4 AND epoch = 0 AND place < ?")),
    put_bucket = "INSERT INTO {ks}.heads \
        (system, actor, parent, kind, epoch, place, written, dropped, size, first, last) \
        VALUES (?, ?, ?, 2, 0, ?, ?, ?, ?, ?, ?) USING TTL ?",
    put_bucket_of = "INSERT INTO {ks}.heads (system, actor, parent, kind, epoch, place, bucket) \
        VALUES (?, ?, ?, 3, 0, ?, ?) USING TTL ?",
    drop_index = concat!("DELETE", of_actor!(" AND kind = ? AND epoch = 0 AND place = ?")),
    drop_heads = concat!("DELETE", of_actor!(" AND kind < 5")),
    put_revision = concat!(
        "INSERT INTO {ks}.revisions (system, actor, parent, bucket, epoch, ", content!(),
        ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TTL ?"
    ),
    drop_before = concat!("DELETE", of_bucket!(" AND (at, revision) < (?, ?)")),
    drop_bucket = concat!("DELETE", of_bucket!("")),
    put_actor = "INSERT INTO {ks}.actors (system, shard, actor, parent) VALUES (?, ?, ?, ?)",
    drop_actor = "DELETE FROM {ks}.actors WHERE system = ? AND shard = ? AND actor = ? AND parent = ?",
    put_pending = "INSERT INTO {ks}.pending (shard, system, actor, parent, epoch) VALUES (?, ?, ?, ?, ?)",
    drop_pending = "DELETE FROM {ks}.pending \
        WHERE shard = ? AND system = ? AND actor = ? AND parent = ? AND epoch <= ?",
    put_minute = "INSERT INTO {ks}.due_minutes (day, minute, shard) VALUES (?, ?, ?)",
    drop_minute = "DELETE FROM {ks}.due_minutes WHERE day = ? AND minute = ? AND shard = ?",
    put_due = "INSERT INTO {ks}.due (minute, shard, at, id, record, sealed) VALUES (?, ?, ?, ?, ?, ?)",
    drop_due = "DELETE FROM {ks}.due WHERE minute = ? AND shard = ? AND at = ? AND id = ?",
    drop_due_partition = "DELETE FROM {ks}.due WHERE minute = ? AND shard = ?",
    put_pause = "INSERT INTO {ks}.pauses (part, kind, system, name, at, record) VALUES (0, ?, ?, ?, ?, ?)",
    drop_pause = "DELETE FROM {ks}.pauses WHERE part = 0 AND kind = ? AND system = ? AND name = ?",
    put_schedule = "INSERT INTO {ks}.schedules (shard, system, name, runs, record) VALUES (?, ?, ?, ?, ?)",
    drop_schedule = "DELETE FROM {ks}.schedules WHERE shard = ? AND system = ? AND name = ?",
    put_registration = "INSERT INTO {ks}.registrations (shard, system, name, epoch, change, record) \
        VALUES (?, ?, ?, ?, ?, ?)",
    drop_registration = "DELETE FROM {ks}.registrations \
        WHERE shard = ? AND system = ? AND name = ? AND epoch = ? AND change = ?",
    drop_visible = "DELETE FROM {ks}.visible WHERE part = 0 AND epoch < ?",
    put_visible = "INSERT INTO {ks}.visible (part, epoch, change) VALUES (0, ?, ?)",
    next_epoch = "UPDATE {ks}.meta SET number = ? WHERE name = ? IF number = ?",
    next_ceiling = "UPDATE {ks}.meta SET value = ? WHERE name = ? IF number = ? AND value = ?",
    put_beat = "INSERT INTO {ks}.members (part, member, address, epoch, heartbeat) \
        VALUES (0, 'owner', ?, ?, ?)",
    drop_beat = "DELETE FROM {ks}.members WHERE part = 0 AND member = 'owner'",
    put_number = "INSERT INTO {ks}.meta (name, number) VALUES (?, ?) USING TTL ?",
    put_note = "INSERT INTO {ks}.meta (name, value) VALUES (?, ?)",
    drop_note = "DELETE FROM {ks}.meta WHERE name = ?",
    }
}

struct Preparing<'a> {
    session: &'a Session,
    options: &'a CqlOptions,
}

impl Preparing<'_> {
    async fn reads<const N: usize>(
        &self,
        statements: [&str; N],
    ) -> Result<[PreparedStatement; N], CqlOpenError> {
        let mut reads = self.all(statements).await?;
        for read in &mut reads {
            read.set_consistency(self.options.consistency.of_reads());
            read.set_is_idempotent(true);
            read.set_retry_policy(Some(Arc::new(DefaultRetryPolicy::new())));
        }
        Ok(reads)
    }

    async fn all<const N: usize>(
        &self,
        statements: [&str; N],
    ) -> Result<[PreparedStatement; N], CqlOpenError> {
        let mut prepared = Vec::with_capacity(N);
        for cql in statements {
            prepared.push(self.prepare(cql).await?);
        }
        prepared.try_into().map_err(|prepared: Vec<_>| {
            self.refused(format!("{} of {N} statements are prepared", prepared.len()))
        })
    }

    async fn prepare(&self, cql: &str) -> Result<PreparedStatement, CqlOpenError> {
        let cql = cql.replace("{ks}", &format!("\"{}\"", self.options.keyspace_name()));
        // Boxed: the driver's future is large.
        Box::pin(self.session.prepare(cql.as_str()))
            .await
            .map_err(|error| self.refused(format!("{cql:?} is refused: {error}")))
    }

    fn refused(&self, reason: String) -> CqlOpenError {
        CqlOpenError::Schema { keyspace: self.options.keyspace_name(), reason }
    }
}
