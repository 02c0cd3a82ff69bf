//! A data directory of format 1 becomes one of format 2 at `serve`, whatever interrupts it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::fixture::copy;
use support::proxy::Proxy;
use support::tool::{begin, end, run, store_in};

/// The key of the sealed fixture.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const END_LIMIT: Duration = Duration::from_secs(40);
const ACTORS: u64 = 600;
const ROUNDS: u32 = 40;
const DATA: i32 = 65;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn format(store: &Path) -> String {
    fs::read_to_string(store.join("FORMAT")).unwrap()
}

/// What an export holds, without its header, the sums of its lines, and what only one of the formats says of no effects.
fn content(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip(1).map(|line| line.split(",\"sum\"").next().unwrap());
    lines
        .map(|line| line.replace(",\"outbox\":[]", "").replace(",\"outbox\":0,\"seen\":0", ""))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_migrates_and_commands_that_only_read_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("file"));
    copy(&golden("store-v1-shop"), &store);
    let settings = store_in(&store);
    let export = ["export", file.to_str().unwrap()];
    for args in [&export[..], &["reseal"], &["import", "--give-up"]] {
        let settings = [&settings[..], &[("SPAWN_STATESTORE_KEY", KEY)]].concat();
        let refused = run(args, &settings).await.refused(DATA);
        assert!(refused.contains("format 1") && refused.contains("tidegate serve"), "{refused}");
    }
    assert_eq!(format(&store), "tidegate store 1\n");
    let log = Proxy::start(&settings).await.said(END_LIMIT).await.join("\n");
    assert!(log.contains("migrated"), "{log}");
    assert_eq!(format(&store), "tidegate store 2\n");
    run(&export, &settings).await.said();
    // The same as the version before wrote of the same store.
    assert_eq!(content(&file), content(&golden("export-v1.jsonl")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_killed_at_any_time_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (dir.path().join("store"), dir.path().join("file"));
    copy(&golden("store-v1-sealed"), &store);
    let mut settings = store_in(&store);
    settings.push(("SPAWN_STATESTORE_KEY", KEY));
    let engine = store.join("engine");
    let journals = || {
        let files = fs::read_dir(&engine).unwrap().map(|entry| entry.unwrap().path());
        let journals = files.filter(|path| path.extension().is_some_and(|end| end == "jnl"));
        journals.map(|path| fs::read(path).unwrap().iter().filter(|byte| **byte > 0).count()).sum()
    };
    let (before, mut partly, mut rounds): (usize, _, _) = (journals(), 0, 0);
    let mut delay = Duration::from_millis(20);
    while format(&store) == "tidegate store 1\n" && rounds < ROUNDS {
        let mut child = begin(&["serve"], &settings);
        tokio::time::sleep(delay).await;
        child.start_kill().unwrap();
        end(child).await;
        rounds += 1;
        delay += Duration::from_millis(4);
        partly += u32::from(format(&store) == "tidegate store 1\n" && journals() != before);
    }
    println!("killed {rounds} times, {partly} times between the first commit and the last");
    let log = Proxy::start(&settings).await.said(END_LIMIT).await.join("\n");
    assert_eq!(format(&store), "tidegate store 2\n", "{log}");
    run(&["export", file.to_str().unwrap()], &settings).await.said();
    let all = content(&file);
    for number in 0..ACTORS {
        let name = format!("\"name\":\"cart-{number:03}\"");
        let lines: Vec<_> = all.iter().filter(|line| line.contains(&name)).collect();
        assert_eq!(lines.len(), 2, "registered and stored: {lines:?}");
        let tag = format!("\"tags\":{{\"number\":\"{number}\"}}");
        let head = |line: &&String| line.starts_with("{\"head\"") && line.contains(&tag);
        assert_eq!(all.iter().filter(head).count(), 1, "{tag}");
    }
    let revisions = all.iter().filter(|line| line.starts_with("{\"revision\"")).count();
    assert_eq!(revisions, 28);
    assert!(partly > 0, "it was never killed between the first commit and the last");
}
