//! A backup of a store that serves calls holds everything, and becomes a data directory again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tidegate::store::{
    BackupError, BackupPage, EmbeddedStore, Notes, OpenError, Options, Totals, restore_backup,
    write_backup,
};
use tidegate::wire;
use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::history::Interval;
use tidegate_stages::outbox::{EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head, Timestamp};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::Instant;

use support::client::Client;
use support::counter::{Counter, definition, get};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use support::tool::{begin, end, run, store_in};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// What every state of a counting actor holds.
const PLAIN: &[u8] = b"<mark:";
const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    EmbeddedStore::open(dir, Options::default(), wire::definition).unwrap()
}

fn actor(number: u64) -> Arc<ActorId> {
    let name = format!("cart {number:04}");
    Arc::new(ActorId { name, system: "shop".into(), parent: String::new() })
}

fn head(number: u64, revision: u64, epoch: u64, bytes: usize) -> Head {
    // Does not compress, so that sizes on the disk are as expected.
    let value: Vec<u8> = (0..bytes).map(|_| rand::random()).collect();
    let state = Any { type_url: format!("t/Cart{number}"), value: value.into() };
    Head {
        version: revision,
        revision,
        epoch,
        at: Timestamp(1_764_000_000_123_456 + revision),
        content: ActorState { state: Some(state), ..ActorState::default() },
        ..Head::default()
    }
}

/// Saves actors with states of some size.
async fn fill(store: &EmbeddedStore, actors: std::ops::Range<u64>, bytes: usize) {
    let epoch = store.claim_epoch().await.unwrap();
    for number in actors {
        let saved = Save::of_head(actor(number), head(number, 1, epoch, bytes), true);
        store.save_all(vec![saved]).await.into_iter().for_each(Result::unwrap);
    }
}

/// Files below a directory, with their content.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_holds_every_change_acknowledged_before_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let [store, backup, restored] = ["store", "backup", "restored"].map(|at| dir.path().join(at));
    let scene = Scene::embedded(&store);
    let settings = [("SPAWN_STATESTORE_KEY", KEY), ("TIDEGATE_REVISIONS", "every")];
    let proxy = scene.start(&settings).await;
    scene.register(&proxy).await;
    let callers = scene.load(&proxy);
    scene.under_load(0).await;

    let before = scene.ledger.acknowledged_of_each();
    assert!(before.values().sum::<usize>() >= 100);
    // The command knows no key, and needs none.
    let settings_of_tool = store_in(&store);
    let args = ["backup", text(&backup), "--proxy", proxy.address()];
    let said = run(&args, &settings_of_tool).await.said();
    eprintln!("{said}");
    assert!(said.starts_with("backed up "), "{said}");
    assert!(said.ends_with("and verified them\n"), "{said}");
    // Calls go on.
    scene.under_load(scene.ledger.acknowledged()).await;
    proxy.kill().await;
    drop(callers.join_all().await);

    for (path, content) in files(&backup) {
        let plain = content.windows(PLAIN.len()).any(|window| window == PLAIN);
        assert!(!plain, "{} holds a state in the clear", path.display());
    }
    let as_it_was = files(&backup);
    let said = run(&["restore-backup", text(&backup)], &store_in(&restored)).await.said();
    assert!(said.starts_with("restored "), "{said}");
    assert!(files(&backup) == as_it_was, "the backup has changed");

    // The store knows that it is sealed.
    let mut without_key = store_in(&restored);
    without_key.push(("USER_FUNCTION_PORT", "1"));
    let (code, said) = Proxy::refused(&without_key).await;
    assert_eq!(code, Some(78), "{said}");

    let at_restored = Scene::with(Counter::default(), store_in(&restored));
    let proxy = at_restored.start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let now = scene.ledger.acknowledged_of_each();
    for (name, acknowledged) in before {
        let value = usize::try_from(get(&mut client, &name).await).unwrap();
        // Values are counted up from 1, one for each call.
        assert!(value >= acknowledged, "{name} is at {value}, {acknowledged} was acknowledged");
        // One call of each caller may have been in flight at the kill.
        assert!(
            value <= now.get(&name).unwrap() + 8,
            "{name} is at {value}, which nobody asked for"
        );
    }
    let history = format!("{}/a00", support::counter::SYSTEM);
    let args = ["history", &history, "--proxy", proxy.address()];
    let listed = run(&args, &settings_of_tool).await.said();
    assert!(listed.lines().count() > 2, "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_a_store_holds_is_in_its_backup_and_nothing_later() {
    let dir = tempfile::tempdir().unwrap();
    let [at, backup, restored] = ["store", "backup", "restored"].map(|at| dir.path().join(at));
    let store = open(&at);
    fill(&store, 0..3, 100).await;
    let epoch = store.claim_epoch().await.unwrap();
    let row = |place| OutboxRow {
        key: OutboxKey { epoch, place },
        id: EffectId { epoch, activation: 1, number: place },
        record: Bytes::from(format!("effect {place}")),
    };
    let seen = Seen {
        source: Arc::new(EffectSource { name: "ann".into(), ..EffectSource::default() }),
        id: EffectId { epoch, activation: 2, number: 3 },
    };
    let rows = EffectRows { appends: vec![row(0), row(1)], seen: vec![seen], ..Default::default() };
    // More than a page, in each of the two parts.
    let large = usize::try_from(MIB).unwrap() + 1;
    let second = head(1, 2, epoch, large);
    store.save_all(vec![Save::of_rows(actor(2), epoch, rows)]).await.pop().unwrap().unwrap();
    store.save_all(vec![Save::of_head(actor(1), second, true)]).await.pop().unwrap().unwrap();
    store.put_note("note", Some(Bytes::from_static(b"kept"))).await.unwrap();
    let mut cart = definition("cart", Kind::Unnamed);
    cart.id.as_mut().unwrap().system = "shop".into();
    let raw = Bytes::from(cart.encode_to_vec());
    let cart = wire::definition(raw, HostAddress::new("127.0.0.1:8090").into(), "shop").unwrap();
    let registered = [
        RegistryChange::Put(Registered::definition(Arc::new(cart))),
        RegistryChange::Put(Registered::spawned(actor(1), Some(1))),
    ];
    store.apply(registered.into()).await.unwrap();

    let begun = store.begin_backup().await.unwrap();
    assert!(matches!(store.begin_backup().await, Err(BackupError::Running)));
    assert!(matches!(store.backup_page(begun.id ^ 1).await, Err(BackupError::Gone)));
    let expected = content(&store).await;
    // What comes after the beginning is not in the copy, even before the first page is read.
    fill(&store, 0..5, 50).await;
    store.delete(&actor(2)).await.unwrap();
    let mut pages = Vec::new();
    while pages.last().is_none_or(|page: &BackupPage| page.totals.is_none()) {
        pages.push(BackupPage::decode(&store.backup_page(begun.id).await.unwrap()).unwrap());
    }
    assert!(pages.len() > 2, "{} pages", pages.len());
    assert!(matches!(store.backup_page(begun.id).await, Err(BackupError::Gone)), "it has ended");

    let options = Options::default();
    let totals = write_backup(&backup, &options, pages, |_| ()).unwrap();
    assert_eq!(restore_backup(&backup, &restored, &options, |_| ()).unwrap(), totals);
    let again = open(&restored);
    assert_eq!(content(&again).await, expected);
    let claimed = again.claim_epoch().await.unwrap();
    assert!(claimed > store.claim_epoch().await.unwrap(), "no epoch is claimed twice");
}

