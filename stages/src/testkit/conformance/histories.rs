//! Checks of revisions, by number and by time.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::sync::Arc;

use futures_util::TryStreamExt;

use super::Subject;
use super::states::{head, id, keep, save};
use crate::actor::ActorId;
use crate::history::{Interval, Keep, Position};
use crate::history_stream;
use crate::ports::{Save, StateStore};
use crate::state::{Any, Head, Revision, Timestamp};

/// The largest number and time that a store must accept.
const MAX: u64 = i64::MAX as u64;

async fn found(
    store: &Arc<dyn StateStore>,
    actor: &ActorId,
    (from, to): (u64, u64),
    limit: usize,
) -> Vec<u64> {
    let interval = Interval::between(Timestamp(from), Timestamp(to));
    let found = store.load_by_interval(actor, interval, limit).await;
    numbers(&found.expect("a healthy store loads").items)
}

/// Returns the numbers of a whole history, across all pages.
async fn all(store: &Arc<dyn StateStore>, actor: &ActorId) -> Vec<u64> {
    let pages = history_stream::stream(store.clone(), Arc::new(actor.clone()), Interval::ALL);
    let pages: Vec<_> = pages.try_collect().await.expect("a healthy store loads");
    pages.iter().flat_map(|page| numbers(page)).collect()
}

fn numbers(revisions: &[Revision]) -> Vec<u64> {
    revisions.iter().map(|entry| entry.revision).collect()
}

async fn append(
    store: &Arc<dyn StateStore>,
    actor: &Arc<ActorId>,
    versions: impl Iterator<Item = u64>,
) {
    let revisions = versions.map(|version| head(actor, version).as_revision());
    store.append(actor.clone(), revisions.collect()).await.expect("a healthy store appends");
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
    let mut first = head(&actor, 1);
    first.content.tags.insert("k".into(), "v".into());
    keep(&store, vec![Save::of_head(actor.clone(), first.clone(), true)]).await;
    keep(&store, vec![save(&actor, 2, true)]).await;
    let revision = store.load_revision(&actor, 1).await.expect("loads");
    assert_eq!(revision, Some(first.as_revision()));
    let until = Interval { to: Some(first.at), ..Interval::ALL };
    let found = store.load_by_interval(&actor, until, 9).await;
    assert_eq!(found.expect("loads").items, [first.as_revision()]);
}

pub async fn appending_a_revision_again_replaces_it(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, true), save(&actor, 2, true)]).await;
    let again = Head { epoch: 2, ..head(&actor, 2) };
    keep(&store, vec![Save::of_head(actor.clone(), again.clone(), true)]).await;
    let revision = store.load_revision(&actor, 2).await.expect("loads");
    assert_eq!(revision, Some(again.as_revision()));
    assert_eq!(found(&store, &actor, (0, u64::MAX), 9).await, [1, 2]);
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
    for version in [3, 4, 900, 901, 1_000_000_000, MAX / 1_000] {
        keep(&store, vec![save(&actor, version, true)]).await;
    }
    assert_eq!(found(&store, &actor, (4_000, 901_000), 9).await, [4, 900, 901]);
    assert_eq!(found(&store, &actor, (901_001, MAX - 1_000), 1).await, [1_000_000_000]);
    assert_eq!(found(&store, &actor, (0, 3_000), 9).await, [3]);
}

