//! Rows of effects: what is listed as pending, what a new owner takes over, and whom a slow partition delays.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use scylla::client::session::Session;
use tidegate::store::{CqlOptions, CqlStore, Key, Vault};
use tidegate_stages::actor::ActorId;
use tidegate_stages::outbox::{
    EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, Seen, SourceKind,
};
use tidegate_stages::ports::{Save, StateStore, StoreError, TakenOver};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::registries::plain_definition;
use tidegate_stages::testkit::conformance::states::{head, id, keep, save, under};
use tokio::time::{sleep, timeout};

use crate::wire::{BATCH, EXECUTE, WRITE, Wire};
use crate::{Cql, open, open_with};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const LIMIT: Duration = Duration::from_mins(1);

fn row(epoch: u64, place: u64) -> OutboxRow {
    let id = EffectId { epoch, activation: 7, number: place };
    let record = format!("secret effect {epoch}/{place}").into();
    OutboxRow { key: OutboxKey { epoch, place }, id, record }
}

fn seen(name: &str, number: u64) -> Seen {
    let source = EffectSource { name: name.into(), system: "s".into(), kind: SourceKind::Actor };
    Seen { source: source.into(), id: EffectId { epoch: 1, activation: 2, number } }
}

fn with(save: Save, rows: EffectRows) -> Save {
    Save { rows: Some(rows.into()), ..save }
}

fn appends(rows: impl IntoIterator<Item = OutboxRow>) -> EffectRows {
    EffectRows { appends: rows.into_iter().collect(), ..EffectRows::default() }
}

fn acknowledges(rows: impl IntoIterator<Item = OutboxRow>) -> EffectRows {
    let acknowledged = rows.into_iter().map(|row| row.key).collect();
    EffectRows { acknowledged, ..EffectRows::default() }
}

fn states(store: &CqlStore) -> Arc<dyn StateStore> {
    Arc::new(store.clone())
}

async fn outbox(store: &Arc<dyn StateStore>, actor: &ActorId, limit: usize) -> Vec<OutboxRow> {
    let (mut all, mut after): (Vec<OutboxRow>, _) = (Vec::new(), None);
    loop {
        let page = store.outbox(actor, after, limit).await.unwrap();
        assert!(page.items.len() <= limit);
        all.extend(page.items);
        if !page.more {
            return all;
        }
        after = all.last().map(|row| row.key);
    }
}

async fn pending(store: &Arc<dyn StateStore>, limit: usize) -> Vec<String> {
    let (mut all, mut after): (Vec<Arc<ActorId>>, Option<Arc<ActorId>>) = (Vec::new(), None);
    loop {
        let page = store.pending(after.as_deref(), limit).await.unwrap();
        all.extend(page.items);
        if !page.more {
            let mut names: Vec<_> = all.iter().map(|actor| actor.name.clone()).collect();
            names.sort_unstable();
            return names;
        }
        after = all.last().cloned();
    }
}

async fn epochs_of(session: &Session, keyspace: &str) -> Vec<(i8, i64, i64)> {
    let query = format!("SELECT kind, epoch, place FROM {keyspace}.heads");
    let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    rows.rows().unwrap().map(Result::unwrap).collect()
}

/// A store on the subject's keyspace whose clock is hours ahead: its late writes win wherever write timestamps decide.
async fn ahead(subject: &Cql) -> CqlStore {
    let clock = Arc::new(SetClock::at(Timestamp(4_000_000_000_000_000)));
    CqlStore::open(&subject.options(), clock, plain_definition).await.unwrap()
}

