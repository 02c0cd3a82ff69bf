//! A sealed value opens in the row that it was written to, and in no other.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;
use tidegate::store::{CqlOptions, CqlStore, Key, Vault};
use tidegate_stages::actor::ActorId;
use tidegate_stages::outbox::OutboxRow;
use tidegate_stages::ports::{Save, StateStore, StoreError};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::conformance::effects::{appends, row};
use tidegate_stages::testkit::conformance::states::{head, id, keep, save};

use crate::server;
use crate::{Cql, open, open_with};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// What an error says of a value that was moved.
const ELSEWHERE: &str = "does not belong here";
/// Kinds of rows in `heads`.
const HEAD: i8 = 0;
const OUTBOX: i8 = 5;
const NEWEST: i8 = 4;

/// Whoever has the database's password can do what this does.
struct Intruder {
    session: Session,
    keyspace: String,
}

impl Intruder {
    /// The value in the only row of an actor that a condition finds, and the row's key.
    async fn find(&self, table: &str, actor: &ActorId, condition: &str) -> (Vec<u8>, String) {
        let keys = match table {
            "heads" => ["kind", "epoch", "place"],
            _ => ["bucket", "at", "revision"],
        };
        let of = format!(
            "system = '{}' AND actor = '{}' AND parent = '{}'",
            actor.system, actor.name, actor.parent
        );
        let named = keys.map(|key| format!("CAST({key} AS text)")).join(", ");
        let query = format!(
            "SELECT value, {named} FROM {}.{table} WHERE {of} AND {condition} ALLOW FILTERING",
            self.keyspace
        );
        let found = self.session.query_unpaged(query, ()).await.unwrap().into_rows_result();
        let (value, first, second, third) =
            found.unwrap().single_row::<(Vec<u8>, String, String, String)>().unwrap();
        let row = keys.iter().zip([first, second, third]);
        let row: Vec<_> = row.map(|(key, value)| format!(" AND {key} = {value}")).collect();
        (value, of + &row.concat())
    }

    async fn put(&self, table: &str, row: &str, value: &[u8]) {
        // Later than whatever the store wrote.
        let query = format!(
            "UPDATE {}.{table} USING TIMESTAMP 4000000000000000 SET value = ? WHERE {row}",
            self.keyspace
        );
        self.session.query_unpaged(query, (value,)).await.unwrap();
    }

    /// Copies the value of one row into another.
    async fn copy(&self, from: (&str, &Arc<ActorId>, &str), to: (&str, &Arc<ActorId>, &str)) {
        let (value, _) = self.find(from.0, from.1, from.2).await;
        let (_, row) = self.find(to.0, to.1, to.2).await;
        self.put(to.0, &row, &value).await;
    }
}

async fn intruder(subject: &Cql) -> Intruder {
    Intruder { session: server::session().await, keyspace: subject.name().into() }
}

async fn sealing(options: CqlOptions) -> CqlStore {
    let vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
    open_with(&CqlOptions { vault, ..options }).await.unwrap()
}

/// Two revisions, whose numbers are those of the heads, and two effects in the outbox.
async fn fill(store: &Arc<dyn StateStore>, actor: &Arc<ActorId>) {
    keep(store, vec![save(actor, 1, true)]).await;
    keep(store, vec![save(actor, 2, true)]).await;
    keep(store, vec![Save::of_rows(actor.clone(), 1, appends(0..2))]).await;
}

async fn outbox(
    store: &Arc<dyn StateStore>,
    actor: &ActorId,
) -> Result<Vec<OutboxRow>, StoreError> {
    store.outbox(actor, None, 9).await.map(|page| page.items)
}

#[track_caller]
fn does_not_belong<T: std::fmt::Debug>(read: Result<T, StoreError>) {
    match read {
        Err(StoreError::Sealed(text)) => assert!(text.contains(ELSEWHERE), "{text}"),
        other => panic!("it opened, or failed for another reason: {other:?}"),
    }
}

