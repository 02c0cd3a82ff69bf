//! Crash: acknowledged writes are in the database after the proxy is killed, or asked to end.

use crate::cassandra::{on, told};
use crate::support::scene::Scene;

/// How often the process is killed.
const ROUNDS: u32 = 10;

fn scene() -> Scene {
    let mut store = on(&[told("TIDEGATE_TEST_CQL")]);
    store.push(("TIDEGATE_REVISIONS".into(), "every".into()));
    // So that starts after a kill do not watch the heartbeat, which takes 3 s each time.
    store.push(("TIDEGATE_TAKE_OVER".into(), "true".into()));
    Scene::new(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_value_is_lost_when_the_proxy_is_killed() {
    scene().killed_again_and_again(ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_with_0_and_loses_nothing() {
    scene().ended_in_order("acknowledged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_nothing_with_snapshots_either() {
    scene().ended_in_order("snapshot").await;
}