#[tokio::test]
async fn an_outbox_is_read_in_order_and_shows_nothing_to_the_database() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let mut options = subject.options();
    options.vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
    let sealing = open_with(&options).await.unwrap();
    let store = states(&sealing);
    let all: Vec<_> =
        (1..=3).flat_map(|epoch| (0..40).map(move |place| row(epoch, place))).collect();
    for rows in all.chunks(40) {
        keep(&store, vec![with(save(&actor, 1, true), appends(rows.to_vec()))]).await;
    }
    for limit in [1, 7, 16, 120, 500] {
        assert_eq!(outbox(&store, &actor, limit).await, all, "pages of {limit}");
    }
    keep(&store, vec![Save::of_rows(actor.clone(), 3, acknowledges(all[..100].to_vec()))]).await;
    assert_eq!(outbox(&store, &actor, 9).await, all[100..]);
    assert_eq!(store.load(&actor).await.unwrap(), save(&actor, 1, true).head);
    let query = format!("SELECT value FROM {}.heads", subject.name());
    let found = crate::server::session().await.query_unpaged(query, ()).await.unwrap();
    let found = found.into_rows_result().unwrap();
    let values = found.rows::<(Option<Vec<u8>>,)>().unwrap().filter_map(|row| row.unwrap().0);
    assert!(values.into_iter().all(|value| !value.windows(6).any(|part| part == b"secret")));
    let without = subject.states().outbox(&actor, None, 9).await;
    assert!(matches!(without, Err(StoreError::Sealed(_))), "{without:?}");
    sealing.close().await.unwrap();
}

#[tokio::test]
async fn an_actor_is_listed_before_its_first_effect_and_until_its_outbox_is_empty() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions { hosts: vec![wire.address.clone()], ..subject.options() };
    let through = open_with(&through).await.unwrap();
    let (store, direct) = (states(&through), subject.states());
    let (a, b) = (id("s", "a", ""), id("s", "b", "p"));
    for kind in [EXECUTE, BATCH] {
        wire.hold(kind, "secret effect");
    }
    let saving = store.save_all(vec![with(save(&a, 1, false), appends([row(1, 0)]))]);
    wire.holds(1).await;
    assert_eq!(
        pending(&direct, 9).await,
        ["a"],
        "a kill leaves no effect that a start does not find"
    );
    assert!(direct.load(&a).await.unwrap().is_none() && outbox(&direct, &a, 9).await.is_empty());
    wire.release().await;
    assert!(saving.await.iter().all(Result::is_ok));
    keep(&store, vec![Save::of_rows(b.clone(), 1, appends([row(1, 0), row(1, 1)]))]).await;
    keep(&store, vec![Save::of_rows(b.clone(), 2, appends([row(2, 0)]))]).await;
    for limit in [1, 9] {
        assert_eq!(pending(&direct, limit).await, ["a", "b"]);
    }
    keep(&store, vec![Save::of_rows(a.clone(), 1, acknowledges([row(1, 0)]))]).await;
    keep(&store, vec![Save::of_rows(b.clone(), 2, acknowledges([row(1, 0), row(2, 0)]))]).await;
    assert_eq!(pending(&direct, 9).await, ["b"]);
    keep(&store, vec![Save::of_rows(b.clone(), 2, acknowledges([row(1, 1)]))]).await;
    assert!(pending(&direct, 9).await.is_empty());
    // Listed anew, also by a store that remembers nothing.
    keep(&direct, vec![Save::of_rows(b.clone(), 2, appends([row(2, 1)]))]).await;
    keep(&store, vec![Save::of_rows(a.clone(), 1, appends([row(1, 1)]))]).await;
    assert_eq!(pending(&store, 9).await, ["a", "b"]);
    keep(&direct, vec![Save::of_rows(a.clone(), 1, acknowledges([row(1, 1)]))]).await;
    assert_eq!(pending(&direct, 9).await, ["b"]);
    through.close().await.unwrap();
}

#[tokio::test]
async fn an_actor_whose_removal_from_the_list_was_not_answered_is_listed_with_its_next_effect() {
    let (subject, wire) = (open().await, Wire::new().await);
    let request_time = Duration::from_secs(2);
    let hosts = vec![wire.address.clone()];
    let through =
        open_with(&CqlOptions { hosts, request_time, ..subject.options() }).await.unwrap();
    let (store, direct) = (states(&through), subject.states());
    let actor = id("s", "lonely", "");
    keep(&store, vec![with(save(&actor, 1, false), appends([row(1, 0), row(1, 1)]))]).await;
    wire.hold(WRITE, "lonely");
    keep(&store, vec![Save::of_rows(actor.clone(), 1, acknowledges([row(1, 0), row(1, 1)]))]).await;
    wire.holds(1).await;
    assert_eq!(pending(&direct, 9).await, ["lonely"]);
    wire.release().await;
    let removed = async {
        while !pending(&direct, 9).await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_mins(1), removed).await.expect("it was only late");
    keep(&store, vec![Save::of_rows(actor.clone(), 1, appends([row(1, 2)]))]).await;
    assert_eq!(pending(&direct, 9).await, ["lonely"]);
    through.close().await.unwrap();
}

