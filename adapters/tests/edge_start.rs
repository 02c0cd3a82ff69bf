//! The start: what ends it, and what it makes.

#![allow(clippy::unwrap_used, reason = "it is test code")]

mod raw;

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use raw::{HANG, Proxy, tidegate};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

#[test]
#[allow(clippy::disallowed_methods, reason = "it has no runtime, and waits for another process")]
fn a_signal_while_the_store_opens_ends_at_once() {
    // A database that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spawn.sock");
    let mut command = tidegate();
    command.arg("serve").envs([
        ("PROXY_UDS_ENABLED", "true"),
        ("PROXY_UDS_ADDRESS", path.to_str().unwrap()),
        ("PROXY_DATABASE_TYPE", "scylla"),
        ("PROXY_DATABASE_HOST", &silent.local_addr().unwrap().to_string()),
    ]);
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + HANG;
    while UnixStream::connect(&path).is_err() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "it listens");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(ended.code(), Some(0), "{log}");
    assert!(log.contains("ended while the store was being opened"), "{log}");
    assert!(!path.exists(), "its socket is gone");
}

#[test]
fn a_data_directory_that_is_made_is_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let fresh = directory.path().join("made");
    let given = directory.path().join("given");
    std::fs::create_dir(&given).unwrap();
    std::fs::set_permissions(&given, std::fs::Permissions::from_mode(0o750)).unwrap();
    for (path, expected) in [(fresh, 0o700), (given, 0o750)] {
        let settings =
            [("PROXY_DATABASE_TYPE", "embedded"), ("TIDEGATE_DATA_DIR", path.to_str().unwrap())];
        let _proxy = Proxy::start(&settings);
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}
