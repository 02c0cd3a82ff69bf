//! Checks of the table of schedules.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::Subject;
use crate::ports::StateStore;
use crate::schedules::{ScheduleKey, ScheduleRow};

fn key(system: &str, name: &str) -> ScheduleKey {
    ScheduleKey { system: system.into(), name: name.into() }
}

/// A schedule as a store sees it.
pub fn row(system: &str, name: &str) -> ScheduleRow {
    let record = Bytes::from(format!("schedule {system} {name}"));
    ScheduleRow { key: key(system, name), runs: 7, record }
}

async fn put(store: &Arc<dyn StateStore>, row: ScheduleRow) {
    store.put_schedule(row).await.expect("a healthy store writes");
}

async fn one(store: &Arc<dyn StateStore>, key: &ScheduleKey) -> Option<ScheduleRow> {
    store.schedule(key).await.expect("a healthy store reads")
}

/// All schedules after one, read in pages of at most `limit`.
pub async fn all(
    store: &Arc<dyn StateStore>,
    after: Option<ScheduleKey>,
    limit: usize,
) -> Vec<ScheduleRow> {
    let (mut all, mut after): (Vec<ScheduleRow>, _) = (Vec::new(), after);
    loop {
        let page = store.schedules(after.as_ref(), limit).await.expect("a healthy store reads");
        assert!(page.items.len() <= limit && (!page.more || !page.items.is_empty()));
        after = page.items.last().map(|row| row.key.clone()).or(after);
        all.extend(page.items);
        if !page.more {
            return all;
        }
    }
}

pub async fn a_schedule_is_read_back_whole_and_replaced(subject: impl Subject) {
    let store = subject.states();
    let joe = key("s", "joe");
    assert_eq!((one(&store, &joe).await, all(&store, None, 10).await), (None, vec![]));
    put(&store, row("s", "joe")).await;
    assert_eq!(one(&store, &joe).await, Some(row("s", "joe")));
    // Rewritten often, the last one counts.
    for runs in 1..50 {
        let record = Bytes::from(vec![7; usize::try_from(runs).unwrap_or(0) * 100]);
        let again = ScheduleRow { runs, record, ..row("s", "joe") };
        put(&store, again.clone()).await;
        assert_eq!(one(&store, &joe).await, Some(again));
    }
    store.remove_schedule(&joe).await.expect("a healthy store removes");
    store.remove_schedule(&joe).await.expect("what is gone is no error");
    assert_eq!(one(&store, &joe).await, None);
    put(&store, row("s", "joe")).await;
    assert_eq!(one(&store, &joe).await, Some(row("s", "joe")), "again under its name");
}

pub async fn names_of_schedules_never_mix(subject: impl Subject) {
    let store = subject.states();
    let rows = [
        row("a", "b:c"),
        row("a:b", "c"),
        row("ab", "c"),
        row("a", "bc"),
        row("s", "test"),
        row("s", "test-1"),
        row("s", "a|b@c d\u{202e}ü\u{1f980}"),
        row("s|s", "e\u{301}"),
        row("s|s", "é"),
    ];
    for row in rows.clone() {
        put(&store, row).await;
    }
    for row in &rows {
        assert_eq!(one(&store, &row.key).await.as_ref(), Some(row));
    }
    store.remove_schedule(&key("s", "test")).await.expect("a healthy store removes");
    assert_eq!(one(&store, &key("s", "test-1")).await, Some(row("s", "test-1")));
    assert_eq!(all(&store, None, 3).await.len(), rows.len() - 1);
}

pub async fn schedules_are_listed_page_by_page(subject: impl Subject) {
    let store = subject.states();
    let mut rows = Vec::new();
    for number in 0..60 {
        rows.push(row(["a", "bb", "c"][number % 3], &format!("n{number}")));
    }
    for row in &rows {
        put(&store, row.clone()).await;
    }
    let names =
        |rows: &[ScheduleRow]| rows.iter().map(|row| row.key.clone()).collect::<BTreeSet<_>>();
    for limit in [1, 7, 100] {
        let found = all(&store, None, limit).await;
        assert_eq!((found.len(), names(&found)), (rows.len(), names(&rows)), "pages of {limit}");
    }
    // Those of a system, from an empty name on.
    for system in ["a", "bb", "c"] {
        let found = all(&store, Some(key(system, "")), 7).await;
        let own = found.iter().take_while(|row| row.key.system == system).count();
        assert_eq!(own, 20, "{system}");
    }
}

pub async fn schedules_are_there_after_reopening(subject: impl Subject) {
    put(&subject.states(), row("s", "joe")).await;
    let reopened = subject.reopen().await;
    assert_eq!(all(&reopened.states(), None, 10).await, [row("s", "joe")]);
}
