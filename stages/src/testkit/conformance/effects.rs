//! Checks of rows of effects, of taking over, and of outcomes as they come.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;

use super::Subject;
use super::states::{head, id, keep, save, under};
use crate::actor::ActorId;
use crate::history::{Interval, PAGE_BYTES, Page};
use crate::outbox::{EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, Seen, SourceKind};
use crate::ports::{Save, StateStore, StoreError};
use crate::state::Head;

/// A row of the epoch 1.
pub fn row(place: u64) -> OutboxRow {
    let id = EffectId { epoch: 1, activation: 2, number: place };
    let record = Bytes::from(format!("effect {place}"));
    OutboxRow { key: OutboxKey { epoch: 1, place }, id, record }
}

/// The rows of a commit that appends effects.
pub fn appends(places: impl IntoIterator<Item = u64>) -> EffectRows {
    EffectRows { appends: places.into_iter().map(row).collect(), ..EffectRows::default() }
}

/// The rows of a commit that removes effects.
pub fn acknowledged(places: impl IntoIterator<Item = u64>) -> EffectRows {
    let keys = places.into_iter().map(|place| row(place).key);
    EffectRows { acknowledged: keys.collect(), ..EffectRows::default() }
}

/// An effect of an actor that was seen.
pub fn seen(name: &str, number: u64) -> Seen {
    let kind = SourceKind::Actor;
    let source = EffectSource { kind, system: "s".into(), name: name.into() };
    Seen { source: source.into(), id: EffectId { epoch: 1, activation: 1, number } }
}

fn saw(all: impl IntoIterator<Item = Seen>) -> EffectRows {
    EffectRows { seen: all.into_iter().collect(), ..EffectRows::default() }
}

fn alone(actor: &Arc<ActorId>, rows: EffectRows) -> Save {
    Save::of_rows(actor.clone(), 1, rows)
}

fn with(save: Save, rows: EffectRows) -> Save {
    Save { rows: Some(rows.into()), ..save }
}

async fn outbox(store: &Arc<dyn StateStore>, actor: &ActorId) -> Vec<OutboxRow> {
    let page = store.outbox(actor, None, 999).await.expect("a healthy store reads");
    assert!(!page.more);
    page.items
}

async fn places(store: &Arc<dyn StateStore>, actor: &ActorId) -> Vec<u64> {
    outbox(store, actor).await.iter().map(|row| row.key.place).collect()
}

async fn seen_by(store: &Arc<dyn StateStore>, actor: &ActorId) -> Vec<Seen> {
    store.seen(actor).await.expect("a healthy store reads")
}

async fn pending(store: &Arc<dyn StateStore>) -> Vec<Arc<ActorId>> {
    let mut all = store.pending(None, 999).await.expect("a healthy store reads").items;
    all.sort();
    all
}

pub async fn an_actor_without_effects_has_no_rows(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, true), alone(&actor, EffectRows::default())]).await;
    assert_eq!(store.outbox(&actor, None, 9).await.expect("reads"), Page::EMPTY);
    assert!(seen_by(&store, &actor).await.is_empty());
    assert_eq!(store.pending(None, 9).await.expect("reads"), Page::EMPTY);
}

pub async fn rows_are_written_with_their_head(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", "p"));
    let rows = EffectRows { seen: vec![seen("b", 7)], ..appends([0, 1]) };
    keep(&store, vec![with(save(&actor, 1, true), rows)]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), Some(head(&actor, 1)));
    assert!(store.load_revision(&actor, 1).await.expect("loads").is_some());
    assert_eq!(outbox(&store, &actor).await, [row(0), row(1)]);
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 7)]);
    keep(&store, vec![save(&actor, 2, false)]).await;
    assert_eq!(outbox(&store, &actor).await, [row(0), row(1)], "a head leaves the rows");
}

pub async fn rows_are_written_without_a_head(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let rows = EffectRows { seen: vec![seen("b", 7)], ..appends([0]) };
    keep(&store, vec![alone(&actor, rows)]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), None);
    assert_eq!(store.actors("s", None, 9).await.expect("lists"), Page::EMPTY);
    assert_eq!(outbox(&store, &actor).await, [row(0)]);
    keep(&store, vec![save(&actor, 1, true), alone(&actor, appends([1]))]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), Some(head(&actor, 1)));
    assert_eq!(places(&store, &actor).await, [0, 1]);
}

