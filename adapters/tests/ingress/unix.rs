//! The Unix socket's file.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener};

use rustix::process::Signal;

use crate::raw::Proxy;
use crate::{refused, text};

#[test]
fn only_a_socket_that_nobody_listens_on_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("file"), "precious").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    drop(UnixListener::bind(at("stale")).unwrap());
    std::os::unix::fs::symlink(at("stale"), at("link")).unwrap();
    let _taken = UnixDatagram::bind(at("taken")).unwrap();
    for (name, why) in [
        ("file", "not a socket"),
        ("directory", "not a socket"),
        ("link", "not a socket"),
        ("taken", "another process"),
    ] {
        let path = at(name);
        let path = path.to_str().unwrap();
        let before = std::fs::symlink_metadata(path).unwrap();
        let ended = refused(&[("PROXY_UDS_ENABLED", "true"), ("PROXY_UDS_ADDRESS", path)]);
        assert_eq!(ended.status.code(), Some(69), "{name}");
        let told = text(&ended.stderr);
        assert!([path, "PROXY_UDS_ADDRESS", why].iter().all(|part| told.contains(part)), "{told}");
        let after = std::fs::symlink_metadata(path).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()), "{name}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "precious");
    assert!(at("stale").exists(), "the link was not followed");
}

#[test]
fn a_file_that_took_the_place_of_the_socket_stays_when_the_proxy_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spawn.sock");
    let mut proxy = Proxy::start(&[
        ("PROXY_UDS_ENABLED", "true"),
        ("PROXY_UDS_ADDRESS", path.to_str().unwrap()),
        ("TIDEGATE_DRAIN_DELAY", "0"),
    ]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn the_socket_has_the_mode_that_is_set_whatever_the_umask_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spawn.sock");
    let uds = [("PROXY_UDS_ENABLED", "true"), ("PROXY_UDS_ADDRESS", path.to_str().unwrap())];
    // The umask of the tests takes the right to write from group and others.
    for (given, mode) in [("", 0o660), ("0600", 0o600), ("666", 0o666)] {
        let _proxy = Proxy::start(&[uds[0], uds[1], ("PROXY_UDS_MODE", given)]);
        let found = std::fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(format!("{found:o}"), format!("{mode:o}"), "PROXY_UDS_MODE={given}");
    }
    // 432 is what TOML makes of 0o660.
    for wrong in ["rw-rw----", "432", "0680", "1777", "+660"] {
        let ended = refused(&[uds[0], uds[1], ("PROXY_UDS_MODE", wrong)]);
        assert_eq!(ended.status.code(), Some(64), "{wrong}");
        let told = text(&ended.stderr);
        assert!(told.contains("PROXY_UDS_MODE") && told.contains(wrong), "{told}");
    }
}
