//! Due work: which minutes are dropped, and when not.

use std::sync::Arc;
use std::time::Duration;

use tidegate::clock::SystemClock;
use tidegate::store::{CqlOptions, CqlStore};
use tidegate_stages::due::{DueEntry, DueKey};
use tidegate_stages::outbox::{EffectSource, SourceKind};
use tidegate_stages::ports::{Clock, DueStore, StateStore};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tokio::task::JoinSet;

use crate::wire::{WRITE, Wire};
use crate::{Cql, open, open_with};

const HOUR: Duration = Duration::from_hours(1);

fn entry(at: Timestamp, name: &str) -> DueEntry {
    let source = EffectSource { name: name.into(), system: "s".into(), kind: SourceKind::Due };
    DueEntry { key: DueKey { at, source: source.into() }, record: name.to_owned().into() }
}

async fn names(store: &CqlStore) -> Vec<String> {
    let page = store.due(None, 9).await.unwrap();
    page.items.into_iter().map(|entry| entry.key.source.name.clone()).collect()
}

async fn minutes(subject: &Cql) -> usize {
    let query = format!("SELECT minute FROM {}.due_minutes", subject.name());
    let rows = crate::server::session().await.query_unpaged(query, ()).await.unwrap();
    rows.into_rows_result().unwrap().rows_num()
}

#[tokio::test]
async fn a_call_for_a_minute_that_is_over_is_not_dropped_with_that_minute() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions { hosts: vec![wire.address.clone()], ..subject.options() };
    let store = open_with(&through).await.unwrap();
    store.claim_epoch().await.unwrap();
    let over = Timestamp(SystemClock.now().0 - u64::try_from(HOUR.as_micros()).unwrap());
    let (first, late) = (entry(over, "first"), entry(over, "late call"));
    store.put_due(vec![first.clone()]).await.unwrap();
    store.remove_due(vec![first.key]).await.unwrap();
    wire.hold(WRITE, "late call");
    let mut putting = JoinSet::new();
    let (putter, put) = (store.clone(), late.clone());
    putting.spawn(async move { putter.put_due(vec![put]).await });
    wire.holds(1).await;
    assert!(names(&store).await.is_empty());
    wire.release().await;
    putting.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(names(&store).await, ["late call"]);
    store.remove_due(vec![late.key]).await.unwrap();
    assert!(names(&store).await.is_empty());
    assert_eq!(minutes(&subject).await, 0, "what is over and empty is dropped");
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_minute_to_come_is_kept_by_an_owner_that_writes_ahead_of_its_clock() {
    let subject = open().await;
    let clock = Arc::new(SetClock::at(Timestamp(4_000_000_000_000_000)));
    let ahead = CqlStore::open(&subject.options(), clock, plain_definition).await.unwrap();
    ahead.claim_epoch().await.unwrap();
    let to_come = Timestamp(SystemClock.now().0 + u64::try_from(HOUR.as_micros()).unwrap());
    let entry = entry(to_come, "to come");
    ahead.put_due(vec![entry.clone()]).await.unwrap();
    ahead.close().await.unwrap();
    // The timestamps of its writes are later than those of the one before.
    subject.store.claim_epoch().await.unwrap();
    subject.store.remove_due(vec![entry.key]).await.unwrap();
    assert!(names(&subject.store).await.is_empty());
    assert_eq!(minutes(&subject).await, 1);
}
