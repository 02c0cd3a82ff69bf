//! Checks of heads, deletion and epochs.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::Subject;
use crate::actor::ActorId;
use crate::history::{Interval, Page};
use crate::ports::{Save, StateStore, StoreError};
use crate::state::{ActorState, Any, Head, Status, Tags, Timestamp};

/// The largest number and time that a store must accept.
const MAX: u64 = i64::MAX as u64;

/// An actor's identity.
pub fn id(system: &str, name: &str, parent: &str) -> Arc<ActorId> {
    Arc::new(ActorId { name: name.into(), system: system.into(), parent: parent.into() })
}

/// A plain head; its state contains the version.
pub fn head(actor: &ActorId, version: u64) -> Head {
    let value = Bytes::from(format!("{actor}@{version}"));
    let state = Some(Any { type_url: "type.googleapis.com/t".into(), value });
    Head {
        version,
        revision: version,
        incarnation: 1,
        epoch: 1,
        at: Timestamp(1_000 * version),
        content: ActorState { tags: Tags::new(), state },
        ..Head::default()
    }
}

/// A save of a plain head.
pub fn save(actor: &Arc<ActorId>, version: u64, append: bool) -> Save {
    Save::of_head(actor.clone(), head(actor, version), append)
}

/// The content of a save's head.
///
/// # Panics
/// When it has none.
pub fn content_mut(save: &mut Save) -> &mut ActorState {
    &mut save.head.as_mut().expect("a head").content
}

/// The same save under another epoch.
pub fn under(epoch: u64, save: Save) -> Save {
    Save { epoch, head: save.head.map(|head| Head { epoch, ..head }), ..save }
}

/// Saves one batch and expects every entry to be acknowledged.
pub async fn keep(store: &Arc<dyn StateStore>, batch: Vec<Save>) {
    let count = batch.len();
    let answers = store.save_all(batch).await;
    assert_eq!(answers.len(), count, "one answer per save");
    for answer in answers {
        answer.expect("a save on a healthy store is acknowledged");
    }
}

pub(super) async fn version(store: &Arc<dyn StateStore>, actor: &ActorId) -> Option<u64> {
    store.load(actor).await.expect("a healthy store loads").map(|head| head.version)
}

pub async fn an_unknown_actor_has_no_head(subject: impl Subject) {
    assert_eq!(subject.states().load(&id("s", "nobody", "")).await.expect("loads"), None);
}

pub async fn a_head_is_read_back_whole(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("Zürich", "joe 7/8", "parent"));
    let head = Head {
        version: MAX,
        revision: MAX - 1,
        incarnation: 3,
        epoch: 4,
        status: Status::Deactivated,
        at: Timestamp(MAX - 2),
        content: ActorState {
            tags: Tags::from([("k".into(), "v".into()), (String::new(), String::new())]),
            state: Some(Any { type_url: "t/x".into(), value: Bytes::from_static(&[0, 255]) }),
        },
    };
    keep(&store, vec![Save::of_head(actor.clone(), head.clone(), false)]).await;
    assert_eq!(store.load(&actor).await.expect("loads"), Some(head.clone()));
    let unknown = Head { status: Status::Unknown, ..head };
    let saves = vec![Save::of_head(actor.clone(), unknown.clone(), false)];
    keep(&store, saves).await;
    assert_eq!(store.load(&actor).await.expect("loads"), Some(unknown));
}

pub async fn no_state_and_an_empty_state_differ(subject: impl Subject) {
    let store = subject.states();
    for (name, state) in [
        ("none", None),
        ("empty", Some(Any::default())),
        ("typed", Some(Any { type_url: "t/x".into(), value: Bytes::new() })),
    ] {
        let actor = id("s", name, "");
        let content = ActorState { tags: Tags::new(), state };
        let head = Head { version: 1, content, ..Head::default() };
        let saves = vec![Save::of_head(actor.clone(), head.clone(), true)];
        keep(&store, saves).await;
        assert_eq!(store.load(&actor).await.expect("loads"), Some(head));
    }
}

pub async fn a_later_save_replaces_the_head(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    keep(&store, vec![save(&actor, 1, false)]).await;
    keep(&store, vec![save(&actor, 2, false)]).await;
    let head = store.load(&actor).await.expect("loads");
    assert_eq!(head, save(&actor, 2, false).head);
}

pub async fn saves_of_one_actor_apply_in_the_order_of_their_calls(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let calls = (1..=200).map(|version| store.save_all(vec![save(&actor, version, true)]));
    let mut calls: Vec<_> = calls.collect();
    // The results are awaited in another order than the calls were made.
    calls.reverse();
    for answer in join_all(calls).await.into_iter().flatten() {
        answer.expect("acknowledged");
    }
    assert_eq!(version(&store, &actor).await, Some(200));
}

pub async fn one_batch_may_hold_an_actor_twice(subject: impl Subject) {
    let (store, a, b) = (subject.states(), id("s", "a", ""), id("s", "b", ""));
    keep(&store, vec![save(&a, 1, true), save(&b, 1, false), save(&a, 2, true)]).await;
    assert_eq!(version(&store, &a).await, Some(2));
    assert_eq!(version(&store, &b).await, Some(1));
    assert!(store.load_revision(&a, 1).await.expect("loads").is_some());
    assert!(store.load_revision(&a, 2).await.expect("loads").is_some());
}

pub async fn an_empty_batch_has_an_empty_answer(subject: impl Subject) {
    assert!(subject.states().save_all(Vec::new()).await.is_empty());
}

pub async fn a_dropped_answer_does_not_undo_its_save(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    drop(store.save(vec![save(&actor, 1, false)]));
    // The second save is queued behind the first, so its result shows that the first was applied.
    keep(&store, vec![save(&id("s", "b", ""), 1, false)]).await;
    assert_eq!(version(&store, &actor).await, Some(1));
}