pub async fn a_refused_save_leaves_no_rows(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let first = store.claim_epoch().await.expect("claims");
    let second = store.claim_epoch().await.expect("claims");
    let rows = EffectRows { seen: vec![seen("b", 7)], ..appends([0]) };
    let late = [
        under(first, with(save(&actor, 1, true), rows.clone())),
        under(first, alone(&actor, rows)),
    ];
    for outcome in store.save_all(late.to_vec()).await {
        assert!(matches!(outcome, Err(StoreError::Fenced(owner)) if owner == second));
    }
    assert!(outbox(&store, &actor).await.is_empty() && seen_by(&store, &actor).await.is_empty());
    assert!(pending(&store).await.is_empty());
}

pub async fn an_acknowledged_row_is_gone(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![alone(&actor, appends(0..5))]).await;
    keep(&store, vec![with(save(&actor, 1, false), acknowledged([0, 3]))]).await;
    assert_eq!(places(&store, &actor).await, [1, 2, 4]);
    let at_once = EffectRows { appends: vec![row(5), row(6)], ..acknowledged([5]) };
    keep(&store, vec![alone(&actor, at_once)]).await;
    assert_eq!(places(&store, &actor).await, [1, 2, 4, 6]);
    // A row that is gone, and one that never existed.
    keep(&store, vec![alone(&actor, acknowledged([0, 99])), alone(&actor, acknowledged([1]))])
        .await;
    assert_eq!(places(&store, &actor).await, [2, 4, 6]);
}

pub async fn rows_written_twice_are_there_once(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let rows = EffectRows { appends: vec![row(1), row(2)], ..acknowledged([0]) };
    let again = with(save(&actor, 2, true), EffectRows { seen: vec![seen("b", 1)], ..rows });
    keep(&store, vec![alone(&actor, appends([0]))]).await;
    for _ in 0..2 {
        keep(&store, vec![again.clone()]).await;
        assert_eq!(outbox(&store, &actor).await, [row(1), row(2)]);
        assert_eq!(seen_by(&store, &actor).await, [seen("b", 1)]);
    }
}

pub async fn a_forgotten_source_is_seen_no_more_and_may_come_back(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let first = store.claim_epoch().await.expect("claims");
    let [b, c] = ["b", "c"].map(|name| seen(name, 1));
    let forgets = |all: &[&Seen]| EffectRows {
        forgotten: all.iter().map(|seen| seen.source.clone()).collect(),
        ..EffectRows::default()
    };
    let saves = |epoch, saves: Vec<Save>| {
        keep(&store, saves.into_iter().map(|save| under(epoch, save)).collect())
    };
    saves(first, vec![with(save(&actor, 1, true), saw([b.clone(), c.clone()]))]).await;
    saves(first, vec![with(save(&actor, 2, false), forgets(&[&b, &seen("nobody", 1)]))]).await;
    assert_eq!(seen_by(&store, &actor).await, std::slice::from_ref(&c));
    let again = EffectRows { seen: vec![seen("b", 9)], ..forgets(&[&c]) };
    saves(first, vec![alone(&actor, again)]).await;
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 9)]);
    // A later owner forgets what it has taken over.
    let second = store.claim_epoch().await.expect("claims");
    store.take_over(actor.clone(), second).await.expect("takes over");
    saves(second, vec![alone(&actor, forgets(&[&b]))]).await;
    assert!(seen_by(&store, &actor).await.is_empty());
    assert_eq!(store.take_over(actor.clone(), second).await.expect("again").seen, []);
}

pub async fn of_the_seen_effects_of_a_source_the_newest_counts(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![alone(&actor, saw([seen("b", 2), seen("b", 3), seen("b", 1)]))]).await;
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 3)]);
    let next = saw([seen("b", 4), seen("c", 9)]);
    keep(&store, vec![with(save(&actor, 1, false), next), save(&actor, 2, false)]).await;
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 4), seen("c", 9)]);
    // The same name as another kind is another source.
    let source = EffectSource { kind: SourceKind::Topic, ..(*seen("b", 1).source).clone() };
    let topic = Seen { source: source.into(), ..seen("b", 8) };
    keep(&store, vec![alone(&actor, saw([topic.clone()]))]).await;
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 4), seen("c", 9), topic]);
}

