//! Commands that read a store do not change it, and do not create a missing one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use support::client::Client;
use support::counter::{Added, Counter, SYSTEM, add, definition, get, register};
use support::host::{BoundHost, Host};
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::{Ran, run, store_in};
use tempfile::TempDir;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const END_LIMIT: Duration = Duration::from_secs(40);
/// Exit codes, as `sysexits.h` has them.
const USAGE: i32 = 64;
const NO_INPUT: i32 = 66;
const CONFIG: i32 = 78;

/// A directory that may hold a store, and commands that work on it.
struct Scene {
    dir: TempDir,
    /// Nobody listens on its port: there is no proxy to ask.
    nobody: BoundHost,
    host: Host,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(Arc::new(Counter::default()));
        Self { dir, nobody: BoundHost::bind(), host }
    }

    /// A store of a proxy that was stopped: one actor, two revisions.
    async fn filled() -> Self {
        let scene = Self::new();
        let proxy = scene.serve("").await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        register(&mut client, vec![definition("joe", Kind::Named)]).await;
        for value in 1..=2 {
            let added = add(&mut client, "joe").await.unwrap();
            assert!(matches!(added, Added::To(reached) if reached == value), "{added:?}");
        }
        drop(client);
        assert!(proxy.terminate(END_LIMIT).await.success());
        scene
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn export_file(&self) -> PathBuf {
        self.dir.path().join("export")
    }

    async fn serve(&self, key: &str) -> Proxy {
        let (store, port) = (self.store(), self.host.port());
        let mut settings = embedded(&store, &port);
        settings.extend([("TIDEGATE_REVISIONS", "every"), ("TIDEGATE_DRAIN_DELAY", "0")]);
        settings.push(("SPAWN_STATESTORE_KEY", key));
        Proxy::start(&settings).await
    }

    /// A proxy without a key starts on it and finds what was acknowledged.
    async fn serves_in_the_clear(&self) {
        let proxy = self.serve("").await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        assert_eq!(get(&mut client, "joe").await, 2);
        drop(client);
        assert!(proxy.terminate(END_LIMIT).await.success());
    }

    async fn run(&self, args: &[&str], key: &str) -> Ran {
        let (store, port) = (self.store(), self.nobody.port());
        let mut settings = store_in(&store);
        settings.extend([("PROXY_HTTP_PORT", port.as_str()), ("SPAWN_STATESTORE_KEY", key)]);
        run(args, &settings).await
    }
}

/// Commands that only read, each with the code of its success.
fn reading(export_file: &Path) -> Vec<(Vec<String>, i32)> {
    let joe = format!("{SYSTEM}/joe");
    let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    vec![
        (args(&["state", &joe]), 0),
        (args(&["history", &joe]), 0),
        (args(&["diff", &format!("{joe}@1"), &joe]), 1),
        (args(&["export", export_file.to_str().unwrap()]), 0),
    ]
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// Every file and directory below one, with its content; none when it is not there.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    if !dir.exists() {
        return found;
    }
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
            found.insert(path, None);
        } else {
            found.insert(path.clone(), Some(fs::read(path).unwrap()));
        }
    }
    found
}

/// As [`tree`], without the file that says who holds the directory.
fn kept(store: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut kept = tree(store);
    kept.remove(&store.join("LOCK")).expect("a lock file");
    kept
}

/// Names of what differs.
fn changed(
    before: &BTreeMap<PathBuf, Option<Vec<u8>>>,
    after: &BTreeMap<PathBuf, Option<Vec<u8>>>,
) -> Vec<PathBuf> {
    let all = before.keys().chain(after.keys());
    let mut changed: Vec<_> =
        all.filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    changed.dedup();
    changed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_read_stays_as_it_is_also_with_a_key_in_the_shell() {
    let scene = Scene::filled().await;
    for key in ["", KEY] {
        for (args, code) in reading(&scene.export_file()) {
            let before = kept(&scene.store());
            let ran = scene.run(&words(&args), key).await;
            assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
            assert!(!ran.stdout.is_empty(), "{args:?}");
            let changed = changed(&before, &kept(&scene.store()));
            assert!(changed.is_empty(), "{args:?} with key {key:?} changed {changed:?}");
        }
        fs::remove_file(scene.export_file()).unwrap();
    }
    scene.serves_in_the_clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_proxy_acknowledged_is_read_and_still_there_for_the_next_one() {
    let scene = Scene::new();
    let proxy = scene.serve("").await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for _ in 0..2 {
        add(&mut client, "joe").await.unwrap();
    }
    proxy.kill().await;
    let said = scene.run(&["history", &format!("{SYSTEM}/joe")], KEY).await.said();
    assert_eq!(said.lines().count(), 3, "{said}");
    scene.serves_in_the_clear().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_store_is_read_with_its_key_only_and_stays_as_it_is() {
    let scene = Scene::filled().await;
    // Of one system only: from then on the key is needed.
    scene.run(&["reseal", "--system", SYSTEM], KEY).await.said();
    let before = kept(&scene.store());
    for (args, code) in reading(&scene.export_file()) {
        let refused = scene.run(&words(&args), "").await.refused(CONFIG);
        assert!(refused.contains("SPAWN_STATESTORE_KEY"), "{refused}");
        assert!(!scene.export_file().exists());
        let ran = scene.run(&words(&args), KEY).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
        drop(fs::remove_file(scene.export_file()));
    }
    let changed = changed(&before, &kept(&scene.store()));
    assert!(changed.is_empty(), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_store_is_nothing_is_made_and_the_path_is_said() {
    let scene = Scene::new();
    let store = scene.store();
    let filled: [&dyn Fn(); 5] = [
        &|| {},
        &|| fs::create_dir(&store).unwrap(),
        &|| fs::write(store.join("thesis"), "mine").unwrap(),
        // The making of a store was interrupted before its last step.
        &|| fs::create_dir(store.join("engine")).unwrap(),
        &|| {
            fs::remove_dir_all(&store).unwrap();
            fs::write(&store, "a file").unwrap();
        },
    ];
    let mut commands: Vec<_> = reading(&scene.export_file()).into_iter().map(|it| it.0).collect();
    // These change what is there; nothing is.
    commands.push(vec!["reseal".into()]);
    commands.push(vec!["import".into(), "--give-up".into()]);
    for fill in filled {
        fill();
        let before = tree(scene.dir.path());
        for args in &commands {
            let refused = scene.run(&words(args), KEY).await.refused(NO_INPUT);
            let path = store.to_str().unwrap();
            assert!(refused.contains(path) && refused.contains("no store"), "{args:?}: {refused}");
            let changed = changed(&before, &tree(scene.dir.path()));
            assert!(changed.is_empty(), "{args:?} changed {changed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_refused_or_has_nothing_to_seal_does_not_mark_the_store_as_sealed() {
    let scene = Scene::filled().await;
    let file = scene.export_file();
    let file = file.to_str().unwrap();
    scene.run(&["export", file], "").await.said();
    let refused = scene.run(&["reseal", "--system", "none"], KEY).await.refused(USAGE);
    assert!(refused.contains("system none"), "{refused}");
    let refused = scene.run(&["import", file], KEY).await.refused(USAGE);
    assert!(refused.contains("--merge"), "{refused}");
    let said = scene.run(&["import", "--give-up"], KEY).await.said();
    assert_eq!(said, "no import is unfinished\n");
    scene.serves_in_the_clear().await;
}
