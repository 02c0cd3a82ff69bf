//! A later owner's writes win and an older owner gets an error, whatever the clocks say.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate::store::{CqlOptions, CqlStore, Notes, OwnerSeen, OwnerStatus, OwnershipCheck};
use tidegate_stages::ports::{Save, StateStore, StoreError};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{self, id, keep, save};
use tokio::task::JoinSet;

use crate::wire::{WRITE, Wire};
use crate::{Cql, open, open_with};

const NOON: u64 = 3_000_000_000_000_000;
const HOUR: u64 = 3_600_000_000;

fn port(store: &CqlStore) -> Arc<dyn StateStore> {
    Arc::new(store.clone())
}

fn under(epoch: u64, name: &str, version: u64) -> Save {
    states::under(epoch, save(&id("s", name, ""), version, true))
}

/// A store on the subject's keyspace whose clock stands at a time.
async fn at(subject: &Cql, time: u64) -> CqlStore {
    let clock = Arc::new(SetClock::at(Timestamp(time)));
    CqlStore::open(&subject.options(), clock, plain_definition).await.unwrap()
}

#[tokio::test]
async fn an_owner_that_does_not_know_of_a_later_one_is_told_after_its_write() {
    let subject = open().await;
    let (old, new) = (subject.store.clone(), open_with(&subject.options()).await.unwrap());
    let first = port(&old).claim_epoch().await.unwrap();
    keep(&port(&old), vec![under(first, "a", 1)]).await;
    let second = port(&new).claim_epoch().await.unwrap();
    keep(&port(&new), vec![under(second, "a", 2)]).await;
    let answer = port(&old).save_all(vec![under(first, "a", 3), under(first, "b", 1)]).await;
    for answer in answer {
        assert!(
            matches!(answer, Err(StoreError::Fenced(newest)) if newest == second),
            "{answer:?}"
        );
    }
    assert!(!old.is_healthy() && new.is_healthy());
    // Written later, and not the latest state all the same.
    for store in [&old, &new] {
        let head = port(store).load(&id("s", "a", "")).await.unwrap().unwrap();
        assert_eq!((head.epoch, head.version), (second, 2));
    }
    assert!(matches!(port(&old).delete(&id("s", "a", "")).await, Err(StoreError::Fenced(_))));
    keep(&port(&new), vec![under(second, "a", 3)]).await;
    new.close().await.unwrap();
}

/// A detector that is told what is seen, and decides always the same.
#[derive(Debug)]
struct Detector {
    goes_on: bool,
    told: Mutex<Vec<OwnerSeen>>,
}

impl OwnershipCheck for Detector {
    fn may_go_on(&self, seen: OwnerSeen) -> bool {
        self.told.lock().push(seen);
        self.goes_on
    }
}

