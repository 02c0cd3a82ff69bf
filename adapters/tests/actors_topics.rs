//! Durable topics of the built binary: each event of a committed state counts exactly once at a stateful subscriber, in order,
//! whatever is killed when, and at least once at a stateless one.

mod support;

use support::proxy::embedded;
use support::workflow::{Figures, Workshop};
use tidegate::config::{Config, Flags};
use tidegate_stages::testkit::recognition;
use tokio::process::Command;

/// How often the process is killed.
const ROUNDS: u32 = 8;
/// The same where deliveries are not recognised: a kill before the positions are stored is likely.
const FORGETFUL_ROUNDS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_of_a_committed_state_counts_once_though_the_proxy_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let workshop = Workshop::new(embedded(directory.path(), "1")).publishing();
    let figures = workshop.killed_again_and_again(ROUNDS).await;
    let Figures { effects, runs, bare } = figures.expect("each counts once");
    assert!(effects > 100, "{effects}");
    println!(
        "{ROUNDS} kills: {effects} deliveries counted once at stateful actors (their actions ran {runs} times), {} at least once at \
         a stateless subscriber ({} times)",
        bare.0, bare.1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_fails_where_deliveries_are_not_recognised() {
    let directory = tempfile::tempdir().expect("a directory");
    let workshop = Workshop::new(embedded(directory.path(), "1")).publishing().run_by(forgetful);
    let failed = workshop.killed_again_and_again(FORGETFUL_ROUNDS).await;
    let failed = failed.expect_err("some event is doubled");
    assert!(failed.contains("wrong effects"), "{failed}");
}

/// This program as a proxy.
fn forgetful() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "a_proxy_that_recognises_nothing", "--test-threads=2"]);
    command
}

#[test]
#[ignore = "it is the child of another test"]
fn a_proxy_that_recognises_nothing() {
    recognition::switch_off();
    let config = Config::load(&Flags::default()).expect("settings");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(tidegate::app::serve(config)).expect("it serves until it is killed");
}
