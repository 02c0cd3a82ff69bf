//! The built binary as a tool: an export, an import and a change of the key take calls for later times along.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use support::tool::{run, store_in};
use tidegate::store::{EmbeddedStore, Key, OpenError, Options, Vault};
use tidegate::wire;
use tidegate_stages::actor::{ActorId, ActorRef};
use tidegate_stages::due::DueEntry;
use tidegate_stages::invocation::Invocation;
use tidegate_stages::ports::{DueStore, Pause, PauseStore, ScheduleStore, StateStore, StoreError};
use tidegate_stages::schedules::{
    CatchUp, Creation, Overlap, Schedule, ScheduleKey, ScheduleRow, Spec, When,
};
use tidegate_stages::state::Timestamp;
use tidegate_stages::testkit::conformance::due::{all, entry};
use tidegate_stages::testkit::conformance::schedules::all as all_schedules;
use tokio::time::sleep;

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// More than fit a page.
const ENTRIES: u64 = 700;

async fn open(dir: &Path, keys: &[&str]) -> Arc<EmbeddedStore> {
    let keys: Vec<_> = keys.iter().map(|key| Key::parse(key).unwrap()).collect();
    let options = Options { vault: Arc::new(Vault::new(&keys)), ..Options::default() };
    // A process that another test just starts has the lock's file too, until it is another program.
    for _ in 0..1_000 {
        match EmbeddedStore::open(dir, options.clone(), wire::definition) {
            Err(OpenError::Locked { .. }) => sleep(Duration::from_millis(10)).await,
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", dir.display());
}

async fn content(dir: &Path, keys: &[&str]) -> Vec<DueEntry> {
    let store = open(dir, keys).await;
    let states: Arc<dyn StateStore> = store.clone();
    let found = all(&states, 100).await;
    drop(states);
    store.close().await.unwrap();
    found
}

async fn filled(dir: &Path, keys: &[&str]) -> Vec<DueEntry> {
    let store = open(dir, keys).await;
    let entries: Vec<_> = (0..ENTRIES).map(|n| entry(n * 7_000_000, &format!("ü|{n}"))).collect();
    store.claim_epoch().await.unwrap();
    store.put_due(entries.clone()).await.unwrap();
    store.close().await.unwrap();
    entries
}

#[tokio::test]
async fn an_export_takes_calls_for_later_times_along_and_an_import_of_them_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let entries = filled(&path("from"), &[]).await;
    let file = path("file.jsonl");
    let name = file.to_str().unwrap();
    run(&["export", name], &store_in(&path("from"))).await.said();
    let whole = fs::read(&file).unwrap();
    run(&["import", name], &store_in(&path("to"))).await.said();
    assert_eq!(content(&path("to"), &[]).await, entries);
    let refused = run(&["import", name], &store_in(&path("to"))).await;
    assert_ne!(refused.code, Some(0), "the store holds something: {}", refused.stdout);
    run(&["import", "--merge", name], &store_in(&path("to"))).await.said();
    assert_eq!(content(&path("to"), &[]).await, entries);

    // Cut anywhere among them, an export goes on to the same content.
    let text = String::from_utf8(whole.clone()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("\"due\":{")).count() as u64, ENTRIES);
    for part in [3, 2] {
        fs::write(&file, &whole[..whole.len() - whole.len() / part]).unwrap();
        run(&["export", "--resume", name], &store_in(&path("from"))).await.said();
        assert!(fs::read(&file).unwrap() == whole, "cut by 1/{part}");
    }
}

fn schedule(name: &str) -> ScheduleRow {
    let actor = ActorId { name: "joe".into(), system: "s".into(), parent: String::new() };
    let spec = Spec {
        when: When::Every { period: Duration::from_hours(1), first: Timestamp(1 << 52) },
        overlap: Overlap::Skip,
        catch_up: CatchUp::All,
        jitter: Duration::ZERO,
        end: None,
        call: Invocation { actor, ..Invocation::default() },
    };
    let key = ScheduleKey { system: "s".into(), name: name.into() };
    Schedule::new(key, Creation { epoch: 1, number: 0 }, spec, Timestamp(1 << 52)).encode()
}

async fn schedules(dir: &Path, keys: &[&str]) -> Vec<ScheduleRow> {
    let store = open(dir, keys).await;
    let states: Arc<dyn StateStore> = store.clone();
    let found = all_schedules(&states, None, 7).await;
    drop(states);
    store.close().await.unwrap();
    found
}

async fn with_schedules(dir: &Path, keys: &[&str]) -> Vec<ScheduleRow> {
    let store = open(dir, keys).await;
    store.claim_epoch().await.unwrap();
    for n in 0..20 {
        store.put_schedule(schedule(&format!("ü|@ {n:02}"))).await.unwrap();
    }
    store.close().await.unwrap();
    drop(store);
    schedules(dir, keys).await
}

