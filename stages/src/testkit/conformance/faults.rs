//! Checks of a store after writes that were lost, late, repeated or torn before they reached it.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::sync::Arc;

use futures_util::future::join_all;

use super::Subject;
use super::states::{id, keep, save};
use crate::history::Interval;
use crate::ports::{StateStore, StoreError};
use crate::testkit::faulty::{FaultyStore, SaveFault};

/// Wraps the subject's store in one that fails on command.
fn faulty(subject: &impl Subject) -> (Arc<FaultyStore>, Arc<dyn StateStore>) {
    let faulty = Arc::new(FaultyStore::new(subject.states()));
    (faulty.clone(), faulty)
}

fn cut() -> StoreError {
    StoreError::Unavailable("the connection was cut".into())
}

fn timed_out() -> StoreError {
    StoreError::Unknown("no answer in time".into())
}

async fn revisions(store: &Arc<dyn StateStore>, name: &str) -> Vec<u64> {
    let page = store.load_by_interval(&id("s", name, ""), Interval::ALL, 99).await;
    page.expect("loads").items.iter().map(|entry| entry.revision).collect()
}

pub async fn a_lost_write_leaves_what_was_there(subject: impl Subject) {
    let ((faults, store), actor) = (faulty(&subject), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, true)]).await;
    faults.fail_next_save(SaveFault::Lose(cut()));
    assert!(store.save_all(vec![save(&actor, 2, true)]).await[0].is_err());
    assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 1, true).head);
    assert_eq!(revisions(&store, "a").await, [1]);
    keep(&store, vec![save(&actor, 2, false)]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 2, false).head);
}

pub async fn a_late_write_keeps_its_place(subject: impl Subject) {
    let ((faults, store), actor) = (faulty(&subject), id("s", "a", ""));
    faults.hold_saves();
    let calls: Vec<_> =
        (1..=3).map(|version| store.save_all(vec![save(&actor, version, true)])).collect();
    assert_eq!(store.load(&actor).await.expect("loads"), None);
    faults.release_saves();
    for answer in join_all(calls).await.into_iter().flatten() {
        answer.expect("acknowledged");
    }
    assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 3, true).head);
    assert_eq!(revisions(&store, "a").await, [1, 2, 3]);
}

pub async fn a_write_repeated_after_a_timeout_is_there_once(subject: impl Subject) {
    let ((faults, store), actor) = (faulty(&subject), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, true)]).await;
    for _ in 0..2 {
        faults.fail_next_save(SaveFault::WriteAndFail(timed_out()));
        let answer = store.save_all(vec![save(&actor, 2, true), save(&actor, 3, false)]).await;
        assert!(answer.iter().all(Result::is_err), "{answer:?}");
    }
    keep(&store, vec![save(&actor, 2, true), save(&actor, 3, false)]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 3, false).head);
    assert_eq!(revisions(&store, "a").await, [1, 2]);
}

pub async fn a_torn_batch_is_completed_by_repeating_it(subject: impl Subject) {
    let (faults, store) = faulty(&subject);
    let batch = || ["a", "b", "c"].map(|name| save(&id("s", name, ""), 1, true)).to_vec();
    faults.fail_next_save(SaveFault::Tear(1, timed_out()));
    assert!(store.save_all(batch()).await.iter().all(Result::is_err));
    assert!(store.load(&id("s", "c", "")).await.expect("loads").is_none());
    keep(&store, batch()).await;
    for name in ["a", "b", "c"] {
        assert_eq!(revisions(&store, name).await, [1], "{name}");
    }
}

pub async fn a_store_that_was_cut_off_goes_on(subject: impl Subject) {
    let ((faults, store), actor) = (faulty(&subject), id("s", "a", ""));
    for _ in 0..20 {
        faults.fail_next_save(SaveFault::Lose(cut()));
        faults.fail_next_load(cut());
    }
    for version in 1..=20 {
        assert!(store.save_all(vec![save(&actor, version, true)]).await[0].is_err());
        assert!(store.load(&actor).await.is_err());
    }
    keep(&store, vec![save(&actor, 21, true)]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 21, true).head);
    assert_eq!(revisions(&store, "a").await, [21]);
}
