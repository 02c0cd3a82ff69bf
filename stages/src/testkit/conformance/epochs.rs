//! Checks of the epochs of owners.
#![allow(missing_docs, reason = "each check is told by its name")]

use super::Subject;
use super::states::{id, keep, save, under, version};
use crate::ports::StoreError;

pub async fn an_older_owner_replaces_nothing(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let under = |epoch, version| under(epoch, save(&actor, version, true));
    let first = store.claim_epoch().await.expect("claims");
    keep(&store, vec![under(first, 1)]).await;
    let second = store.claim_epoch().await.expect("claims");
    keep(&store, vec![under(second, 2)]).await;
    let answers = store.save_all(vec![under(first, 3)]).await;
    assert!(
        matches!(answers[..], [Err(StoreError::Fenced(owner))] if owner == second),
        "{answers:?}"
    );
    assert_eq!(store.load(&actor).await.expect("loads"), under(second, 2).head);
    keep(&store, vec![under(second, 3)]).await;
    assert_eq!(version(&store, &actor).await, Some(3));
}

pub async fn every_epoch_is_higher_than_the_ones_before(subject: impl Subject) {
    let first = subject.states().claim_epoch().await.expect("claims");
    let second = subject.states().claim_epoch().await.expect("claims");
    assert!(0 < first && first < second);
    let third = subject.reopen().await.states().claim_epoch().await.expect("claims");
    assert!(second < third);
}

pub async fn an_epoch_is_claimed_above_those_of_other_data(subject: impl Subject) {
    let first = subject.states().claim_epoch_above(50).await.expect("claims");
    assert_eq!(first, 51);
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let answers = store.save_all(vec![under(50, save(&actor, 1, true))]).await;
    assert!(
        matches!(answers[..], [Err(StoreError::Fenced(owner))] if owner == first),
        "{answers:?}"
    );
    keep(&store, vec![under(first, save(&actor, 1, true))]).await;
    // Never back, whatever the data.
    let second = store.claim_epoch_above(7).await.expect("claims");
    assert_eq!(second, 52);
    drop(store);
    assert!(subject.reopen().await.states().claim_epoch().await.expect("claims") > second);
}