pub async fn pages_of_an_outbox_follow_each_other(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    // Rows of three owners, written in another order than they leave.
    let keys = [(2, 0), (1, 9), (3, 0), (1, 300), (1, 1), (2, 1)];
    let rows =
        keys.map(|(epoch, place)| OutboxRow { key: OutboxKey { epoch, place }, ..row(place) });
    for row in rows {
        let rows = EffectRows { appends: vec![row], ..EffectRows::default() };
        keep(&store, vec![alone(&actor, rows)]).await;
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.outbox(&actor, after, 4).await.expect("reads");
        assert!(page.items.len() <= 4);
        after = page.items.last().map(|row| row.key);
        found.extend(page.items.iter().map(|row| (row.key.epoch, row.key.place)));
        if !page.more {
            break;
        }
        assert!(found.len() < 99, "an end");
    }
    assert_eq!(found, [(1, 1), (1, 9), (1, 300), (2, 0), (2, 1), (3, 0)]);
    // Large rows end a page too.
    let large = |place| OutboxRow { record: vec![0; PAGE_BYTES / 4].into(), ..row(place) };
    for place in 0..8 {
        let rows = EffectRows { appends: vec![large(place)], ..EffectRows::default() };
        keep(&store, vec![alone(&id("s", "large", ""), rows)]).await;
    }
    let page = store.outbox(&id("s", "large", ""), None, 99).await.expect("reads");
    assert!(page.more && page.items.len() < 8, "{}", page.items.len());
}

pub async fn actors_with_undelivered_effects_are_found(subject: impl Subject) {
    let store = subject.states();
    let names = [("s", "a", ""), ("s", "a", "p"), ("s", "ab", ""), ("t", "a", ""), ("ü", "z", "p")];
    let actors = names.map(|(system, name, parent)| id(system, name, parent));
    for actor in &actors {
        keep(&store, vec![with(save(actor, 1, false), appends(0..3))]).await;
    }
    for number in 0..20 {
        keep(&store, vec![save(&id("s", &format!("idle-{number}"), ""), 1, false)]).await;
    }
    let (mut found, mut after) = (Vec::<Arc<ActorId>>::new(), None);
    loop {
        let page = store.pending(after.as_deref(), 2).await.expect("reads");
        assert!(page.items.len() <= 2);
        found.extend(page.items);
        after = found.last().cloned();
        if !page.more {
            break;
        }
        assert!(found.len() < 99, "an end");
    }
    found.sort();
    let mut expected = actors.to_vec();
    expected.sort();
    assert_eq!(found, expected);
    keep(&store, vec![alone(&actors[1], acknowledged(0..3))]).await;
    keep(&store, vec![alone(&actors[2], acknowledged(0..2))]).await;
    expected.retain(|actor| *actor != actors[1]);
    // A store may remove an actor from the list later than its last row.
    let mut left = pending(&store).await;
    let mut has_rows = Vec::new();
    for actor in left.drain(..) {
        if !outbox(&store, &actor).await.is_empty() {
            has_rows.push(actor);
        }
    }
    assert_eq!(has_rows, expected);
    keep(&store, vec![alone(&actors[1], appends([9]))]).await;
    assert!(pending(&store).await.contains(&actors[1]), "it appends again");
}

pub async fn a_new_owner_takes_over_an_actor(subject: impl Subject) {
    let (store, actor, rowless) = (subject.states(), id("s", "a", ""), id("s", "b", ""));
    let first = store.claim_epoch().await.expect("claims");
    let rows = EffectRows { seen: vec![seen("c", 5)], ..appends([0, 1]) };
    keep(&store, vec![under(first, with(save(&actor, 1, true), rows))]).await;
    let second = store.claim_epoch().await.expect("claims");
    let taken = store.take_over(actor.clone(), second).await.expect("takes over");
    let moved = Head { epoch: second, ..head(&actor, 1) };
    assert_eq!((taken.head, taken.seen), (Some(moved.clone()), vec![seen("c", 5)]));
    // A late write of the former owner changes nothing.
    let rows = EffectRows { seen: vec![seen("c", 6)], ..appends([2]) };
    let late = under(first, with(save(&actor, 2, true), EffectRows { ..rows }));
    assert!(matches!(store.save_all(vec![late]).await[..], [Err(StoreError::Fenced(_))]));
    assert!(matches!(store.take_over(actor.clone(), first).await, Err(StoreError::Fenced(_))));
    assert_eq!(store.load(&actor).await.expect("loads"), Some(moved.clone()));
    assert_eq!(places(&store, &actor).await, [0, 1], "rows stay until they are acknowledged");
    assert_eq!(seen_by(&store, &actor).await, [seen("c", 5)]);
    let again = store.take_over(actor.clone(), second).await.expect("takes over again");
    assert_eq!(again.head, Some(moved));
    keep(&store, vec![under(second, with(save(&actor, 2, true), acknowledged([0])))]).await;
    assert_eq!(places(&store, &actor).await, [1]);
    let none = store.take_over(rowless, second).await.expect("takes over what is not there");
    assert_eq!((none.head, none.seen), (None, Vec::new()));
}

