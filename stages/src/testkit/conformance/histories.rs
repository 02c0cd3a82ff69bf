//! Checks of revisions, by number and by time.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::sync::Arc;

use super::Subject;
use super::states::{id, keep, save};
use crate::actor::ActorId;
use crate::ports::StateStore;
use crate::state::Timestamp;

async fn found(
    store: &Arc<dyn StateStore>,
    actor: &ActorId,
    (from, to): (u64, u64),
    limit: usize,
) -> Vec<u64> {
    let found = store.load_by_interval(actor, Timestamp(from), Timestamp(to), limit).await;
    found.expect("a healthy store loads").iter().map(|entry| entry.revision).collect()
}

pub async fn only_appended_revisions_are_history(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, false), save(&actor, 2, true)]).await;
    assert_eq!(store.load_revision(&actor, 1).await.expect("loads"), None);
    assert!(store.load_revision(&actor, 2).await.expect("loads").is_some());
    assert_eq!(store.load_revision(&actor, 3).await.expect("loads"), None);
    assert_eq!(found(&store, &actor, (0, u64::MAX), 9).await, [2]);
}

pub async fn a_revision_holds_what_its_head_held(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let mut first = save(&actor, 1, true);
    first.head.content.tags.insert("k".into(), "v".into());
    keep(&store, vec![first.clone()]).await;
    keep(&store, vec![save(&actor, 2, true)]).await;
    let revision = store.load_revision(&actor, 1).await.expect("loads");
    assert_eq!(revision, Some(first.head.as_revision()));
    let found = store.load_by_interval(&actor, Timestamp(0), first.head.at, 9).await;
    assert_eq!(found.expect("loads"), [first.head.as_revision()]);
}

pub async fn appending_a_revision_again_replaces_it(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, true), save(&actor, 2, true)]).await;
    let mut again = save(&actor, 2, true);
    again.head.at = Timestamp(2_500);
    again.head.epoch = 2;
    keep(&store, vec![again.clone()]).await;
    let revision = store.load_revision(&actor, 2).await.expect("loads");
    assert_eq!(revision, Some(again.head.as_revision()));
    assert_eq!(found(&store, &actor, (0, u64::MAX), 9).await, [1, 2]);
    assert_eq!(found(&store, &actor, (2_000, 2_000), 9).await, [0; 0]);
}

pub async fn an_interval_is_inclusive_ascending_and_limited(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    assert_eq!(found(&store, &actor, (0, u64::MAX), 9).await, [0; 0], "no history");
    for version in 1..=5 {
        keep(&store, vec![save(&actor, version, true)]).await;
    }
    let cases: [((u64, u64), usize, &[u64]); 10] = [
        ((2_000, 4_000), 9, &[2, 3, 4]),
        ((2_001, 3_999), 9, &[3]),
        ((2_001, 2_999), 9, &[]),
        ((3_000, 3_000), 9, &[3]),
        ((0, 999), 9, &[]),
        ((5_001, u64::MAX), 9, &[]),
        ((4_000, 2_000), 9, &[]),
        ((0, u64::MAX), 2, &[1, 2]),
        ((2_000, u64::MAX), 2, &[2, 3]),
        ((0, u64::MAX), 0, &[]),
    ];
    for (interval, limit, expected) in cases {
        assert_eq!(found(&store, &actor, interval, limit).await, expected, "{interval:?}");
    }
}

pub async fn an_interval_finds_its_entries_in_a_long_history(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    for start in (1..=2_000).step_by(500) {
        let batch = (start..start + 500).map(|version| save(&actor, version, true));
        keep(&store, batch.collect()).await;
    }
    assert_eq!(found(&store, &actor, (777_000, 779_000), 9).await, [777, 778, 779]);
    assert_eq!(found(&store, &actor, (1_999_500, u64::MAX), 9).await, [2_000]);
    assert_eq!(found(&store, &actor, (0, 1_999), 9).await, [1]);
}

pub async fn a_history_with_gaps_is_searched_all_the_same(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    for version in [3, 4, 900, 901, 1_000_000_000, u64::MAX / 1_000] {
        keep(&store, vec![save(&actor, version, true)]).await;
    }
    assert_eq!(found(&store, &actor, (4_000, 901_000), 9).await, [4, 900, 901]);
    assert_eq!(found(&store, &actor, (901_001, u64::MAX - 1_000), 1).await, [1_000_000_000]);
    assert_eq!(found(&store, &actor, (0, 3_000), 9).await, [3]);
}

pub async fn histories_never_mix(subject: impl Subject) {
    let store = subject.states();
    let actors = [id("s", "a", ""), id("s", "a", "b"), id("s", "ab", ""), id("sa", "b", "")];
    for (version, actor) in (1..).zip(&actors) {
        keep(&store, vec![save(actor, version, true)]).await;
    }
    for (version, actor) in (1..).zip(&actors) {
        assert_eq!(found(&store, actor, (0, u64::MAX), 9).await, [version], "{actor}");
        assert_eq!(store.load_revision(actor, version + 1).await.expect("loads"), None);
    }
}
