//! What a package or an image brings beside the binary fits the binary: image, units, manifests, man pages, completions.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod image;
mod kubernetes;
mod notify;
mod papers;
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::tool::run;

/// How long a proxy may take to end.
const LIMIT: Duration = Duration::from_secs(40);
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A file of the tree.
fn file(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Asserts that all of these are settings, with values that fit together; returns them as they are in effect.
async fn assert_settings(given: &[(String, String)]) -> String {
    let known = run(&["config", "--markdown"], &[]).await.said();
    for (name, _) in given {
        assert!(known.contains(&format!("| `{name}` |")), "{name} is no setting");
    }
    let given: Vec<_> = given.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    run(&["config"], &given).await.said()
}

/// A time such as `25s`.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap_or(text).parse().unwrap()
}