pub async fn many_savers_at_once_lose_nothing(subject: impl Subject) {
    let store = subject.states();
    let savers = (0..64).map(|number| {
        let (store, actor) = (store.clone(), id("s", &format!("actor-{number}"), "p"));
        async move {
            for version in 1..=20 {
                keep(&store, vec![save(&actor, version, version % 5 == 0)]).await;
            }
            actor
        }
    });
    for actor in join_all(savers).await {
        assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 20, true).head);
    }
}

pub async fn names_never_mix(subject: impl Subject) {
    let store = subject.states();
    let actors = [
        id("ab", "c", ""),
        id("a", "bc", ""),
        id("a", "b", "c"),
        id("a", "b", ""),
        id("a", "bc", "d"),
        id("a", "b\u{1}", ""),
        id("a", &"b".repeat(512), &"c".repeat(512)),
        id("a", &"b".repeat(511), &"c".repeat(512)),
    ];
    for (version, actor) in (1..).zip(&actors) {
        keep(&store, vec![save(actor, version, true)]).await;
    }
    for (expected, actor) in (1..).zip(&actors) {
        assert_eq!(version(&store, actor).await, Some(expected), "{actor}");
    }
    // The last of these names; another parent would go with it.
    store.delete(&actors[7]).await.expect("deletes");
    for (expected, actor) in (1..).zip(&actors).filter(|(version, _)| *version != 8) {
        assert_eq!(version(&store, actor).await, Some(expected), "{actor}");
    }
}

pub async fn a_large_state_is_kept(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let mut large = save(&actor, 1, true);
    let value: Vec<u8> = (0..900_000_u32).flat_map(u32::to_le_bytes).collect();
    content_mut(&mut large).state = Some(Any { type_url: "t".into(), value: value.into() });
    keep(&store, vec![large.clone()]).await;
    assert!(store.load(&actor).await.expect("loads") == large.head);
}

pub async fn what_was_acknowledged_is_there_after_reopening(subject: impl Subject) {
    let (store, actor, gone) = (subject.states(), id("s", "a", ""), id("s", "gone", ""));
    keep(&store, vec![save(&actor, 1, true), save(&gone, 1, true)]).await;
    keep(&store, vec![save(&actor, 2, false)]).await;
    store.delete(&gone).await.expect("deletes");
    drop(store);
    let store = subject.reopen().await.states();
    assert_eq!(store.load(&actor).await.expect("loads"), save(&actor, 2, false).head);
    assert!(store.load_revision(&actor, 1).await.expect("loads").is_some());
    assert_eq!(version(&store, &gone).await, None);
    assert_eq!(store.load_revision(&gone, 1).await.expect("loads"), None);
}

pub async fn deleting_removes_head_and_history(subject: impl Subject) {
    let (store, actor, other) = (subject.states(), id("s", "a", ""), id("s", "other", ""));
    for version in 1..=50 {
        keep(&store, vec![save(&actor, version, true), save(&other, version, true)]).await;
    }
    store.delete(&actor).await.expect("deletes");
    store.delete(&actor).await.expect("deleting what is gone is no error");
    assert_eq!(version(&store, &actor).await, None);
    let all = Interval::ALL;
    let left = store.load_by_interval(&actor, all, 100).await.expect("loads");
    assert_eq!(left, Page::EMPTY);
    let others = store.load_by_interval(&other, all, 100).await.expect("loads");
    assert_eq!(others.items.len(), 50);
    keep(&store, vec![save(&actor, 1, true)]).await;
    let anew = store.load_by_interval(&actor, all, 100).await.expect("loads").items;
    assert_eq!(anew.iter().map(|entry| entry.revision).collect::<Vec<_>>(), [1]);
}

pub async fn deleting_keeps_its_place_among_saves(subject: impl Subject) {
    let (store, actor) = (subject.states(), id("s", "a", ""));
    let before = store.save_all(vec![save(&actor, 1, true)]);
    let deleted = store.delete(&actor);
    let after = store.save_all(vec![save(&actor, 2, false)]);
    let after: Result<Vec<()>, StoreError> = after.await.into_iter().collect();
    after.expect("acknowledged");
    deleted.await.expect("deleted");
    before.await[0].clone().expect("acknowledged");
    assert_eq!(version(&store, &actor).await, Some(2));
    assert_eq!(store.load_revision(&actor, 1).await.expect("loads"), None);
}

pub async fn actors_of_a_system_are_listed_page_by_page(subject: impl Subject) {
    let store = subject.states();
    let empty = store.actors("s", None, 9).await.expect("lists");
    assert_eq!(empty, Page::EMPTY);
    let mut names: Vec<_> = (0..50).map(|number| id("s", &format!("a{number}"), "")).collect();
    names.extend([id("s", "a7", "parent"), id("s", "Zürich", "p")]);
    for actor in names.iter().chain(&[id("s1", "x", ""), id("", "y", ""), id("t", "z", "s")]) {
        keep(&store, vec![save(actor, 1, false), save(actor, 2, true)]).await;
    }
    let gone = names.remove(13);
    store.delete(&gone).await.expect("deletes");
    let mut listed: Vec<Arc<ActorId>> = Vec::new();
    loop {
        let after = listed.last().cloned();
        let page = store.actors("s", after.as_deref(), 20).await.expect("lists");
        assert!(page.items.len() <= 20);
        listed.extend(page.items);
        if !page.more {
            break;
        }
        assert!(listed.len() < 99, "an end");
    }
    listed.sort();
    names.sort();
    assert_eq!(listed, names);
}