#[tokio::test]
async fn a_late_write_of_a_former_owner_is_lost_as_a_whole_whatever_its_clock_says() {
    let subject = open().await;
    let (former, new) = (ahead(&subject).await, open_with(&subject.options()).await.unwrap());
    let (old, store) = (states(&former), states(&new));
    let (known, fresh) = (id("s", "known", ""), id("s", "fresh", ""));
    let first = old.claim_epoch().await.unwrap();
    let commit = |version: u64, rows: &[OutboxRow], numbers: [u64; 2]| EffectRows {
        appends: rows.to_vec(),
        acknowledged: Vec::new(),
        seen: vec![seen("x", numbers[0]), seen(&format!("y{version}"), numbers[1])],
        forgotten: Vec::new(),
    };
    let kept = commit(1, &[row(first, 0), row(first, 1)], [5, 6]);
    keep(&old, vec![with(under(first, save(&known, 1, true)), kept.clone())]).await;

    let second = store.claim_epoch().await.unwrap();
    let found = store.take_over(known.clone(), second).await.unwrap();
    let own = |version| under(second, save(&known, version, true)).head;
    assert_eq!(found, TakenOver { head: own(1), seen: kept.seen.clone() });
    let nothing = TakenOver::default();
    assert_eq!(store.take_over(fresh.clone(), second).await.unwrap(), nothing);
    // Again, as after a lost answer.
    assert_eq!(store.take_over(known.clone(), second).await.unwrap(), found);

    for actor in [&known, &fresh] {
        let late = commit(2, &[row(first, 2)], [9, 9]);
        let answer = old.save_all(vec![with(under(first, save(actor, 2, true)), late)]).await;
        assert!(matches!(answer[..], [Err(StoreError::Fenced(_))]), "{answer:?}");
    }
    let third = open_with(&subject.options()).await.unwrap();
    let third_epoch = states(&third).claim_epoch().await.unwrap();
    for (store, epoch) in [(&store, second), (&states(&third), third_epoch)] {
        let head_of = |version| under(epoch, save(&known, version, true)).head;
        if epoch == third_epoch {
            let taken = store.take_over(known.clone(), epoch).await.unwrap();
            assert_eq!(taken, TakenOver { head: head_of(1), seen: kept.seen.clone() });
            assert_eq!(store.take_over(fresh.clone(), epoch).await.unwrap(), nothing);
        }
        assert_eq!(store.load(&known).await.unwrap(), head_of(1));
        assert_eq!(store.seen(&known).await.unwrap(), kept.seen);
        assert_eq!(outbox(store, &known, 9).await, kept.appends, "its effects are delivered");
        assert_eq!(store.load(&fresh).await.unwrap(), None);
        assert!(store.seen(&fresh).await.unwrap().is_empty());
        assert!(outbox(store, &fresh, 9).await.is_empty());
        let listed = store.actors("s", None, 9).await.unwrap().items;
        assert_eq!(listed, std::slice::from_ref(&known));
    }
    let store = states(&third);
    let more = commit(3, &[row(third_epoch, 0)], [6, 1]);
    keep(&store, vec![with(under(third_epoch, save(&known, 2, false)), more)]).await;
    assert_eq!(
        outbox(&store, &known, 9).await,
        [row(first, 0), row(first, 1), row(third_epoch, 0)]
    );
    let newest = [seen("x", 6), seen("y1", 6), seen("y3", 1)];
    assert_eq!(store.seen(&known).await.unwrap(), newest);
    let fenced = states(&new).take_over(known.clone(), second).await;
    assert!(matches!(fenced, Err(StoreError::Fenced(_))), "{fenced:?}");
    for store in [former, new, third] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_that_arrives_after_an_owner_found_no_rows_and_wrote_a_head_is_lost_as_a_whole() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions { hosts: vec![wire.address.clone()], ..subject.options() };
    let former = open_with(&through).await.unwrap();
    let (old, store, actor) = (states(&former), subject.states(), id("s", "a", ""));
    let first = old.claim_epoch().await.unwrap();
    keep(&old, vec![under(first, save(&actor, 1, true))]).await;
    for kind in [EXECUTE, BATCH] {
        wire.hold(kind, "secret effect");
    }
    let late = EffectRows { seen: vec![seen("x", 9)], ..appends([row(first, 0)]) };
    let late = old.save_all(vec![with(under(first, save(&actor, 2, true)), late)]);
    wire.holds(1).await;

    let second = store.claim_epoch().await.unwrap();
    assert!(
        outbox(&store, &actor, 9).await.is_empty() && store.seen(&actor).await.unwrap().is_empty()
    );
    keep(&store, vec![under(second, save(&actor, 1, false))]).await;
    wire.release().await;
    let answer = late.await;
    assert!(matches!(answer[..], [Err(StoreError::Fenced(_))]), "{answer:?}");
    let session = crate::server::session().await;
    let kinds = epochs_of(&session, subject.name()).await.into_iter().map(|row| row.0);
    assert!(kinds.collect::<Vec<_>>().contains(&5), "it has arrived");

    let own = |epoch| under(epoch, save(&actor, 1, true)).head;
    for epoch in [second, second + 1] {
        if epoch > second {
            assert_eq!(store.claim_epoch().await.unwrap(), epoch);
            let taken = store.take_over(actor.clone(), epoch).await.unwrap();
            assert_eq!(taken, TakenOver { head: own(epoch), seen: Vec::new() });
        }
        assert_eq!(store.load(&actor).await.unwrap(), own(epoch));
        assert!(outbox(&store, &actor, 9).await.is_empty(), "an effect of a lost state");
        assert!(store.seen(&actor).await.unwrap().is_empty(), "its state is lost");
    }
    former.close().await.unwrap();
}