#[tokio::test]
async fn an_export_takes_schedules_along_and_an_import_gives_them_their_entries() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let rows = with_schedules(&path("from"), &[]).await;
    assert_eq!(rows.len(), 20);
    let file = path("file.jsonl");
    let name = file.to_str().unwrap();
    run(&["export", name], &store_in(&path("from"))).await.said();
    let whole = fs::read(&file).unwrap();
    run(&["import", name], &store_in(&path("to"))).await.said();
    assert_eq!(schedules(&path("to"), &[]).await, rows);
    assert_eq!(content(&path("to"), &[]).await.len(), 20, "when each is looked at");
    let refused = run(&["import", name], &store_in(&path("to"))).await;
    assert_ne!(refused.code, Some(0), "the store holds something: {}", refused.stdout);
    fs::write(&file, &whole[..whole.len() - whole.len() / 3]).unwrap();
    run(&["export", "--resume", name], &store_in(&path("from"))).await.said();
    assert!(fs::read(&file).unwrap() == whole);
}

#[tokio::test]
async fn schedules_are_sealed_and_a_new_key_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let rows = with_schedules(dir.path(), &[FIRST]).await;
    let mut settings = store_in(dir.path());
    settings.extend([("SPAWN_STATESTORE_KEY", SECOND), ("TIDEGATE_STATESTORE_OLD_KEYS", FIRST)]);
    run(&["reseal"], &settings).await.said();
    assert_eq!(schedules(dir.path(), &[SECOND]).await, rows);
    let store = open(dir.path(), &[FIRST]).await;
    let found = store.schedules(None, 10).await;
    assert!(matches!(found, Err(StoreError::Sealed(_))), "{found:?}");
}

#[tokio::test]
async fn calls_for_later_times_are_sealed_and_a_new_key_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let entries = filled(dir.path(), &[FIRST]).await;
    let mut settings = store_in(dir.path());
    settings.extend([("SPAWN_STATESTORE_KEY", SECOND), ("TIDEGATE_STATESTORE_OLD_KEYS", FIRST)]);
    run(&["reseal"], &settings).await.said();
    assert_eq!(content(dir.path(), &[SECOND]).await, entries);
    let store = open(dir.path(), &[FIRST]).await;
    let found = store.due(None, 10).await;
    assert!(matches!(found, Err(StoreError::Sealed(_))), "{found:?}");
}

async fn paused(dir: &Path, new: Vec<Pause>) -> Vec<Pause> {
    let store = open(dir, &[]).await;
    store.claim_epoch().await.unwrap();
    store.put_pauses(new).await.unwrap();
    let mut found = store.pauses().await.unwrap();
    found.sort_by_key(|pause| pause.actor.name().to_owned());
    store.close().await.unwrap();
    found
}

#[tokio::test]
async fn an_export_takes_pauses_along_and_an_import_leaves_those_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let pause = |n: u64, by: &str| Pause {
        actor: ActorRef::new("s", &format!("ü|{n:03}")),
        since: Timestamp(n + 1),
        by: by.into(),
        // One of two was resumed, and is remembered.
        ended: (n % 2 == 1).then_some(Timestamp(n + 2)),
    };
    let all = paused(&path("from"), (0..600).map(|n| pause(n, "ops ü")).collect()).await;
    assert_eq!(all.len(), 600);
    let file = path("file.jsonl");
    let name = file.to_str().unwrap();
    run(&["export", name], &store_in(&path("from"))).await.said();
    let whole = fs::read(&file).unwrap();
    run(&["import", name], &store_in(&path("to"))).await.said();
    assert_eq!(paused(&path("to"), Vec::new()).await, all);
    let refused = run(&["import", name], &store_in(&path("to"))).await;
    assert_ne!(refused.code, Some(0), "the store holds something: {}", refused.stdout);

    // Cut anywhere among them, an export goes on to the same content.
    fs::write(&file, &whole[..whole.len() - whole.len() / 3]).unwrap();
    run(&["export", "--resume", name], &store_in(&path("from"))).await.said();
    assert!(fs::read(&file).unwrap() == whole);

    let own = vec![pause(0, "somebody else"), pause(1_000, "somebody else")];
    paused(&path("other"), own.clone()).await;
    run(&["import", "--merge", name], &store_in(&path("other"))).await.said();
    let merged = paused(&path("other"), Vec::new()).await;
    let wanted = [&own[..1], &all[1..], &own[1..]].concat();
    assert_eq!(merged.len(), 601);
    assert!(merged.iter().all(|pause| wanted.contains(pause)), "{:?}", merged.first());
}
