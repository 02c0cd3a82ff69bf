//! The device of the data directory becomes full or read-only while the proxy runs. The proxy reports it,
//! and recovers by itself.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::counter::Counter;
use support::namespace::run_on_device;
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use tidegate::store::FreeSpace;

const DATA: &str = "data";
const BALLAST: &str = "ballast";

#[test]
fn a_full_device_refuses_stateful_calls_until_there_is_room_and_loses_nothing() {
    run_on_device("96m", "inside_a_device_that_runs_full");
}

#[test]
fn a_read_only_directory_is_no_place_to_start_on() {
    run_on_device("96m", "inside_a_device_that_is_read_only");
}

#[test]
fn a_directory_that_becomes_read_only_refuses_stateful_calls_until_it_is_not_and_loses_nothing() {
    run_on_device("600m", "inside_a_device_that_becomes_read_only");
}

/// Takes all space but this many bytes.
fn fill(but: u64) {
    let free = FreeSpace::of(Path::new(".")).expect("a device").free;
    let mut ballast = fs::File::create(BALLAST).expect("there is space for a name");
    let bytes = vec![1; usize::try_from(free.saturating_sub(but)).expect("a small device")];
    // Others write too: what does not fit is not needed.
    drop(std::io::Write::write_all(&mut ballast, &bytes));
}

fn free() {
    fs::remove_file(BALLAST).expect("it is there");
}

fn run(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output = command.args(arguments).output().expect("it is installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_runs_full() {
    let scene = Scene::embedded(Path::new(DATA));
    let proxy = scene.start(&[]).await;
    scene.register(&proxy).await;
    // Into the reserve, where nothing is written any more; then to the last byte, also inside a write.
    for but in [4 << 20, 0] {
        scene.outage(&proxy, async { fill(but) }, async { free() }).await;
    }
    proxy.kill().await;

    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), false).await;
    proxy.kill().await;
    fill(0);
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), true).await;
    proxy.kill().await;
    free();
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_is_read_only() {
    let scene = Scene::embedded(Path::new(DATA));
    let proxy = scene.start(&[]).await;
    scene.register(&proxy).await;
    let callers = scene.load(&proxy);
    scene.under_load(0).await;
    proxy.kill().await;
    callers.join_all().await;
    // A directory that holds a store, and one that is not there yet.
    run("mount", &["-o", "remount,ro", "."]);
    for directory in [DATA, "new"] {
        let (code, said) = Proxy::refused(&embedded(Path::new(directory), "1")).await;
        assert_eq!(code, Some(73), "{said}");
        let told: Vec<_> = said.lines().filter(|line| line.starts_with("tidegate: ")).collect();
        assert_eq!(told.len(), 1, "{said}");
        for word in [directory, "Read-only file system", "TIDEGATE_DATA_DIR"] {
            assert!(told[0].contains(word), "{word} in {said}");
        }
    }
    run("mount", &["-o", "remount,rw", "."]);
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), false).await;
}

/// A device cannot be made read-only under a process that has files open for writing, but a read-only view of it can be
/// mounted in its place: what is open is written on, until the engine needs a new file, or to open one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_becomes_read_only() {
    // Large enough that tables have to be written within seconds.
    let counter = Counter { padding: 100_000, ..Counter::default() };
    let scene = Scene::with(counter, embedded(Path::new(DATA), "1"));
    let proxy = scene.start(&[]).await;
    scene.register(&proxy).await;
    let becomes_read_only = async {
        run("mount", &["--bind", DATA, DATA]);
        run("mount", &["-o", "remount,bind,ro", DATA]);
    };
    scene.outage(&proxy, becomes_read_only, async { run("umount", &["--lazy", DATA]) }).await;
    proxy.kill().await;
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), false).await;
}
