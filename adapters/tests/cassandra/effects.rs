//! Effects: each of a committed state counts exactly once at a stateful target, though the proxy is killed.

use crate::cassandra::{on, told};
use crate::support::workflow::{Figures, Workshop};

/// How often the process is killed.
const ROUNDS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_of_a_committed_state_counts_once_though_the_proxy_is_killed() {
    let workshop = Workshop::new(on(&[told("TIDEGATE_TEST_CQL")]));
    let Figures { effects, runs, bare } =
        workshop.killed_again_and_again(ROUNDS).await.expect("each counts once");
    println!(
        "{ROUNDS} kills: {effects} effects counted once at stateful targets (their actions ran {runs} times), {} at least once at a \
         stateless one ({} times)",
        bare.0, bare.1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_delivered_again_exactly_once_also_over_a_kill_or_dropped_for_good() {
    crate::support::letters::live(on(&[told("TIDEGATE_TEST_CQL")])).await;
}
