//! A 200 means durable: checks the system calls of the built binary under load.
//!
//! A killed process proves nothing about syncing, because its writes stay in the page cache. So the binary
//! runs under `strace`, and every response is compared with the sync that covers it. The same check must
//! find early responses in a build that does not sync; otherwise the check would prove nothing.

mod trace;

#[path = "../support/mod.rs"]
mod support;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use support::client::Client;
use support::counter::{Added, Counter, SYSTEM, add, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{BINARY, Proxy, embedded};
use tokio::task::JoinSet;
use trace::{Findings, read};

/// Actors, each with two callers, so that commits of one actor follow each other closely.
const ACTORS: u32 = 8;
/// Calls of each caller.
const CALLS: u32 = 25;
/// How long the traced process may take to end.
const END_LIMIT: Duration = Duration::from_mins(1);

/// Runs a binary under load and under `strace`, and reads the trace.
async fn traced(binary: &Path) -> Findings {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let counter = Arc::new(Counter { takes: Duration::from_millis(1), ..Counter::default() });
    let host = Host::start(counter);
    let port = host.port();
    let data = directory.path().join("data");

    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", "1048576", "-o"]).arg(&trace);
    command.args([
        "-e",
        "trace=write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync",
    ]);
    // The shell names its process and becomes the binary: signals go there, not to the tracer.
    command.args(["--", "sh", "-c", "echo pid $$; exec \"$0\" serve"]).arg(binary);
    let settings = [("TIDEGATE_DRAIN_DELAY", "0"), ("TIDEGATE_DURABILITY", "acknowledged")];
    let mut all = embedded(&data, &port);
    all.extend(settings);
    let proxy = Proxy::spawn(command, &all).await;

    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    let names: Vec<String> = (0..ACTORS).map(|number| format!("a{number:02}")).collect();
    let definitions = names.iter().map(|name| definition(name, Kind::Named)).collect();
    register(&mut client, definitions).await;
    let mut callers = JoinSet::new();
    for name in names.iter().chain(&names) {
        let (address, name) = (proxy.address().to_owned(), name.clone());
        callers.spawn(async move {
            let mut client = Client::connect(&address).await.expect("the proxy is there");
            for _ in 0..CALLS {
                let added = add(&mut client, &name).await.expect("an answer");
                assert!(matches!(added, Added::To(_)), "{SYSTEM}/{name}: {added:?}");
            }
        });
    }
    callers.join_all().await;
    let status = proxy.terminate(END_LIMIT).await;
    assert!(status.success(), "the traced process ends with {status}");
    read(&std::fs::read_to_string(&trace).expect("strace wrote its trace"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stateful_200_leaves_before_the_sync_that_covers_it_returned() {
    let findings = traced(Path::new(BINARY)).await;
    eprintln!("{findings}");
    assert_eq!(findings.answers, ACTORS * 2 * CALLS, "every answer is seen");
    assert!(findings.syncs > 0 && findings.commits > 0, "the store is seen at work");
    assert!(findings.early.is_empty(), "answers left before they were durable");
}

/// Built by the test script; this crate's own configuration has no say in it.
fn unsynced() -> PathBuf {
    let binary = std::env::var_os("TIDEGATE_UNSYNCED_BIN");
    let binary = binary.as_deref().filter(|path| !OsStr::is_empty(path)).expect(
        "TIDEGATE_UNSYNCED_BIN names a build without syncing: \
         TIDEGATE_UNSYNCED_BUILD=1 cargo build -p tidegate --target-dir target/unsynced, \
         then TIDEGATE_UNSYNCED_BIN=$PWD/target/unsynced/debug/tidegate",
    );
    binary.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_syncing_is_caught() {
    let findings = traced(&unsynced()).await;
    eprintln!("{findings}");
    assert_eq!(findings.answers, ACTORS * 2 * CALLS, "every answer is seen");
    assert!(!findings.early.is_empty(), "the check sees nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_syncing_says_so_at_every_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = embedded(directory.path(), "1");
    settings.push(("TIDEGATE_DRAIN_DELAY", "0"));
    let (synced, unsynced) = (PathBuf::from(BINARY), unsynced());
    for (binary, says_so) in [(&unsynced, true), (&unsynced, true), (&synced, false)] {
        let mut command = Command::new(binary);
        command.arg("serve");
        let said = Proxy::spawn(command, &settings).await.said(END_LIMIT).await;
        let warns = |line: &String| line.contains("WARN") && line.contains("does not sync");
        assert_eq!(
            said.iter().filter(|line| warns(line)).count(),
            usize::from(says_so),
            "{said:?}"
        );
    }
}