pub async fn pages_of_an_interval_follow_each_other(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    append(&store, &actor, 1..=10).await;
    let mut interval = Interval::between(Timestamp(2_000), Timestamp(9_000));
    let mut pages = Vec::new();
    loop {
        let page = store.load_by_interval(&actor, interval, 3).await.expect("loads");
        pages.push(numbers(&page.items));
        match page.items.last() {
            Some(last) if page.more => interval.after = Some(Position::of(last)),
            _ => break,
        }
        assert!(pages.len() < 9, "an end: {pages:?}");
    }
    assert_eq!(pages.concat(), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(pages.iter().all(|page| page.len() <= 3), "{pages:?}");
}

pub async fn a_stream_brings_all_of_it(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    assert_eq!(all(&store, &actor).await, [0; 0]);
    // Large states, so that the bound in bytes limits the page too.
    let state = |version: u64| {
        let mut revision = head(&actor, version).as_revision();
        let value = vec![u8::try_from(version % 251).expect("a byte"); 400_000];
        revision.content.state = Some(Any { type_url: "t".into(), value: value.into() });
        revision
    };
    for first in (1..=60).step_by(10) {
        let revisions = (first..first + 10).map(state).collect();
        store.append(actor.clone(), revisions).await.expect("appends");
    }
    assert_eq!(all(&store, &actor).await, (1..=60).collect::<Vec<_>>());
    let page = store.load_by_interval(&actor, Interval::ALL, 60).await.expect("loads");
    let bytes: usize = page.items.iter().map(|entry| entry.content.bytes()).sum();
    assert!(page.more && bytes < 16 << 20, "{bytes} bytes in one page");
    assert_eq!(page.items[41 % page.items.len()], state(1 + 41 % page.items.len() as u64));
}

pub async fn the_newest_at_a_time_is_found(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let at = async |time: u64| {
        let found = store.load_at(&actor, Timestamp(time)).await.expect("loads");
        found.map(|entry| entry.revision)
    };
    assert_eq!(at(u64::MAX).await, None, "no history");
    append(&store, &actor, (1..=3_000).filter(|version| version % 3 == 0)).await;
    for (time, expected) in [
        (0, None),
        (2_999, None),
        (3_000, Some(3)),
        (3_001, Some(3)),
        (5_999, Some(3)),
        (6_000, Some(6)),
        (1_500_000, Some(1_500)),
        (2_999_999, Some(2_997)),
        (3_000_000, Some(3_000)),
        (u64::MAX, Some(3_000)),
    ] {
        assert_eq!(at(time).await, expected, "{time}");
    }
}

pub async fn histories_are_appended_without_a_head(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    store.append(actor.clone(), Vec::new()).await.expect("nothing to do");
    append(&store, &actor, 1..=5).await;
    append(&store, &actor, 4..=7).await;
    assert_eq!(store.load(&actor).await.expect("loads"), None);
    assert_eq!(all(&store, &actor).await, [1, 2, 3, 4, 5, 6, 7]);
    keep(&store, vec![save(&actor, 8, true)]).await;
    assert_eq!(all(&store, &actor).await, [1, 2, 3, 4, 5, 6, 7, 8]);
    let seventh = head(&actor, 7).as_revision();
    assert_eq!(store.load_revision(&actor, 7).await.expect("loads"), Some(seventh));
}

pub async fn retention_by_number_keeps_the_newest(subject: impl Subject) {
    let (store, actor, other) = (subject.states(), id("s", "a", ""), id("s", "b", ""));
    let keep_newest = |newest| Keep { newest: Some(newest), since: None };
    assert_eq!(store.prune(&actor, keep_newest(1)).await.expect("prunes"), 0, "no history");
    append(&store, &actor, (1..=2_000).filter(|version| version % 2 == 0)).await;
    append(&store, &other, 1..=5).await;
    assert_eq!(store.prune(&actor, Keep::default()).await.expect("prunes"), 0);
    assert_eq!(store.prune(&actor, keep_newest(1_000)).await.expect("prunes"), 0);
    assert_eq!(store.prune(&actor, keep_newest(10)).await.expect("prunes"), 990);
    let left: Vec<u64> = (1_982..=2_000).step_by(2).collect();
    assert_eq!(all(&store, &actor).await, left);
    assert_eq!(store.load_revision(&actor, 1_980).await.expect("loads"), None);
    assert_eq!(store.prune(&actor, keep_newest(0)).await.expect("prunes"), 9);
    assert_eq!(all(&store, &actor).await, [2_000]);
    assert_eq!(all(&store, &other).await, [1, 2, 3, 4, 5]);
    append(&store, &actor, 2_001..=2_002).await;
    assert_eq!(all(&store, &actor).await, [2_000, 2_001, 2_002]);
}

pub async fn retention_by_age_keeps_the_newest(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let since = |time| Keep { newest: None, since: Some(Timestamp(time)) };
    append(&store, &actor, 1..=1_500).await;
    assert_eq!(store.prune(&actor, since(0)).await.expect("prunes"), 0);
    assert_eq!(store.prune(&actor, since(1_490_000)).await.expect("prunes"), 1_489);
    let both = Keep { newest: Some(9), since: Some(Timestamp(1_493_001)) };
    assert_eq!(store.prune(&actor, both).await.expect("prunes"), 4);
    assert_eq!(all(&store, &actor).await, [1_494, 1_495, 1_496, 1_497, 1_498, 1_499, 1_500]);
    assert_eq!(store.prune(&actor, since(MAX)).await.expect("prunes"), 6);
    assert_eq!(all(&store, &actor).await, [1_500]);
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
