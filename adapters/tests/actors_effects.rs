//! Effects of the built binary: each of a committed state counts exactly once at a stateful target, whatever is killed when,
//! and at least once at a stateless one.

mod support;

use support::proxy::embedded;
use support::workflow::{Figures, Workshop};
use tidegate::config::{Config, Flags};
use tidegate_stages::testkit::recognition;
use tokio::process::Command;

/// How often the process is killed.
const ROUNDS: u32 = 12;
/// The same where effects are not recognised: a kill within the time between an answer and the removal of its row is likely.
const FORGETFUL_ROUNDS: u32 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_effect_of_a_committed_state_counts_once_though_the_proxy_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let workshop = Workshop::new(embedded(directory.path(), "1"));
    let figures = workshop.killed_again_and_again(ROUNDS).await;
    let Figures { effects, runs, bare } = figures.expect("each counts once");
    assert!(effects > 100, "{effects}");
    println!(
        "{ROUNDS} kills: {effects} effects counted once at stateful targets (their actions ran {runs} times), {} at least once at a \
         stateless one ({} times)",
        bare.0, bare.1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proof_fails_where_effects_are_not_recognised() {
    let directory = tempfile::tempdir().expect("a directory");
    let workshop = Workshop::new(embedded(directory.path(), "1")).run_by(forgetful);
    let failed = workshop.killed_again_and_again(FORGETFUL_ROUNDS).await;
    let failed = failed.expect_err("some effect is doubled");
    assert!(failed.contains("wrong effects"), "{failed}");
}

/// This program as a proxy.
fn forgetful() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--ignored", "--exact", "a_proxy_that_recognises_no_effect", "--test-threads=2"]);
    command
}

#[test]
#[ignore = "it is the child of another test"]
fn a_proxy_that_recognises_no_effect() {
    recognition::switch_off();
    let config = Config::load(&Flags::default()).expect("settings");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(tidegate::app::serve(config)).expect("it serves until it is killed");
}
