//! Histories in bounded partitions, revisions that expire, and rows that a crash prevented.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use tidegate_stages::history::{Interval, Keep};
use tidegate_stages::history_stream;
use tidegate_stages::ports::{Save, StateStore};
use tidegate_stages::state::{Any, Timestamp};
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::states::{content_mut, head, id, keep, save};

use crate::{open, open_with};

async fn numbers(store: &Arc<dyn StateStore>, name: &str) -> Vec<u64> {
    let pages = history_stream::stream(store.clone(), id("s", name, ""), Interval::ALL);
    let pages: Vec<_> = pages.try_collect().await.unwrap();
    pages.concat().iter().map(|entry| entry.revision).collect()
}

/// How many revisions each partition of the history has.
async fn partitions(keyspace: &str) -> BTreeMap<i64, u64> {
    let session = crate::server::session().await;
    let query = format!("SELECT bucket FROM {keyspace}.revisions");
    let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    let mut partitions = BTreeMap::new();
    for row in rows.rows::<(i64,)>().unwrap() {
        *partitions.entry(row.unwrap().0).or_default() += 1;
    }
    partitions
}

/// How many rows list the buckets of histories: by time, by number.
async fn index_rows(keyspace: &str) -> (usize, usize) {
    let query = format!("SELECT kind FROM {keyspace}.heads");
    let rows = crate::server::session().await.query_unpaged(query, ()).await.unwrap();
    let rows = rows.into_rows_result().unwrap();
    let kinds: Vec<i8> = rows.rows::<(i8,)>().unwrap().map(|row| row.unwrap().0).collect();
    let of = |wanted| kinds.iter().filter(|kind| **kind == wanted).count();
    (of(2), of(3))
}

#[tokio::test]
async fn the_rows_that_list_buckets_end_with_their_buckets() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = subject.states();
    let revisions = |versions: std::ops::RangeInclusive<u64>| {
        versions.map(|version| head(&id("s", "a", ""), version).as_revision()).collect::<Vec<_>>()
    };
    store.append(actor.clone(), revisions(2_000..=7_000)).await.unwrap();
    // Out of order: the lowest number of a bucket changes.
    store.append(actor.clone(), revisions(10..=20)).await.unwrap();
    store.append(actor.clone(), revisions(5..=12)).await.unwrap();
    keep(&store, vec![save(&actor, 7_001, true)]).await;
    let before = index_rows(subject.name()).await;
    assert!(before.0 > 5 && before.0 == before.1, "{before:?}");
    // A prune that was interrupted after it dropped a bucket.
    let interrupted = format!(
        "DELETE FROM {}.revisions WHERE system = 's' AND actor = 'a' AND parent = '' AND bucket = 2000000",
        subject.name()
    );
    crate::server::session().await.query_unpaged(interrupted, ()).await.unwrap();
    store.prune(&actor, Keep { newest: Some(100), since: None }).await.unwrap();
    assert_eq!(index_rows(subject.name()).await, (1, 1));
    assert_eq!(numbers(&store, "a").await, (6_902..=7_001).collect::<Vec<_>>());
    // More are kept than one step drops buckets of.
    for start in (8_000..32_000).step_by(2_000) {
        store.append(actor.clone(), revisions(start..=start + 1_999)).await.unwrap();
    }
    assert!(index_rows(subject.name()).await.0 > 20);
    let since = Some(Timestamp(1_000 * 31_990));
    store.prune(&actor, Keep { newest: None, since }).await.unwrap();
    assert_eq!(index_rows(subject.name()).await, (1, 1));
    assert_eq!(numbers(&store, "a").await, (31_990..=31_999).collect::<Vec<_>>());
    store.delete(&actor).await.unwrap();
    assert_eq!(index_rows(subject.name()).await, (0, 0));
}