/// All that the ports tell of a store.
async fn content(store: &EmbeddedStore) -> Vec<String> {
    let mut all = Vec::new();
    for id in [0, 1, 2, 3, 4].map(actor) {
        all.push(format!("{:?}", StateStore::load(store, &id).await.unwrap()));
        let history = store.load_by_interval(&id, Interval::default(), 100).await.unwrap();
        all.push(format!("{history:?}"));
        all.push(format!("{:?}", store.outbox(&id, None, 100).await.unwrap()));
        all.push(format!("{:?}", store.seen(&id).await.unwrap()));
    }
    all.push(format!("{:?}", store.note("note").await.unwrap()));
    all.push(format!("{:?}", Registry::load(store).await.unwrap()));
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_keeps_its_rate_and_one_that_breaks_off_leaves_no_store() {
    const ACTORS: u64 = 70;
    const STATE_BYTES: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let [at, backup, restored] = ["store", "backup", "restored"].map(|at| dir.path().join(at));
    let store = open(&at);
    fill(&store, 0..ACTORS, STATE_BYTES).await;
    store.close().await.unwrap();
    drop(store);
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let settings = embedded(&at, &port);

    // 14 MB at 1 MiB each second.
    let proxy = Proxy::start(&settings).await;
    let args = ["backup", text(&backup), "--rate", "1", "--proxy", proxy.address()];
    let mut broken = begin(&args, &settings);
    let mut lines = BufReader::new(broken.stderr.take().unwrap()).lines();
    let said = lines.next_line().await.unwrap().unwrap();
    assert!(said.starts_with("copying: "), "{said}");
    let other = dir.path().join("other");
    let busy = run(&["backup", text(&other), "--proxy", proxy.address()], &settings).await;
    let busy = busy.refused(70);
    assert!(busy.contains("another backup is running"), "{busy}");
    proxy.kill().await;
    broken.stderr = None;
    let ended = broken.wait().await.unwrap();
    assert_eq!(ended.code(), Some(70));
    let said = lines.next_line().await.unwrap().unwrap();
    assert!(said.contains("cannot ask the proxy"), "{said}");
    let no_backup = run(&["restore-backup", text(&backup)], &store_in(&restored)).await;
    let no_backup = no_backup.refused(66);
    assert!(no_backup.contains("holds no store"), "{no_backup}");

    let proxy = Proxy::start(&settings).await;
    let started = Instant::now();
    let args = ["backup", text(&backup), "--rate", "6", "--proxy", proxy.address()];
    run(&args, &settings).await.said();
    let elapsed = started.elapsed();
    // Heads and revisions; the last page is not waited for.
    let copied = 2 * ACTORS * STATE_BYTES as u64 - 2 * MIB;
    assert!(elapsed >= Duration::from_millis(1_000 * copied / (6 * MIB)), "{elapsed:?}");
    let refused = run(&args, &settings).await.refused(73);
    assert!(refused.contains("is not empty"), "{refused}");
    drop(proxy);
    run(&["restore-backup", text(&backup)], &store_in(&restored)).await.said();
    let again = run(&["restore-backup", text(&backup)], &store_in(&restored)).await.refused(73);
    assert!(again.contains("is not empty"), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_not_served_and_a_damaged_one_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let [at, backup, restored] = ["store", "backup", "restored"].map(|at| dir.path().join(at));
    let store = open(&at);
    fill(&store, 0..3, 1_000).await;
    back_up(&store, &backup).await;
    let options = Options::default();

    let (code, said) = Proxy::refused(&store_in(&backup)).await;
    assert_eq!(code, Some(73), "{said}");
    assert!(said.contains("is a backup"), "{said}");
    let no_backup = dir.path().join("plain");
    open(&no_backup).close().await.unwrap();
    let error = restore_backup(&no_backup, &restored, &options, |_| ()).unwrap_err();
    assert!(matches!(error, OpenError::NoBackup { .. }), "{error}");

    // One bit of one state.
    let engine = backup.join("engine");
    let (path, mut content) =
        files(&engine).into_iter().max_by_key(|(_, file)| file.len()).unwrap();
    let key = b"t/Cart1";
    let state = content.windows(key.len()).position(|window| window == key).unwrap();
    content[state + key.len() + 20] ^= 1;
    fs::write(&path, &content).unwrap();
    let said = run(&["restore-backup", text(&backup)], &store_in(&restored)).await.refused(65);
    assert!(said.contains("damaged"), "{said}");
    assert!(!restored.exists());
    assert!(!restored.join("engine.unfinished").exists());

    // A whole store with other content than the backup was made of.
    let other = dir.path().join("other");
    fill(&store, 1..2, 1_000).await;
    back_up(&store, &other).await;
    fs::copy(engine.join("BACKUP"), other.join("engine/BACKUP")).unwrap();
    let error = restore_backup(&other, &restored, &options, |_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged(_)), "{error}");
}

async fn back_up(store: &EmbeddedStore, dir: &Path) -> Totals {
    let begun = store.begin_backup().await.unwrap();
    let mut pages = Vec::new();
    while pages.last().is_none_or(|page: &BackupPage| page.totals.is_none()) {
        pages.push(BackupPage::decode(&store.backup_page(begun.id).await.unwrap()).unwrap());
    }
    write_backup(dir, &Options::default(), pages, |_| ()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_there_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("letter"), "dear").unwrap();
    for command in ["backup", "restore-backup"] {
        let store = dir.path().join("backup");
        let store = if command == "backup" { dir.path().join("store") } else { store };
        let settings = store_in(&taken);
        let args =
            if command == "backup" { [command, text(&taken)] } else { [command, text(&store)] };
        if command == "restore-backup" {
            let source = open(&dir.path().join("source"));
            fill(&source, 0..1, 10).await;
            back_up(&source, &store).await;
        }
        let said = run(&args, &settings).await.refused(73);
        assert!(said.contains("is not empty: it holds letter"), "{said}");
        let left: Vec<_> = files(&taken);
        assert_eq!(left, [(taken.join("letter"), b"dear".to_vec())]);
    }
    // Nobody listens: the exit code says that it is not the directory.
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for free in [dir.path().join("not/there"), empty.clone()] {
        let args = ["backup", text(&free), "--proxy", "127.0.0.1:1"];
        let said = run(&args, &store_in(&taken)).await.refused(70);
        assert!(said.contains("cannot ask the proxy at 127.0.0.1:1"), "{said}");
    }
    assert!(!dir.path().join("not").exists(), "what was made for the backup is removed");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "what was there stays, and is empty");
}

#[tokio::test]
async fn a_database_is_backed_up_with_its_own_means() {
    let settings = [("PROXY_DATABASE_TYPE", "scylla"), ("PROXY_DATABASE_HOST", "127.0.0.1")];
    let dir = tempfile::tempdir().unwrap();
    for command in ["backup", "restore-backup"] {
        let said = run(&[command, text(dir.path())], &settings).await.refused(64);
        assert!(said.contains("nodetool snapshot"), "{said}");
    }
    let memory = [("PROXY_DATABASE_TYPE", "memory")];
    let said = run(&["backup", text(dir.path())], &memory).await.refused(64);
    assert!(said.contains("keeps nothing"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_an_embedded_store_says_so() {
    let proxy = Proxy::start(&[("PROXY_DATABASE_TYPE", "memory")]).await;
    let dir = tempfile::tempdir().unwrap();
    let backup = dir.path().join("backup");
    let args = ["backup", text(&backup), "--proxy", proxy.address()];
    let said = end(begin(&args, &store_in(dir.path()))).await.refused(70);
    assert!(said.contains("HTTP 501"), "{said}");
}
