//! Checks of the table of due work.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Subject;
use crate::due::{DueEntry, DueKey};
use crate::outbox::{EffectSource, SourceKind};
use crate::ports::StateStore;
use crate::state::Timestamp;

/// 2100-01-01, in microseconds: later than any test.
const LATER_US: u64 = 4_102_444_800_000_000;
const MINUTE_US: u64 = 60_000_000;

/// An entry that is due so many microseconds after `LATER_US`.
pub fn entry(after_us: u64, name: &str) -> DueEntry {
    let source = EffectSource { kind: SourceKind::Due, system: "s".into(), name: name.into() };
    let key = DueKey { at: Timestamp(LATER_US + after_us), source: source.into() };
    DueEntry { key, record: Bytes::from(format!("call {name}")) }
}

async fn put(store: &Arc<dyn StateStore>, entries: Vec<DueEntry>) {
    store.put_due(entries).await.expect("a healthy store writes");
}

/// All entries, read in pages of at most `limit`, each of which has one at least.
pub async fn all(store: &Arc<dyn StateStore>, limit: usize) -> Vec<DueEntry> {
    let mut all: Vec<DueEntry> = Vec::new();
    loop {
        let after = all.last().map(|entry| entry.key.clone());
        let page = store.due(after.as_ref(), limit).await.expect("a healthy store reads");
        assert!(page.items.len() <= limit && (!page.more || !page.items.is_empty()));
        all.extend(page.items);
        if !page.more {
            return all;
        }
    }
}

pub async fn due_work_is_read_in_the_order_of_its_times(subject: impl Subject) {
    let store = subject.states();
    assert_eq!(all(&store, 10).await, []);
    // Within a minute, over minutes, and over days.
    let after = [0, 1, 59, MINUTE_US, 2 * MINUTE_US + 7, 3_000 * MINUTE_US, 500_000 * MINUTE_US];
    let entries: Vec<_> = after.iter().map(|after| entry(*after, "joe")).collect();
    let mut shuffled = entries.clone();
    shuffled.reverse();
    shuffled.swap(1, 4);
    put(&store, shuffled).await;
    for limit in [1, 2, 100] {
        assert_eq!(all(&store, limit).await, entries, "in pages of {limit}");
    }
}

pub async fn due_work_of_one_time_is_all_there_page_by_page(subject: impl Subject) {
    let store = subject.states();
    let of_two = (0..150).map(|number| entry(number / 75, &format!("n{number}")));
    let entries: Vec<_> = of_two.collect();
    put(&store, entries.clone()).await;
    for limit in [1, 7, 100, 1_000] {
        let found = all(&store, limit).await;
        assert!(found.is_sorted_by_key(|entry| entry.key.at));
        let set = |all: &[DueEntry]| all.iter().map(|e| e.key.clone()).collect::<BTreeSet<_>>();
        assert_eq!((found.len(), set(&found)), (entries.len(), set(&entries)));
    }
}

pub async fn due_work_with_the_same_key_is_one_entry(subject: impl Subject) {
    let store = subject.states();
    let again = DueEntry { record: Bytes::from_static(b"again"), ..entry(1, "joe") };
    put(&store, vec![entry(1, "joe"), entry(1, "moe")]).await;
    put(&store, vec![again.clone()]).await;
    let found = all(&store, 10).await;
    assert_eq!(found.len(), 2);
    assert!(found.contains(&again) && found.contains(&entry(1, "moe")));
}

pub async fn removed_due_work_is_gone(subject: impl Subject) {
    let store = subject.states();
    let entries: Vec<_> = (0..40).map(|number| entry(number, &format!("n{number}"))).collect();
    put(&store, entries.clone()).await;
    let keys = |range: std::ops::Range<usize>| {
        entries[range].iter().map(|entry| entry.key.clone()).collect::<Vec<_>>()
    };
    store.remove_due(keys(0..30)).await.expect("a healthy store removes");
    store.remove_due(keys(20..31)).await.expect("what is gone is no error");
    store.remove_due(Vec::new()).await.expect("nothing to remove is no error");
    assert_eq!(all(&store, 100).await, entries[31..]);
}

pub async fn names_of_due_work_never_mix(subject: impl Subject) {
    let store = subject.states();
    let of = |kind, system: &str, name: &str| {
        let source = EffectSource { kind, system: system.into(), name: name.into() };
        let key = DueKey { source: source.into(), ..entry(5, "").key };
        DueEntry { key, ..entry(5, name) }
    };
    let entries = [
        of(SourceKind::Due, "a", "b:c"),
        of(SourceKind::Due, "a:b", "c"),
        of(SourceKind::Schedule, "a", "b:c"),
        of(SourceKind::Due, "1:a", "|@ ü\u{202e}"),
        of(SourceKind::Due, "1", "a|@ ü\u{202e}"),
        of(SourceKind::Due, "test", ""),
        of(SourceKind::Due, "test-1", ""),
    ];
    put(&store, entries.to_vec()).await;
    let found = all(&store, 3).await;
    assert_eq!(found.len(), entries.len());
    assert!(entries.iter().all(|entry| found.contains(entry)), "{found:?}");
    store.remove_due(vec![entries[5].key.clone()]).await.expect("a healthy store removes");
    assert!(all(&store, 9).await.contains(&entries[6]));
}

pub async fn large_due_work_comes_in_pages(subject: impl Subject) {
    let store = subject.states();
    let record = Bytes::from(vec![7; 1 << 20]);
    for number in 0..9 {
        let large = DueEntry { record: record.clone(), ..entry(number, "joe") };
        put(&store, vec![large]).await;
    }
    let page = store.due(None, 100).await.expect("a healthy store reads");
    assert!(page.more && page.items.len() < 9, "{} of 9 MiB at once", page.items.len());
    assert_eq!(all(&store, 100).await.len(), 9);
}

pub async fn due_work_is_there_after_reopening(subject: impl Subject) {
    put(&subject.states(), vec![entry(1, "joe"), entry(2, "moe")]).await;
    let reopened = subject.reopen().await;
    assert_eq!(all(&reopened.states(), 10).await, [entry(1, "joe"), entry(2, "moe")]);
}
