//! Outage: nodes die and are silent under load; what they acknowledged is there, and nothing has to be started anew
//! but they.

use crate::cassandra::{Cassandra, on};
use crate::support::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateful_calls_are_refused_while_the_only_node_is_dead_or_silent_and_nothing_is_lost() {
    let node = Cassandra::start("alone", 1, "512M").await;
    let scene = Scene::new(on(&node.addresses));
    let proxy = scene.start(&[]).await;
    scene.register(&proxy).await;
    for _ in 0..2 {
        scene.outage(&proxy, node.kill(1), node.start_again(1)).await;
    }
    scene.outage(&proxy, node.pause(1), node.resume(1)).await;
    proxy.kill().await;
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_one_node_of_three_is_dead_and_nothing_is_lost() {
    let ring = Cassandra::start("ring", 3, "320M").await;
    let mut store = on(&ring.addresses);
    for (name, value) in
        [("TIDEGATE_DATABASE_REPLICATION", "3"), ("TIDEGATE_DATABASE_CONSISTENCY", "quorum")]
    {
        store.push((name.into(), value.into()));
    }
    let scene = Scene::new(store);
    let proxy = scene.start(&[]).await;
    scene.register(&proxy).await;
    let callers = scene.insist(&proxy);
    scene.gone_on().await;
    // Each in its turn: what was written without one is there when the next one is gone.
    for node in [2, 1, 3] {
        ring.kill(node).await;
        scene.gone_on().await;
        scene.gone_on().await;
        ring.start_again(node).await;
        scene.gone_on().await;
    }
    eprintln!("refusals: {:?}", callers.stop().await);
    scene.ledger.check(proxy.address(), false).await;
    proxy.kill().await;
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), true).await;
}
