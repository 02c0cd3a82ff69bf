//! States are sealed at rest: they open only with the right key, and keys can be changed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::store::{EmbeddedStore, Key, Options, Vault};
use tidegate::wire;
use tidegate_stages::actor::ActorId;
use tidegate_stages::ports::{Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head};
use tidegate_stages::testkit::conformance::effects::appends;
use tokio::process::Command;

use support::client::Client;
use support::counter::{Added, Counter, SYSTEM, add, definition, get, get_state, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{BINARY, Proxy, embedded};
use support::tool::{Ran, begin, end, run, store_in};

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const THIRD: &str = "MDECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TERMINATE_LIMIT: Duration = Duration::from_secs(40);
/// What every state of a counting actor holds.
const PLAIN: &[u8] = b"<mark:";
const NAMES: [&str; 3] = ["joe", "ann", "eve"];

struct Scene {
    dir: TempDir,
    port: String,
    _host: Host,
}

impl Scene {
    fn new() -> Self {
        let host = Host::start(Arc::new(Counter::default()));
        Self { dir: tempfile::tempdir().unwrap(), port: host.port(), _host: host }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the proxy with these keys, logging everything there is into a file.
    async fn start(&self, key: &str, old: &str) -> Proxy {
        let store = self.store();
        let mut settings = embedded(&store, &self.port);
        settings.extend([
            ("TIDEGATE_REVISIONS", "every"),
            ("SPAWN_PROXY_LOGGER_LEVEL", "trace"),
            ("SPAWN_STATESTORE_KEY", key),
            ("TIDEGATE_STATESTORE_OLD_KEYS", old),
        ]);
        let mut command = Command::new("sh");
        command.arg("-c").arg("exec \"$0\" serve 2>>\"$1\"").arg(BINARY).arg(self.log());
        Proxy::spawn(command, &settings).await
    }

    /// Runs the proxy with these keys and adds one to every actor, up to a value.
    async fn add(&self, key: &str, old: &str, value: u32) {
        let proxy = self.start(key, old).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        if value == 1 {
            register(&mut client, NAMES.map(|name| definition(name, Kind::Named)).into()).await;
        }
        for name in NAMES {
            let added = add(&mut client, name).await.unwrap();
            assert!(matches!(added, Added::To(reached) if reached == value), "{added:?}");
        }
        drop(client);
        assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
    }

    async fn tool(&self, args: &[&str], key: &str, old: &str) -> Ran {
        let store = self.store();
        let mut settings = store_in(&store);
        settings.extend([("SPAWN_STATESTORE_KEY", key), ("TIDEGATE_STATESTORE_OLD_KEYS", old)]);
        run(args, &settings).await
    }

    /// What an export holds, without its header.
    async fn content(&self, key: &str, old: &str) -> String {
        let file = self.dir.path().join("export");
        self.tool(&["export", file.to_str().unwrap()], key, old).await.said();
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        let content = text.split_once('\n').unwrap().1;
        // Sums depend on the header.
        content.lines().map(|line| line.split(",\"sum\":").next().unwrap()).collect()
    }
}

/// Every file of a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

fn holds(dir: &Path, text: &[u8]) -> bool {
    files(dir).values().any(|bytes| bytes.windows(text.len()).any(|window| window == text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_store_shows_no_state_and_opens_with_its_key_only() {
    let scene = Scene::new();
    scene.add(FIRST, "", 1).await;
    assert!(!holds(&scene.store(), PLAIN));
    assert!(holds(&scene.store(), b"TIDEGATE.1"));
    assert!(holds(&scene.store(), b"joe"), "names stay readable");

    let before = files(&scene.store());
    let cases = [
        ("", "", "no key is set"),
        (SECOND, "", "not among the 1 that are set"),
        (SECOND, THIRD, "not among the 2 that are set"),
    ];
    for (key, old, text) in cases {
        let refused = scene.tool(&["serve"], key, old).await.refused(78);
        assert!(refused.contains(text) && refused.contains("SPAWN_STATESTORE_KEY"), "{refused}");
        assert!([FIRST, SECOND, THIRD].iter().all(|key| !refused.contains(key)), "{refused}");
        scene.tool(&["reseal"], key, old).await.refused(78);
        scene.tool(&["export", "/nowhere/export"], key, old).await.refused(78);
    }
    let mut after = files(&scene.store());
    // Who held the directory last, and which commit was found to be the newest: written whenever it is opened.
    for name in ["LOCK", "engine/MARK"] {
        let file = scene.store().join(name);
        after.insert(file.clone(), before[&file].clone());
    }
    let changed: Vec<_> =
        before.keys().filter(|file| after.get(*file) != before.get(*file)).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:?}");

    scene.add(FIRST, "", 2).await;
    assert!(!holds(&scene.store(), PLAIN));
    let log = fs::read_to_string(scene.log()).unwrap();
    assert_eq!(log.matches("states are sealed at rest").count(), 2, "once per start");
    for key in [FIRST, SECOND, THIRD] {
        assert!(!log.contains(key.trim_end_matches('=')), "a key is in the log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_and_the_old_one_dropped_once_everything_is_sealed_again() {
    let scene = Scene::new();
    scene.add(FIRST, "", 1).await;
    scene.add(SECOND, FIRST, 2).await;
    // Sealed with both now: neither may be left away.
    for (key, old) in [(SECOND, ""), (FIRST, "")] {
        let refused = scene.tool(&["serve"], key, old).await.refused(78);
        assert!(refused.contains("1 of the 2 keys"), "{refused}");
    }
    let before = scene.content(SECOND, FIRST).await;
    let refused = scene.tool(&["reseal", "--system", "none"], SECOND, FIRST).await.refused(64);
    assert!(refused.contains("system none"), "{refused}");
    let said = scene.tool(&["reseal", "--system", SYSTEM], SECOND, FIRST).await.said();
    assert!(said.contains("is still needed"), "{said}");
    scene.tool(&["serve"], SECOND, "").await.refused(78);
    let said = scene.tool(&["reseal"], SECOND, FIRST).await.said();
    assert!(said.starts_with("sealed again 0 of 3 states and 0 of 6 revisions\n"), "{said}");
    assert!(said.contains("TIDEGATE_STATESTORE_OLD_KEYS can be dropped"), "{said}");
    let without_epochs = |text: String| {
        let parts = text
            .split("\"epoch\":")
            .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        parts.collect::<String>()
    };
    let after = scene.content(SECOND, "").await;
    assert_eq!(without_epochs(after), without_epochs(before));
    scene.tool(&["serve"], FIRST, "").await.refused(78);
    scene.add(SECOND, "", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_the_clear_gets_a_key_and_says_once_how_it_is_kept() {
    let scene = Scene::new();
    scene.add("", "", 1).await;
    assert!(holds(&scene.store(), PLAIN));
    let log = fs::read_to_string(scene.log()).unwrap();
    assert_eq!(log.matches("kept in the clear").count(), 1);
    let refused = scene.tool(&["reseal"], "", "").await.refused(64);
    assert!(refused.contains("no key to seal with"), "{refused}");
    // To read it with a key does not seal it.
    let before = scene.content(FIRST, "").await;
    assert_eq!(scene.content("", "").await, before);
    let said = scene.tool(&["reseal"], FIRST, "").await.said();
    assert!(said.starts_with("sealed again 3 of 3 states and 3 of 3 revisions\n"), "{said}");
    scene.tool(&["serve"], "", "").await.refused(78);
    scene.add(FIRST, "", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_no_key_opens_is_an_error_and_is_not_overwritten() {
    let scene = Scene::new();
    scene.add(FIRST, "", 1).await;
    let joe = ActorId { name: "joe".into(), system: SYSTEM.into(), parent: String::new() };
    let joe = Arc::new(joe);
    let open = |key: &str| {
        let vault = Arc::new(Vault::new(&[Key::parse(key).unwrap()]));
        let options = Options { vault, ..Options::default() };
        EmbeddedStore::open(&scene.store(), options, wire::definition).unwrap()
    };
    // Somebody wrote this one with a key that the store does not know of.
    let foreign = {
        let store = open(SECOND);
        let epoch = store.claim_epoch().await.unwrap();
        let state = Any { type_url: "t".into(), value: "<mark:joe:00000077>".into() };
        let content = ActorState { state: Some(state), ..ActorState::default() };
        let head = Head { version: 9, epoch, content, ..Head::default() };
        let save = Save::of_head(joe.clone(), head.clone(), false);
        store.save_all(vec![save]).await.into_iter().for_each(Result::unwrap);
        store.close().await.unwrap();
        head
    };
    let proxy = scene.start(FIRST, "").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for _ in 0..3 {
        let refused = add(&mut client, "joe").await.unwrap();
        let Added::Refused(status, text) = refused else { panic!("{refused:?}") };
        assert_eq!(status, 503, "{text}");
        assert!(text.contains("cannot be opened"), "{text}");
    }
    let path = format!("/api/v1/system/{SYSTEM}/actors/joe");
    assert_eq!(client.get(&path).await.unwrap().status, 503);
    assert_eq!(get_state(&mut client, "ann").await, 1, "others are served");
    add(&mut client, "ann").await.unwrap();
    assert_eq!(get(&mut client, "ann").await, 2);
    drop(client);
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
    let refused = scene.tool(&["reseal"], FIRST, "").await.refused(78);
    assert!(refused.contains("the state of counting/joe"), "{refused}");
    let store = open(SECOND);
    assert_eq!(store.load(&joe).await.unwrap(), Some(foreign));
    store.close().await.unwrap();
}

#[tokio::test]
async fn effects_of_a_system_in_which_nothing_is_registered_are_sealed_again_too() {
    let scene = Scene::new();
    let open = |key: &str| {
        let vault = Arc::new(Vault::new(&[Key::parse(key).unwrap()]));
        let options = Options { vault, ..Options::default() };
        EmbeddedStore::open(&scene.store(), options, wire::definition).unwrap()
    };
    let (name, system) = ("deleted".into(), "gone".into());
    let actor = Arc::new(ActorId { name, system, parent: String::new() });
    let store = open(FIRST);
    let epoch = store.claim_epoch().await.unwrap();
    let saves = vec![Save::of_rows(actor.clone(), epoch, appends(0..3))];
    store.save_all(saves).await.into_iter().for_each(Result::unwrap);
    store.close().await.unwrap();
    drop(store);

    let said = scene.tool(&["reseal"], SECOND, FIRST).await.said();
    assert!(said.contains("3 of 3 undelivered effects"), "{said}");
    assert!(said.contains("can be dropped"), "{said}");
    let store = open(SECOND);
    let found = store.outbox(&actor, None, 9).await.unwrap();
    assert_eq!(found.items, appends(0..3).appends);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_again_may_be_killed_at_any_time() {
    const MANY: u64 = 2_000;
    let scene = Scene::new();
    scene.add(FIRST, "", 1).await;
    let name = |number: u64| {
        let name = format!("many-{number}");
        Arc::new(ActorId { name, system: SYSTEM.into(), parent: String::new() })
    };
    let head = |number: u64, epoch| {
        let value = format!("<mark:{number}:00000001>").repeat(50).into();
        let state = Some(Any { type_url: "t".into(), value });
        let content = ActorState { state, ..ActorState::default() };
        Head { version: 1, revision: 1, epoch, content, ..Head::default() }
    };
    let vault = |keys: &[&str]| {
        let keys: Vec<_> = keys.iter().map(|key| Key::parse(key).unwrap()).collect();
        Arc::new(Vault::new(&keys))
    };
    let open = |keys: &[&str]| {
        let options = Options { vault: vault(keys), ..Options::default() };
        EmbeddedStore::open(&scene.store(), options, wire::definition).unwrap()
    };
    {
        let store = open(&[FIRST]);
        let epoch = store.claim_epoch().await.unwrap();
        let save = |number| Save::of_head(name(number), head(number, epoch), true);
        store.save_all((0..MANY).map(save).collect()).await.into_iter().for_each(Result::unwrap);
        store.close().await.unwrap();
    }
    let path = scene.store();
    let mut settings = store_in(&path);
    settings.extend([("SPAWN_STATESTORE_KEY", SECOND), ("TIDEGATE_STATESTORE_OLD_KEYS", FIRST)]);
    let mut delay = Duration::from_millis(50);
    let mut partly = 0;
    let said = loop {
        let mut child = begin(&["reseal"], &settings);
        tokio::time::sleep(delay).await;
        if child.try_wait().unwrap().is_some() {
            break end(child).await.said();
        }
        child.start_kill().unwrap();
        end(child).await;
        delay += Duration::from_millis(50);
        // Whatever was reached: with both keys everything opens.
        let store = open(&[SECOND, FIRST]);
        let mut current = 0;
        for number in 0..MANY {
            let stale = store_stale(&store, &name(number), &head(number, 0)).await;
            current += u64::from(!stale);
        }
        partly += u32::from(current > 0 && current < MANY);
        store.close().await.unwrap();
    };
    assert!(partly > 0, "it was never killed between the first state and the last");
    assert!(said.contains("can be dropped"), "{said}");
    let store = open(&[SECOND]);
    for number in 0..MANY {
        assert!(!store_stale(&store, &name(number), &head(number, 0)).await);
    }
    store.close().await.unwrap();
}

/// Whether an actor's head is still that of before, given that its content and history are as they were.
async fn store_stale(store: &EmbeddedStore, actor: &ActorId, expected: &Head) -> bool {
    let head = store.load(actor).await.unwrap().unwrap();
    let revision = store.load_revision(actor, 1).await.unwrap().unwrap();
    assert_eq!((&head.content, head.version), (&expected.content, 1));
    assert_eq!(revision.content, expected.content);
    // The first two starts claimed 1 and 2; whoever seals again claims a later one.
    head.epoch == 2
}
