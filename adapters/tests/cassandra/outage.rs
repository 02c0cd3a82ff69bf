//! Outage: nodes die or stop responding under load. Acknowledged data is kept, and only the nodes need a
//! restart.

use std::time::Duration;

use tokio::time::Instant;

use crate::cassandra::{Cassandra, on};
use crate::support::proxy::Proxy;
use crate::support::scene::Scene;

/// How long a proxy may take to end; by default it gives itself 25 s.
const END_LIMIT: Duration = Duration::from_secs(40);

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

    node.pause(1).await;
    let (code, said) = Proxy::refused(&scene.settings()).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&node.addresses[0]), "{said}");
    node.resume(1).await;
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), true).await;

    // Asked to end while nothing can be written.
    let callers = scene.load(&proxy);
    scene.under_load(scene.ledger.acknowledged()).await;
    node.kill(1).await;
    let status = proxy.terminate(END_LIMIT).await;
    assert_eq!(status.code(), Some(0), "it ends with {status}");
    callers.join_all().await;
    node.start_again(1).await;
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_one_node_of_three_is_dead_or_silent_and_nothing_is_lost() {
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
    let callers = scene.start_callers(&proxy);
    scene.gone_on().await;
    // Each in its turn: what was written without one is there when the next one is gone.
    for node in [2, 1] {
        ring.kill(node).await;
        let killed = Instant::now();
        scene.gone_on().await;
        eprintln!("node {node} is dead, every actor was served within {:?}", killed.elapsed());
        scene.gone_on().await;
        ring.start_again(node).await;
        eprintln!("node {node} is back after {:?}", killed.elapsed());
        scene.gone_on().await;
    }
    ring.pause(3).await;
    let paused = Instant::now();
    scene.gone_on().await;
    eprintln!("node 3 is silent, every actor was served within {:?}", paused.elapsed());
    scene.gone_on().await;
    ring.resume(3).await;
    scene.gone_on().await;
    eprintln!("refusals: {:?}", callers.stop().await);
    scene.ledger.check(proxy.address(), false).await;
    proxy.kill().await;
    let proxy = scene.start(&[]).await;
    scene.ledger.check(proxy.address(), true).await;
}