pub async fn deleting_leaves_outbox_and_seen(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let rows = EffectRows { seen: vec![seen("b", 7)], ..appends([0]) };
    keep(&store, vec![with(save(&actor, 1, true), rows)]).await;
    store.delete(&actor).await.expect("deletes");
    assert_eq!(store.load(&actor).await.expect("loads"), None);
    assert_eq!(outbox(&store, &actor).await, [row(0)]);
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 7)]);
    assert_eq!(pending(&store).await, std::slice::from_ref(&actor));
    keep(&store, vec![save(&actor, 1, true)]).await;
    assert_eq!(outbox(&store, &actor).await, [row(0)]);
}

pub async fn deleting_takes_every_parent_of_the_name(subject: impl Subject) {
    let store = subject.states();
    let named = [id("s", "a", ""), id("s", "a", "p"), id("s", "a", "q")];
    let others = [id("s", "ab", ""), id("s", "A", "p"), id("t", "a", "p"), id("sa", "", "p")];
    for actor in named.iter().chain(&others) {
        keep(&store, vec![save(actor, 1, true), save(actor, 2, true)]).await;
    }
    // A history without a head.
    store.append(id("s", "a", "r"), vec![head(&named[0], 1).as_revision()]).await.expect("appends");
    store.delete(&named[1]).await.expect("deletes");
    for actor in named.iter().chain([&id("s", "a", "r")]) {
        assert_eq!(store.load(actor).await.expect("loads"), None, "{actor:?}");
        let history = store.load_by_interval(actor, Interval::ALL, 9).await.expect("loads");
        assert_eq!(history, Page::EMPTY, "{actor:?}");
    }
    for actor in &others {
        assert_eq!(store.load(actor).await.expect("loads"), Some(head(actor, 2)), "{actor:?}");
        assert!(store.load_revision(actor, 1).await.expect("loads").is_some(), "{actor:?}");
    }
}

pub async fn rows_are_there_after_reopening(subject: impl Subject) {
    let (store, actor, done) = (subject.states(), id("s", "a", "p"), id("s", "b", ""));
    let rows = EffectRows { seen: vec![seen("b", 7)], ..appends([0, 1, 2]) };
    keep(&store, vec![alone(&actor, rows), alone(&done, appends([0]))]).await;
    keep(&store, vec![alone(&actor, acknowledged([1])), alone(&done, acknowledged([0]))]).await;
    drop(store);
    let store = subject.reopen().await.states();
    assert_eq!(outbox(&store, &actor).await, [row(0), row(2)]);
    assert_eq!(seen_by(&store, &actor).await, [seen("b", 7)]);
    assert!(pending(&store).await.contains(&actor));
    assert!(outbox(&store, &done).await.is_empty());
}

pub async fn every_save_has_one_outcome_and_an_actors_come_in_order(subject: impl Subject) {
    let store = subject.states();
    let second = {
        store.claim_epoch().await.expect("claims");
        store.claim_epoch().await.expect("claims")
    };
    let actors = ["a", "b", "c"].map(|name| id("s", name, ""));
    let batch = (1..=10).flat_map(|version| {
        // One of the actors is written by a former owner.
        let of = |actor| under(second, save(actor, version, version % 3 == 0));
        [of(&actors[0]), under(second - 1, of(&actors[1])), of(&actors[2])]
    });
    let outcomes: Vec<_> = store.save(batch.collect()).collect().await;
    assert_eq!(outcomes.len(), 30);
    let mut last = HashMap::new();
    for (index, outcome) in outcomes {
        let before = last.insert(index % 3, index);
        assert!(before.is_none_or(|before| before < index), "{index} after {before:?}");
        assert_eq!(outcome.is_err(), index % 3 == 1, "{index}: {outcome:?}");
    }
    assert!(store.save(Vec::new()).next().await.is_none());
}
