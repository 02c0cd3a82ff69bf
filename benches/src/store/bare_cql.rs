//! Bare CQL: a CQL server behind the bare driver, as the upper limit of the CQL store.
//!
//! It has the same tables, row contents and consistency. A head is one row; a head with a revision is one batch in the head's
//! partition, then one row of the history. It lacks what the store adds: epochs, order of writes, and buckets.

use bytes::Bytes;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::response::query_result::QueryResult;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tidegate_stages::actor::ActorId;

use super::storage::{Change, STATE_URL, Storage, state, time};

/// The server; see the [module](self).
pub struct BareCql {
    session: Session,
    put_head: PreparedStatement,
    put_revision: PreparedStatement,
    head_and_bucket: Batch,
    head: PreparedStatement,
    revision: PreparedStatement,
}

impl std::fmt::Debug for BareCql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareCql").field("session", &self.session).finish_non_exhaustive()
    }
}

const PUT_HEAD: &str = "INSERT INTO {ks}.heads (system, actor, parent, kind, epoch, place, outbox, \
    owner, format, version, revision, incarnation, status, at, tags, type_url, value, sealed) \
    VALUES (?, ?, ?, 0, 1, 0, 0, 1, 1, ?, ?, 1, 0, ?, {}, ?, ?, false)";
const PUT_BUCKET: &str = "INSERT INTO {ks}.heads (system, actor, parent, kind, epoch, place, written, \
    dropped, size, first, last) VALUES (?, ?, ?, 2, 0, 0, ?, 0, ?, 1, ?)";
const PUT_REVISION: &str = "INSERT INTO {ks}.revisions (system, actor, parent, bucket, epoch, format, \
    version, revision, incarnation, status, at, tags, type_url, value, sealed) \
    VALUES (?, ?, ?, 0, 1, 1, ?, ?, 1, 0, ?, {}, ?, ?, false)";
const HEAD: &str = "SELECT value FROM {ks}.heads WHERE system = ? AND actor = ? AND parent = ? AND kind = 0 LIMIT 1";
const REVISION: &str = "SELECT value FROM {ks}.revisions WHERE system = ? AND actor = ? AND parent = ? \
    AND bucket = 0 AND revision = ? ALLOW FILTERING";

async fn session(address: &str) -> Session {
    let profile = ExecutionProfile::builder().consistency(Consistency::LocalQuorum).build();
    let builder = SessionBuilder::new().known_node(address);
    let builder = builder.default_execution_profile_handle(profile.into_handle());
    // Boxed: the driver's future is large.
    Box::pin(builder.build()).await.expect("the server is there")
}

/// Drops the keyspace of a bench.
///
/// # Panics
/// When the server refuses.
pub async fn drop_keyspace(address: &str, keyspace: &str) {
    let statement = format!("DROP KEYSPACE IF EXISTS \"{keyspace}\"");
    Box::pin(session(address).await.query_unpaged(statement, ())).await.expect("it is dropped");
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("far below 2^63")
}

fn state_in(found: QueryResult) -> Bytes {
    let rows = found.into_rows_result().expect("rows");
    let (state,) = rows.first_row::<(Vec<u8>,)>().expect("it was kept");
    state.into()
}

impl BareCql {
    /// Connects to a keyspace that has the store's tables.
    ///
    /// # Panics
    /// When that fails.
    pub async fn open(address: &str, keyspace: &str) -> BareCql {
        let session = session(address).await;
        let prepare = async |cql: &str| {
            let cql = cql.replace("{ks}", &format!("\"{keyspace}\""));
            Box::pin(session.prepare(cql)).await.expect("a statement")
        };
        let put_head = prepare(PUT_HEAD).await;
        let mut head_and_bucket = Batch::new(BatchType::Unlogged);
        head_and_bucket.append_statement(put_head.clone());
        head_and_bucket.append_statement(prepare(PUT_BUCKET).await);
        let (put_revision, head) = (prepare(PUT_REVISION).await, prepare(HEAD).await);
        let revision = prepare(REVISION).await;
        BareCql { session, put_head, put_revision, head_and_bucket, head, revision }
    }
}

impl Storage for BareCql {
    async fn save(&self, change: Change) {
        let Change { actor, number, version, revision, append } = change;
        let ActorId { name, system, parent } = &*actor;
        let state = state(number, version);
        let value = state.as_ref();
        let (at, version, revision) = (signed(time(version).0), signed(version), signed(revision));
        let head = (system, name, parent, version, revision, at, STATE_URL, value);
        if !append {
            let saved = Box::pin(self.session.execute_unpaged(&self.put_head, head)).await;
            saved.expect("it is saved");
            return;
        }
        let bucket = (system, name, parent, 1_i32, 1_i64, revision);
        let saved = Box::pin(self.session.batch(&self.head_and_bucket, (head, bucket))).await;
        saved.expect("it is saved");
        let row = (system, name, parent, version, revision, at, STATE_URL, value);
        let saved = Box::pin(self.session.execute_unpaged(&self.put_revision, row)).await;
        saved.expect("it is appended");
    }

    async fn load(&self, actor: &ActorId) -> Bytes {
        let ActorId { name, system, parent } = actor;
        let found = self.session.execute_unpaged(&self.head, (system, name, parent));
        state_in(Box::pin(found).await.expect("it is read"))
    }

    async fn load_revision(&self, actor: &ActorId, revision: u64) -> Bytes {
        let ActorId { name, system, parent } = actor;
        let values = (system, name, parent, signed(revision));
        let found = self.session.execute_unpaged(&self.revision, values);
        state_in(Box::pin(found).await.expect("it is read"))
    }
}
