//! Durable topics: each event of a committed state counts exactly once at a stateful subscriber, though the proxy is killed.

use crate::cassandra::{on, told};
use crate::support::workflow::{Figures, Workshop};

/// How often the process is killed.
const ROUNDS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_a_committed_state_counts_once_though_the_proxy_is_killed() {
    let workshop = Workshop::new(on(&[told("TIDEGATE_TEST_CQL")])).publishing();
    let Figures { effects, runs, bare } =
        workshop.killed_again_and_again(ROUNDS).await.expect("each counts once");
    println!(
        "{ROUNDS} kills: {effects} deliveries counted once at stateful actors (their actions ran {runs} times), {} at least once at \
         a stateless subscriber ({} times)",
        bare.0, bare.1
    );
}
