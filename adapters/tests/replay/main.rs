//! Replays recorded runs of four SDKs against the built binary. Compares, message by message, what the SDK
//! receives and what its host receives with what the original proxy sent.

mod framings;
mod known;
mod play;
mod recording;
mod schedule;
#[cfg(test)]
mod self_check;
mod stand_in;
mod verdict;

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use recording::{Recording, Sdk};
use verdict::{Verdict, judge};

async fn replay(sdk: Sdk) -> Verdict {
    let run = Arc::new(Recording::read(sdk));
    let played = play::play(&run).await;
    let verdict = judge(&run, &played, known::KNOWN);
    eprintln!("{sdk:?}: {verdict}");
    verdict
}

async fn every_difference_is_known(sdk: Sdk) {
    let verdict = replay(sdk).await;
    assert!(verdict.complaints.is_empty(), "{} complaints", verdict.complaints.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_is_served_as_by_the_original() {
    every_difference_is_known(Sdk::Node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_go_sdk_is_served_as_by_the_original() {
    every_difference_is_known(Sdk::Go).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_is_served_as_by_the_original() {
    every_difference_is_known(Sdk::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_sdk_is_served_as_by_the_original() {
    every_difference_is_known(Sdk::Rust).await;
}