#[tokio::test]
async fn a_partition_of_the_history_is_bounded_in_entries_and_in_bytes() {
    let subject = open().await;
    let store = subject.states();
    for start in (1..=2_500).step_by(500) {
        let batch = (start..start + 500).map(|version| save(&id("s", "a", ""), version, true));
        keep(&store, batch.collect()).await;
    }
    let sizes = partitions(subject.name()).await;
    assert_eq!(
        sizes.into_iter().collect::<Vec<_>>(),
        [(1_000, 1_024), (1_025_000, 1_024), (2_049_000, 452)]
    );
    assert_eq!(numbers(&store, "a").await, (1..=2_500).collect::<Vec<_>>());
    for version in [1, 1_024, 1_025, 1_500, 2_048, 2_049, 2_500] {
        let found = store.load_revision(&id("s", "a", ""), version).await.unwrap();
        assert_eq!(found.map(|found| found.revision), Some(version));
        let found =
            store.load_at(&id("s", "a", ""), Timestamp(1_000 * version + 999)).await.unwrap();
        assert_eq!(found.map(|found| found.revision), Some(version));
    }
    assert_eq!(store.load_revision(&id("s", "a", ""), 2_501).await.unwrap(), None);
    store.delete(&id("s", "a", "")).await.unwrap();
    assert!(partitions(subject.name()).await.is_empty());
    let large = |version| {
        let mut save = save(&id("s", "b", ""), version, true);
        let value = vec![7_u8; 3 << 20];
        content_mut(&mut save).state = Some(Any { type_url: "t".into(), value: value.into() });
        save
    };
    for version in 1..=8 {
        keep(&store, vec![large(version)]).await;
    }
    let sizes = partitions(subject.name()).await;
    assert_eq!(sizes.into_values().collect::<Vec<_>>(), [6, 2]);
    assert_eq!(numbers(&store, "b").await, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_revision_that_a_crash_kept_away_is_missed_and_appended_again() {
    let (mut subject, actor) = (open().await, id("s", "a", ""));
    keep(&subject.states(), vec![save(&actor, 1, true), save(&actor, 2, true)]).await;
    let session = crate::server::session().await;
    let gone = format!(
        "DELETE FROM {}.revisions WHERE system = 's' AND actor = 'a' AND parent = '' AND bucket = 1000 \
         AND at = 2000 AND revision = 2",
        subject.name()
    );
    session.query_unpaged(gone, ()).await.unwrap();
    subject = subject.reopen().await;
    let store = subject.states();
    assert_eq!(store.load(&actor).await.unwrap().unwrap().revision, 2);
    assert_eq!(store.load_revision(&actor, 2).await.unwrap(), None);
    keep(&store, vec![save(&actor, 2, true)]).await;
    assert_eq!(numbers(&store, "a").await, [1, 2]);
}

#[tokio::test]
async fn revisions_expire_but_the_newest_one_does_not() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let mut options = subject.options();
    options.time_to_live = Some(Duration::from_secs(1));
    let expiring = open_with(&options).await.unwrap();
    let store: Arc<dyn StateStore> = Arc::new(expiring.clone());
    keep(&store, (1..=5).map(|version| save(&actor, version, true)).collect()).await;
    let expired = async {
        while !partitions(subject.name()).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), expired).await.unwrap();
    let newest = head(&actor, 5);
    assert_eq!(store.load(&actor).await.unwrap(), Some(newest.clone()));
    assert_eq!(store.load_revision(&actor, 4).await.unwrap(), None);
    let revision = Some(newest.as_revision());
    assert_eq!(store.load_revision(&actor, 5).await.unwrap(), revision);
    assert_eq!(store.load_at(&actor, Timestamp(u64::MAX)).await.unwrap(), revision);
    assert_eq!(store.load_at(&actor, Timestamp(4_999)).await.unwrap(), None);
    assert_eq!(numbers(&store, "a").await, [5]);
    let before = Interval::between(Timestamp(0), Timestamp(4_999));
    assert!(store.load_by_interval(&actor, before, 9).await.unwrap().items.is_empty());
    keep(&store, vec![save(&actor, 6, true)]).await;
    assert_eq!(numbers(&store, "a").await, [6]);
    expiring.close().await.unwrap();
}

#[tokio::test]
async fn an_old_history_is_repaired_in_its_place() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = subject.states();
    let revisions = |versions: std::ops::RangeInclusive<u64>| {
        let of = |version| head(&id("s", "a", ""), version).as_revision();
        versions.map(of).collect::<Vec<_>>()
    };
    store.append(actor.clone(), revisions(3_000..=6_000)).await.unwrap();
    store.append(actor.clone(), revisions(10..=20)).await.unwrap();
    store.append(actor.clone(), revisions(5..=12)).await.unwrap();
    keep(&store, vec![save(&actor, 6_001, true)]).await;
    let expected: Vec<u64> = (5..=20).chain(3_000..=6_001).collect();
    assert!(numbers(&store, "a").await == expected);
    store.append(actor.clone(), revisions(100..=1_300)).await.unwrap();
    let expected: Vec<u64> = (5..=20).chain(100..=1_300).chain(3_000..=6_001).collect();
    assert!(numbers(&store, "a").await == expected);
    assert!(partitions(subject.name()).await.into_values().all(|revisions| revisions <= 1_024));
    for version in [5, 10, 20, 100, 1_300, 3_000, 6_001] {
        assert!(store.load_revision(&actor, version).await.unwrap().is_some(), "{version}");
    }
    assert_eq!(store.load_revision(&actor, 4).await.unwrap(), None);
    assert_eq!(store.load_revision(&actor, 99).await.unwrap(), None);
}

#[tokio::test]
async fn what_waits_when_the_store_is_closed_is_still_written() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = subject.states();
    let saves: Vec<_> =
        (1..=50).map(|version| store.save_all(vec![save(&actor, version, true)])).collect();
    subject.store.close().await.unwrap();
    for answer in futures_util::future::join_all(saves).await.concat() {
        answer.unwrap();
    }
    assert!(store.save_all(vec![save(&actor, 51, true)]).await[0].is_err());
    assert!(store.load(&actor).await.is_err() && store.claim_epoch().await.is_err());
    assert!(!subject.store.is_healthy());
    let subject = subject.reopen().await;
    assert_eq!(numbers(&subject.states(), "a").await, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_save_behind_a_failed_one_of_its_actor_fails_with_it() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = subject.states();
    let mut giant = save(&actor, 2, true);
    let value = vec![0_u8; 32 << 20];
    content_mut(&mut giant).state = Some(Any { type_url: "t".into(), value: value.into() });
    let batch: Vec<Save> =
        vec![save(&actor, 1, true), giant, save(&actor, 3, true), save(&id("s", "b", ""), 1, true)];
    let answers = store.save_all(batch).await;
    let texts: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().map_err(ToString::to_string)).collect();
    assert!(texts[0].is_ok() && texts[3].is_ok(), "{texts:?}");
    assert!(matches!(&texts[1], Err(text) if text.contains("too large")), "{texts:?}");
    assert_eq!(texts[1], texts[2]);
    assert_eq!(numbers(&store, "a").await, [1]);
    keep(&store, vec![save(&actor, 2, true)]).await;
    assert_eq!(numbers(&store, "a").await, [1, 2]);
}