#[tokio::test]
async fn a_take_over_that_arrives_after_it_was_repeated_hides_no_effect() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions {
        hosts: vec![wire.address.clone()],
        request_time: Duration::from_secs(2),
        ..subject.options()
    };
    let (former, through) =
        (open_with(&subject.options()).await.unwrap(), open_with(&through).await.unwrap());
    let (old, new, actor) = (states(&former), states(&through), id("s", "counted", ""));
    let first = old.claim_epoch().await.unwrap();
    keep(&old, vec![with(under(first, save(&actor, 1, true)), appends([row(first, 0)]))]).await;
    let second = new.claim_epoch().await.unwrap();
    for kind in [WRITE, BATCH] {
        wire.hold(kind, "counted");
    }
    let lost = new.take_over(actor.clone(), second);
    wire.holds(1).await;
    let late = Save::of_rows(actor.clone(), first, appends([row(first, 1)]));
    let answer = old.save_all(vec![late]).await;
    assert!(matches!(answer[..], [Err(StoreError::Fenced(_))]), "{answer:?}");
    assert!(lost.await.unwrap_err().may_have_happened());

    // Again, by another store under the same epoch: the wire holds what the first one sends.
    let again = open_with(&subject.options()).await.unwrap();
    let store = states(&again);
    store.take_over(actor.clone(), second).await.unwrap();
    let both = [row(first, 0), row(first, 1)];
    assert_eq!(outbox(&store, &actor, 9).await, both);
    wire.release().await;
    // Nobody is told when the lost request arrives.
    sleep(Duration::from_millis(500)).await;
    assert_eq!(outbox(&store, &actor, 9).await, both);
    for store in [former, through, again] {
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn an_actor_that_has_seen_more_than_one_write_takes_is_taken_over() {
    // A write has at most 65,535 rows.
    const SOURCES: usize = 70_000;
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = subject.states();
    let first = store.claim_epoch().await.unwrap();
    let all: Vec<_> = (0..SOURCES).map(|number| seen(&format!("{number:05}"), 3)).collect();
    for some in all.chunks(5_000) {
        let rows = EffectRows { seen: some.to_vec(), ..EffectRows::default() };
        keep(&store, vec![Save::of_rows(actor.clone(), first, rows)]).await;
    }
    let second = store.claim_epoch().await.unwrap();
    let taken = store.take_over(actor.clone(), second).await.unwrap();
    assert!(taken.seen == all, "{} are seen", taken.seen.len());
    assert!(store.seen(&actor).await.unwrap() == all);
}

#[tokio::test]
async fn a_new_owner_removes_what_one_whose_clock_was_ahead_wrote() {
    let subject = open().await;
    let (store, former) = (subject.states(), ahead(&subject).await);
    let (old, actor) = (states(&former), id("s", "a", ""));
    let first = old.claim_epoch().await.unwrap();
    keep(&old, vec![with(under(first, save(&actor, 1, true)), appends([row(first, 0)]))]).await;
    // Opened before the former one wrote.
    let second = store.claim_epoch().await.unwrap();
    store.take_over(actor.clone(), second).await.unwrap();
    keep(&store, vec![Save::of_rows(actor.clone(), second, acknowledges([row(first, 0)]))]).await;
    assert!(outbox(&store, &actor, 9).await.is_empty());
    assert!(pending(&store, 9).await.is_empty());
    former.close().await.unwrap();
}

#[tokio::test]
async fn a_new_owner_leaves_no_rows_of_former_ones_but_undelivered_effects() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let store = subject.states();
    for epoch in 1..=3 {
        assert_eq!(store.claim_epoch().await.unwrap(), epoch);
        store.take_over(actor.clone(), epoch).await.unwrap();
        let rows = EffectRows { seen: vec![seen("x", epoch)], ..appends([row(epoch, 0)]) };
        keep(&store, vec![with(under(epoch, save(&actor, epoch, false)), rows)]).await;
    }
    keep(&store, vec![Save::of_rows(actor.clone(), 3, acknowledges([row(2, 0)]))]).await;
    let session = crate::server::session().await;
    let rows = epochs_of(&session, subject.name()).await;
    let kinds: Vec<_> = rows.iter().map(|(kind, epoch, _)| (*kind, *epoch)).collect();
    assert_eq!(kinds, [(0, 3), (5, 3), (5, 1), (6, 3), (7, 3)]);
    assert_eq!(store.seen(&actor).await.unwrap(), [seen("x", 3)]);
}