#[tokio::test]
async fn states_of_two_actors_that_were_exchanged_are_refused() {
    let (subject, joe, ann) = (open().await, id("s", "joe", ""), id("s", "ann", ""));
    let store = sealing(subject.options()).await;
    let states: Arc<dyn StateStore> = Arc::new(store.clone());
    for actor in [&joe, &ann] {
        fill(&states, actor).await;
        assert_eq!(states.load(actor).await.unwrap(), Some(head(actor, 2)));
    }
    let (intruder, kind) = (intruder(&subject).await, format!("kind = {HEAD}"));
    let (of_joe, row_of_joe) = intruder.find("heads", &joe, &kind).await;
    let (of_ann, row_of_ann) = intruder.find("heads", &ann, &kind).await;
    intruder.put("heads", &row_of_joe, &of_ann).await;
    intruder.put("heads", &row_of_ann, &of_joe).await;
    does_not_belong(states.load(&joe).await);
    does_not_belong(states.load(&ann).await);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_value_that_was_moved_within_one_actor_is_refused() {
    let (first, second) = ("revision = 1", "revision = 2");
    let newest = format!("kind = {HEAD}");
    let [one, two] = [0, 1].map(|place| format!("kind = {OUTBOX} AND place = {place}"));
    let (joe, ann) = (id("s", "joe", ""), id("s", "ann", ""));
    let cases = [
        (("heads", &joe, newest.as_str()), ("revisions", &joe, second)),
        (("revisions", &joe, second), ("heads", &joe, newest.as_str())),
        (("revisions", &joe, first), ("revisions", &joe, second)),
        (("heads", &joe, two.as_str()), ("heads", &joe, one.as_str())),
        (("heads", &ann, one.as_str()), ("heads", &joe, one.as_str())),
    ];
    for (number, (from, to)) in cases.into_iter().enumerate() {
        let subject = open().await;
        let store = sealing(subject.options()).await;
        let states: Arc<dyn StateStore> = Arc::new(store.clone());
        for actor in [&joe, &ann] {
            fill(&states, actor).await;
        }
        intruder(&subject).await.copy(from, to).await;
        let (load, rows) = (states.load(&joe).await, outbox(&states, &joe).await);
        let revision = states.load_revision(&joe, 2).await;
        let page = states.load_by_interval(&joe, tidegate_stages::history::Interval::ALL, 9).await;
        match number {
            0 | 2 => {
                does_not_belong(revision);
                does_not_belong(page);
                does_not_belong(states.load_at(&joe, Timestamp(u64::MAX >> 1)).await);
                assert_eq!(load.unwrap(), Some(head(&joe, 2)));
            }
            1 => {
                does_not_belong(load);
                assert_eq!(revision.unwrap(), Some(head(&joe, 2).as_revision()));
            }
            _ => {
                does_not_belong(rows);
                assert_eq!(load.unwrap(), Some(head(&joe, 2)));
                assert_eq!(outbox(&states, &ann).await.unwrap(), [row(0), row(1)]);
            }
        }
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_copy_of_the_newest_revision_opens_when_that_has_expired_and_is_bound_too() {
    let (subject, joe, ann) = (open().await, id("s", "joe", ""), id("s", "ann", ""));
    let options = CqlOptions { time_to_live: Some(Duration::from_hours(1)), ..subject.options() };
    let store = sealing(options).await;
    let states: Arc<dyn StateStore> = Arc::new(store.clone());
    for actor in [&joe, &ann] {
        keep(&states, vec![save(actor, 1, true)]).await;
        states.append(actor.clone(), vec![head(actor, 2).as_revision()]).await.unwrap();
    }
    let intruder = intruder(&subject).await;
    let gone = format!("TRUNCATE {}.revisions", subject.name());
    intruder.session.query_unpaged(gone, ()).await.unwrap();
    let newest = states.load_revision(&joe, 2).await.unwrap();
    assert_eq!(newest, Some(head(&joe, 2).as_revision()));
    let kind = format!("kind = {NEWEST}");
    intruder.copy(("heads", &ann, &kind), ("heads", &joe, &kind)).await;
    does_not_belong(states.load_revision(&joe, 2).await);
    store.close().await.unwrap();
}
