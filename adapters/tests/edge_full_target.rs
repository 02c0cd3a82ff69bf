//! Backup, restore and export onto a device that is full: a clear error, nothing half written under the final name, and
//! the proxy goes on.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::client::Client;
use support::counter::{Added, Counter, add_within, definition, get_state, register};
use support::namespace::run_on_device;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use support::tool::{Ran, run, store_in};
use tidegate::store::FreeSpace;
use tokio::time::{Instant, sleep};

const ACTOR: &str = "cart";
const STATE_BYTES: usize = 1_000_000;
/// Together more than the device takes.
const STATES: u32 = 40;
const CALL: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(30);
/// The proxy gives up a backup that asks for nothing after a minute.
const GIVEN_UP: Duration = Duration::from_mins(5);
const BALLAST: &str = "ballast";
const SETTINGS: [(&str, &str); 2] =
    [("TIDEGATE_REVISIONS", "every"), ("TIDEGATE_DRAIN_DELAY", "0")];

#[test]
fn a_backup_and_its_restoration_onto_a_full_device_leave_no_store() {
    run_on_device("24m", "inside_a_device_that_is_too_small_for_a_store");
}

#[test]
fn an_export_onto_a_full_device_leaves_no_file_of_its_name_and_goes_on_later() {
    run_on_device("96m", "inside_a_device_with_space_for_half_an_export");
}

/// A proxy whose store lies on another device than the working directory.
async fn filled(scene: &Scene) -> (Proxy, Client) {
    let proxy = scene.start(&SETTINGS).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    register(&mut client, vec![definition(ACTOR, Kind::Named)]).await;
    for value in 1..=STATES {
        counts_to(&mut client, value).await;
    }
    (proxy, client)
}

async fn counts_to(client: &mut Client, value: u32) {
    let added = add_within(client, ACTOR, CALL).await.expect("an answer");
    assert!(matches!(added, Added::To(found) if found == value), "{added:?}, not {value}");
}

fn scene(store: &Path) -> Scene {
    let counter = Counter { padding: STATE_BYTES, ..Counter::default() };
    Scene::with(counter, embedded(store, "1"))
}

fn free() -> u64 {
    FreeSpace::of(Path::new(".")).expect("a device").free
}

/// The names in a directory.
fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let name = |entry: Result<fs::DirEntry, _>| entry.expect("an entry").file_name();
    let mut names: Vec<_> =
        entries.map(|entry| name(entry).into_string().expect("a readable name")).collect();
    names.sort();
    names
}

/// Only an empty place is left, and its space.
fn left_nothing(dir: &str, free_before: u64) {
    assert!(names(dir).iter().all(|name| name == "LOCK"), "{:?}", names(dir));
    // A page or two for names.
    assert!(free() + (64 << 10) >= free_before, "{} of {free_before} bytes are free", free());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_is_too_small_for_a_store() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let store = elsewhere.path().join("store");
    let scene = scene(&store);
    let (proxy, mut client) = filled(&scene).await;
    let before = free();

    let to = ["backup", "copy", "--proxy", proxy.address()];
    let said = run(&to, &store_in(&store)).await.refused(73);
    eprintln!("{said}");
    assert!(said.contains("copy/engine") && said.contains("free"), "{said}");
    left_nothing("copy", before);
    counts_to(&mut client, STATES + 1).await;

    let whole = elsewhere.path().join("whole");
    let whole = whole.to_str().expect("a readable path");
    let again = ["backup", whole, "--proxy", proxy.address()];
    let deadline = Instant::now() + GIVEN_UP;
    while let Ran { code: Some(70), stderr, .. } = run(&again, &store_in(&store)).await {
        assert!(stderr.contains("another backup is running"), "{stderr}");
        assert!(Instant::now() < deadline, "the backup that failed is not given up");
        sleep(Duration::from_secs(1)).await;
    }
    let said = run(&["restore-backup", whole], &store_in(Path::new("restored"))).await.refused(73);
    eprintln!("{said}");
    assert!(said.contains("restored/engine") && said.contains("No space left"), "{said}");
    left_nothing("restored", before);
    counts_to(&mut client, STATES + 2).await;

    // With space it works, also from the same backup.
    let elsewhere = elsewhere.path().join("restored");
    run(&["restore-backup", whole], &store_in(&elsewhere)).await.said();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_with_space_for_half_an_export() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let store = elsewhere.path().join("store");
    let scene = scene(&store);
    let (proxy, client) = filled(&scene).await;
    drop(client);
    assert_eq!(proxy.terminate(END).await.code(), Some(0));

    let ballast = vec![1; usize::try_from(free() - (16 << 20)).expect("a small device")];
    fs::write(BALLAST, ballast).expect("there is space");
    let said = run(&["export", "all.ndjson"], &store_in(&store)).await.refused(74);
    eprintln!("{said}");
    assert!(said.contains("all.ndjson.part") && said.contains("No space left"), "{said}");
    assert_eq!(names("."), ["all.ndjson.part", BALLAST]);
    // The proxy goes on where it was.
    let proxy = scene.start(&SETTINGS).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    assert_eq!(get_state(&mut client, ACTOR).await, STATES);
    drop(client);
    assert_eq!(proxy.terminate(END).await.code(), Some(0));

    let again = run(&["export", "all.ndjson"], &store_in(&store)).await.refused(73);
    assert!(again.contains("all.ndjson.part is there already"), "{again}");
    let full = run(&["export", "all.ndjson", "--resume"], &store_in(&store)).await.refused(74);
    assert!(full.contains("No space left"), "{full}");
    fs::remove_file(BALLAST).expect("it is there");
    run(&["export", "all.ndjson", "--resume"], &store_in(&store)).await.said();
    assert_eq!(names("."), ["all.ndjson"]);
    let copy = elsewhere.path().join("copy");
    let said = run(&["import", "all.ndjson"], &store_in(&copy)).await.said();
    assert!(said.starts_with("imported 1 registered entries, 1 actors and 40 revisions"), "{said}");
}