#[tokio::test]
async fn deleting_a_name_removes_its_states_under_every_parent_and_keeps_its_effects() {
    let subject = open().await;
    let store = subject.states();
    let keys = [id("s", "a", ""), id("s", "a", "p"), id("s", "a", "q")];
    for key in &keys {
        let rows = EffectRows { seen: vec![seen("x", 1)], ..appends([row(1, 0)]) };
        keep(&store, vec![with(save(key, 1, true), rows)]).await;
    }
    let other = id("s", "b", "p");
    keep(&store, vec![save(&other, 1, true)]).await;
    store.delete(&keys[1]).await.unwrap();
    for key in &keys {
        assert_eq!(store.load(key).await.unwrap(), None, "{key}");
        assert_eq!(store.load_revision(key, 1).await.unwrap(), None, "{key}");
        assert_eq!(outbox(&store, key, 9).await, [row(1, 0)], "{key}");
        assert_eq!(store.seen(key).await.unwrap(), [seen("x", 1)], "{key}");
    }
    assert_eq!(store.actors("s", None, 9).await.unwrap().items, [other]);
    keep(&store, vec![save(&keys[1], 2, true)]).await;
    assert_eq!(store.load(&keys[1]).await.unwrap(), Some(head(&keys[1], 2)));
}

#[tokio::test]
async fn a_slow_partition_delays_its_actor_only() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions { hosts: vec![wire.address.clone()], ..subject.options() };
    let through = open_with(&through).await.unwrap();
    let store = states(&through);
    for kind in [EXECUTE, BATCH] {
        wire.hold(kind, "slow");
    }
    let mut batch: Vec<_> =
        (0..126).map(|number| save(&id("s", &format!("a{number}"), ""), 1, true)).collect();
    batch.insert(0, save(&id("s", "slow", ""), 1, true));
    batch.insert(60, save(&id("s", "slow", ""), 2, true));
    let mut outcomes = store.save(batch);
    let mut others = Vec::new();
    for _ in 0..126 {
        let outcome = timeout(LIMIT, outcomes.next()).await.expect("not behind the slow one");
        let (index, outcome) = outcome.unwrap();
        outcome.unwrap();
        others.push(index);
    }
    others.sort_unstable();
    assert!(others == (1..128).filter(|index| *index != 60).collect::<Vec<_>>());
    wire.release().await;
    let slow: Vec<_> = outcomes.map(|(index, outcome)| (index, outcome.is_ok())).collect().await;
    assert_eq!(slow, [(0, true), (60, true)], "those of one actor in order");
    through.close().await.unwrap();
}