#[tokio::test]
async fn another_detector_decides_who_owns_the_database() {
    let subject = open().await;
    for goes_on in [true, false] {
        let detector = Arc::new(Detector { goes_on, told: Mutex::default() });
        let options = CqlOptions { ownership: detector.clone(), ..subject.options() };
        let old = open_with(&options).await.unwrap();
        let own = port(&old).claim_epoch().await.unwrap();
        let stored = port(&subject.store).claim_epoch().await.unwrap();
        let answer = port(&old).save_all(vec![under(own, "a", 1)]).await.remove(0);
        assert_eq!((answer.is_ok(), old.is_healthy()), (goes_on, goes_on), "{answer:?}");
        let seen = OwnerSeen { status: OwnerStatus::Claimed, stored, own };
        if goes_on {
            assert!(detector.told.lock().contains(&seen), "{:?}", detector.told.lock());
            old.close().await.unwrap();
        } else {
            assert!(matches!(answer, Err(StoreError::Fenced(_))), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn an_idle_owner_hears_of_a_later_one() {
    let subject = open().await;
    let new = open_with(&subject.options()).await.unwrap();
    port(&subject.store).claim_epoch().await.unwrap();
    port(&new).claim_epoch().await.unwrap();
    let told = async {
        while subject.store.is_healthy() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), told).await.unwrap();
    new.close().await.unwrap();
}

#[tokio::test]
async fn owners_that_claim_at_the_same_time_get_different_epochs() {
    let subject = open().await;
    let store = port(&subject.store);
    let claims = futures_util::future::join_all((0..4).map(|_| {
        let options = subject.options();
        async move {
            let store = open_with(&options).await.unwrap();
            port(&store).claim_epoch().await.unwrap()
        }
    }));
    let mut epochs = claims.await;
    epochs.push(store.claim_epoch().await.unwrap());
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 5, "{epochs:?}");
}

#[tokio::test]
async fn what_an_earlier_start_deleted_does_not_win_when_the_clock_was_set_back() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let ahead = at(&subject, NOON).await;
    keep(&port(&ahead), vec![save(&actor, 1, true)]).await;
    port(&ahead).delete(&actor).await.unwrap();
    ahead.put_note("n", None).await.unwrap();
    ahead.close().await.unwrap();
    let back = at(&subject, NOON - HOUR).await;
    keep(&port(&back), vec![save(&actor, 1, true)]).await;
    assert!(port(&back).load(&actor).await.unwrap().is_some());
    assert!(port(&back).load_revision(&actor, 1).await.unwrap().is_some());
    back.put_note("n", Some("kept".into())).await.unwrap();
    assert_eq!(back.note("n").await.unwrap().unwrap(), "kept");
    back.put_note("n", None).await.unwrap();
    assert_eq!(back.note("n").await.unwrap(), None);
    back.close().await.unwrap();
}

#[tokio::test]
async fn a_delete_in_flight_at_an_owner_removes_nothing_of_its_successors_whatever_the_clocks() {
    for clock_of_old in [NOON + HOUR, NOON - HOUR] {
        let (subject, actor, wire) = (open().await, id("s", "joe", ""), Wire::new().await);
        let (clock, request_time) =
            (Arc::new(SetClock::at(Timestamp(clock_of_old))), Duration::from_mins(1));
        let through =
            CqlOptions { hosts: vec![wire.address.clone()], request_time, ..subject.options() };
        let old = CqlStore::open(&through, clock.clone(), plain_definition).await.unwrap();
        let first = port(&old).claim_epoch().await.unwrap();
        keep(&port(&old), vec![under(first, "joe", 1)]).await;
        wire.hold(WRITE, "joe");
        let mut deleting = JoinSet::new();
        deleting.spawn(port(&old).delete(&actor));
        wire.holds(1).await;

        let new = at(&subject, NOON).await;
        let second = port(&new).claim_epoch().await.unwrap();
        keep(&port(&new), vec![under(second, "joe", 2), under(second, "joe", 3)]).await;
        // What the old owner has in flight arrives, and it goes on when it has used up the stamps that it had.
        clock.set(Timestamp(clock_of_old + 60_000_000));
        wire.release().await;
        let deleted = deleting.join_next().await.unwrap().unwrap();
        assert!(matches!(deleted, Err(StoreError::Fenced(by)) if by == second), "{deleted:?}");

        let fresh = at(&subject, NOON).await;
        for store in [&new, &fresh] {
            let head = port(store).load(&actor).await.unwrap();
            assert_eq!(head.map(|head| head.version), Some(3), "old at {clock_of_old}");
            for revision in [2, 3] {
                let found = port(store).load_revision(&actor, revision).await.unwrap();
                assert_eq!(found.map(|found| found.revision), Some(revision));
            }
            let listed = port(store).actors("s", None, 9).await.unwrap().items;
            assert_eq!(listed, std::slice::from_ref(&actor));
        }
        for store in [old, new, fresh] {
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_new_owners_first_save_removes_what_older_ones_left() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = port(&subject.store);
    for epoch in 1..=3 {
        keep(&store, vec![under(epoch, "a", epoch)]).await;
    }
    let last = under(3, "a", 4);
    keep(&store, vec![last.clone()]).await;
    assert_eq!(store.load(&actor).await.unwrap(), last.head);
    let session = crate::server::session().await;
    let query = format!("SELECT kind, epoch, place FROM {}.heads", subject.name());
    let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    let rows = rows.rows::<(i8, i64, i64)>().unwrap().map(Result::unwrap);
    let heads: Vec<_> = rows.filter(|(kind, ..)| *kind < 2).collect();
    assert_eq!(heads, [(0, 3, 0)]);
}
