//! Nothing acknowledged is lost, neither when the process is killed nor when it is asked to end.

mod support;

use support::client::Client;
use support::counter::{self, Added, add, definition, get, register, spawn};
use support::proto::Kind;
use support::scene::Scene;

/// How often the process is killed.
const ROUNDS: u32 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_value_is_lost_when_the_process_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    Scene::embedded(directory.path()).killed_again_and_again(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_with_0_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    Scene::embedded(directory.path()).ended_in_order("acknowledged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_nothing_with_snapshots_either() {
    let directory = tempfile::tempdir().expect("a directory");
    Scene::embedded(directory.path()).ended_in_order("snapshot").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_definitions_and_spawned_ids() {
    let directory = tempfile::tempdir().expect("a directory");
    let scene = Scene::embedded(directory.path());
    let proxy = scene.start(&[]).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    let definitions = vec![definition("alone", Kind::Named), definition("template", Kind::Unnamed)];
    register(&mut client, definitions).await;
    spawn(&mut client, "template", &["called", "silent"]).await;
    assert_added(&mut client, "alone", 1).await;
    assert_added(&mut client, "called", 1).await;
    let mut by_reference = counter::call("by-reference", "add");
    by_reference.register_ref = "template".into();
    assert_eq!(client.invoke(&by_reference).await.expect("an answer").0, 200);
    proxy.kill().await;

    let proxy = scene.start(&[]).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    scene.counter.called.lock().clear();
    for (actor, value) in [("alone", 1), ("called", 1), ("silent", 0), ("by-reference", 1)] {
        assert_eq!(get(&mut client, actor).await, value, "{actor}");
        assert_added(&mut client, actor, value + 1).await;
    }
    let called = scene.counter.called.lock().clone();
    let parent = |name: &str| called.get(name).expect("it was called").parent.clone();
    assert_eq!(parent("alone"), "");
    for spawned in ["called", "silent", "by-reference"] {
        assert_eq!(parent(spawned), "template", "{spawned}");
    }
    let unknown = add(&mut client, "nobody").await.expect("an answer");
    assert!(matches!(unknown, Added::Refused(404, _)), "{unknown:?}");
}

async fn assert_added(client: &mut Client, actor: &str, value: u32) {
    let added = add(client, actor).await.expect("an answer");
    assert!(matches!(added, Added::To(now) if now == value), "{actor}: {added:?}, not {value}");
}
