//! The doctor says what is wrong and what to do, ends with a code that says how bad it is, and changes nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use support::authority::{Authority, Issued};
use support::client::Client;
use support::counter::{Counter, add, definition, register};
use support::host::Host;
use support::namespace::run_on_device;
use support::proto::Kind;
use support::proxy::{BINARY, Proxy, embedded, set};
use support::tool::{Ran, end, run, store_in};

const TERMINATE_LIMIT: Duration = Duration::from_secs(40);
/// Few enough for any machine that runs tests.
const FEW: [(&str, &str); 2] =
    [("TIDEGATE_HTTP_CONNECTIONS", "50"), ("TIDEGATE_HOST_CONNECTIONS", "50")];

async fn doctor(settings: &[(&str, &str)], more: &[(&str, &str)]) -> Ran {
    let settings: Vec<_> = settings.iter().chain(&FEW).chain(more).copied().collect();
    run(&["doctor"], &settings).await
}

/// Its lines, given that it ended with this code.
fn said(ran: Ran, code: i32) -> String {
    assert_eq!(ran.code, Some(code), "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(ran.stderr, "", "{}", ran.stdout);
    ran.stdout
}

fn assert_line(said: &str, severity: &str, about: &str, text: &str) {
    let line = format!("{severity:<8} {about:<9} ");
    let found = said.lines().any(|given| given.starts_with(&line) && given.contains(text));
    assert!(found, "no line {line:?} with {text:?} in\n{said}");
}

/// Every path below a directory, with what would show a change.
fn tree(dir: &Path) -> Vec<(PathBuf, u64, i64, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::metadata(&path).unwrap();
        if about.is_dir() {
            found.push((path.clone(), about.ino(), about.mtime_nsec(), Vec::new()));
            found.extend(tree(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, about.ino(), about.mtime_nsec(), content));
        }
    }
    found.sort();
    found
}

/// A store that a proxy has written and left.
async fn written() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let settings = embedded(&store, &port);
    let proxy = Proxy::start(&[&settings[..], &FEW].concat()).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    add(&mut client, "joe").await.unwrap();

    // Beside the running proxy.
    let (_, at) = proxy.address().rsplit_once(':').unwrap();
    let beside = said(doctor(&settings, &[("PROXY_HTTP_PORT", at)]).await, 0);
    assert_line(&beside, "ok", "port", "a proxy is ready at 127.0.0.1:");
    let holder = format!("in use by another Tidegate (process {})", proxy.pid());
    assert_line(&beside, "ok", "store", &holder);
    drop(client);
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
    (dir, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_installation_is_told_so_and_left_as_it_is() {
    let (dir, store) = written().await;
    let before = tree(dir.path());
    let all_well = said(doctor(&store_in(&store), &[]).await, 0);
    assert_line(&all_well, "ok", "store", "format 2");
    assert_line(&all_well, "ok", "disk", "MiB are free");
    assert_line(&all_well, "ok", "clock", "it is 20");
    assert_line(&all_well, "ok", "files", "file descriptors");
    assert_line(&all_well, "ok", "settings", "of the memory limit");
    assert!(all_well.ends_with("0 errors, 0 warnings\n"), "{all_well}");
    // A directory that is not there yet is not made.
    let fresh = said(doctor(&store_in(&dir.path().join("not/yet")), &[]).await, 0);
    assert_line(&fresh, "ok", "store", "`serve` makes one there");
    assert!(tree(dir.path()) == before, "something has changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_end_a_start_is_an_error() {
    let (dir, store) = written().await;
    let engine = store.join("engine");
    let current = engine.join("keyspaces/1/current");
    let mut content = fs::read(&current).unwrap();
    content[9] ^= 1;
    fs::write(&current, &content).unwrap();
    let before = tree(dir.path());
    let damaged = said(doctor(&store_in(&store), &[]).await, 2);
    assert_line(&damaged, "ERROR", "store", "the data directory is damaged");
    let (code, started) = Proxy::refused(&store_in(&store)).await;
    assert_eq!(code, Some(65), "the start says the same: {started}");
    assert!(tree(dir.path()) != before, "the start takes the lock, so a change would be seen");

    fs::write(store.join("FORMAT"), "tidegate store 99\n").unwrap();
    let newer = said(doctor(&store_in(&store), &[]).await, 2);
    assert_line(&newer, "ERROR", "store", "has format 99");

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    // Whoever listens there takes no connection beyond its backlog's and answers none.
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move {
        while let Ok((stream, _)) = taken.accept().await {
            drop(stream);
        }
    });
    let fresh = dir.path().join("fresh");
    let other = said(doctor(&store_in(&fresh), &[("PROXY_HTTP_PORT", &port)]).await, 2);
    assert_line(&other, "ERROR", "port", "or another program");
    let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = foreign.local_addr().unwrap().port().to_string();
    answering.spawn(async move {
        while let Ok((mut stream, _)) = foreign.accept().await {
            assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    let other = said(doctor(&store_in(&fresh), &[("PROXY_HTTP_PORT", &port)]).await, 2);
    assert_line(&other, "ERROR", "port", "another program answers at 127.0.0.1:");
    answering.shutdown().await;

    let database = [("PROXY_DATABASE_TYPE", "scylla"), ("PROXY_DATABASE_HOST", "127.0.0.1:1")];
    let unreachable = said(doctor(&database, &[]).await, 2);
    assert_line(&unreachable, "ERROR", "store", "cannot connect to the database at 127.0.0.1:1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_end_a_start_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (store, folder) = (dir.path().join("store"), dir.path().join("folder"));
    fs::create_dir(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    file("a.policy", "typ: deny\n");
    let (missing, folder) = (dir.path().join("missing"), folder.display().to_string());
    let not_read = "no usable FileDescriptorSet";
    for (name, value, about, says, code) in [
        ("TIDEGATE_POLICIES_DIR", missing.display().to_string(), "policies", "cannot be read", 64),
        ("TIDEGATE_POLICIES_DIR", folder.clone(), "policies", "a.policy:1: ", 64),
        ("TIDEGATE_USERS", "/nowhere".into(), "users", "/nowhere: cannot be read", 64),
        ("TIDEGATE_USERS", file("users", "alice:one"), "users", "has no bcrypt hash", 64),
        ("TIDEGATE_TOKEN_KEYS", file("keys", "secret"), "tokens", "at least 32 bytes", 64),
        ("TIDEGATE_DESCRIPTORS", file("set", "no descriptors"), "types", not_read, 64),
        ("TIDEGATE_DATA_DIR", folder, "store", "is not a data directory of Tidegate", 65),
    ] {
        let all = [&store_in(&store)[..], &[(name, value.as_str())]].concat();
        ends_a_start(&all, about, says, code).await;
    }
}

/// The doctor tells one error, and a start ends with this code and says the same.
async fn ends_a_start(settings: &[(&str, &str)], about: &str, says: &str, code: i32) {
    let told = said(doctor(settings, &[]).await, 2);
    assert_line(&told, "ERROR", about, says);
    assert!(told.contains("\n1 errors, "), "{told}");
    let (given, started) = Proxy::refused(settings).await;
    assert_eq!(given, Some(code), "the start ends: {started}");
    assert!(started.contains(says), "and says the same: {started}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_start_would_make_is_looked_at_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let paths = ["file", "", "none/at/all", "audit", "socket"];
    let paths = paths.map(|name| dir.path().join(name).display().to_string());
    let [file, folder, nowhere, audit, socket] = paths.each_ref().map(String::as_str);
    fs::write(file, "mine").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let admin = ("TIDEGATE_ADMIN_ADDRESS", address.as_str());
    let unix = ("PROXY_UDS_ENABLED", "true");
    let nats = ("SPAWN_USE_INTERNAL_NATS", "true");
    let before = tree(dir.path());
    for (settings, about, says, code) in [
        (&[("TIDEGATE_AUDIT_FILE", nowhere)][..], "audit", "No such file", 73),
        (&[("TIDEGATE_AUDIT_FILE", folder)], "audit", "s a directory", 73),
        (&[unix, ("PROXY_UDS_ADDRESS", file)], "port", "not a socket", 69),
        (&[nats, ("TIDEGATE_NATS_CREDS_FILE", nowhere)], "nats", "TIDEGATE_NATS_CREDS_FILE=", 64),
        (&[nats, ("TIDEGATE_NATS_CREDS_FILE", file)], "nats", "TIDEGATE_NATS_CREDS_FILE=", 64),
        (&[admin], "admin", "Address already in use", 69),
    ] {
        let all = [&store_in(&store)[..], settings].concat();
        ends_a_start(&all, about, says, code).await;
    }
    // What starts the proxy may make the directory of its socket.
    let later = [&store_in(&store)[..], &[unix, ("PROXY_UDS_ADDRESS", nowhere)]].concat();
    let told = said(doctor(&later, &[]).await, 1);
    assert_line(&told, "warning", "port", "none/at is not there; a start fails (69) unless");
    let (given, started) = Proxy::refused(&later).await;
    assert_eq!(given, Some(69), "if nothing does, the start ends: {started}");
    let right = [("TIDEGATE_AUDIT_FILE", audit), unix, ("PROXY_UDS_ADDRESS", socket)];
    let right = said(doctor(&store_in(&store), &right).await, 0);
    assert_line(&right, "ok", "audit", "can be written");
    assert_line(&right, "ok", "port", "nobody listens at unix:");
    assert!(tree(dir.path()) == before, "something has changed");

    // Whoever holds the data directory holds its ports, too.
    let held = EmbeddedStore::open(&store, Options::default(), wire::definition).unwrap();
    let beside = said(doctor(&store_in(&store), &[admin]).await, 0);
    assert_line(&beside, "ok", "admin", "is in use, and a proxy runs");
    held.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_to_the_file_of_audit_lines_is_followed_as_a_start_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (store, links) = (dir.path().join("store"), dir.path().join("links"));
    fs::create_dir(&links).unwrap();
    // Relative to the directory of the link, and by way of another link.
    for (target, link) in [
        ("../audit", "links/near"),
        ("near", "links/far"),
        ("../none/audit", "links/astray"),
        ("loop", "links/loop"),
    ] {
        symlink(target, path(link)).unwrap();
    }
    for link in ["links/near", "links/far"] {
        let told =
            said(doctor(&store_in(&store), &[("TIDEGATE_AUDIT_FILE", &path(link))]).await, 0);
        assert_line(&told, "ok", "audit", "can be written");
    }
    for (link, says) in [("links/astray", "No such file"), ("links/loop", "symbolic links")] {
        let link = path(link);
        let all = [&store_in(&store)[..], &[("TIDEGATE_AUDIT_FILE", link.as_str())]].concat();
        assert_line(&said(doctor(&all, &[]).await, 2), "ERROR", "audit", says);
        let (code, started) = Proxy::refused(&all).await;
        assert_eq!(code, Some(73), "the start ends: {started}");
    }
    assert!(!dir.path().join("audit").exists(), "it is not made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_asked_at_the_address_at_which_it_listens() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody reaches it through 127.0.0.1.
    let address = ("TIDEGATE_HTTP_ADDRESS", "127.0.0.2");
    let settings = [&embedded(dir.path(), "1")[..], &[address]].concat();
    let proxy = Proxy::start(&[&settings[..], &FEW].concat()).await;
    let (_, port) = proxy.address().rsplit_once(':').unwrap();
    let beside = said(doctor(&settings, &[("PROXY_HTTP_PORT", port)]).await, 0);
    assert_line(&beside, "ok", "port", "a proxy is ready at 127.0.0.2:");
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_starts_or_ends_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let leaving = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = leaving.local_addr().unwrap().port().to_string();
    let mut answering = tokio::task::JoinSet::new();
    answering.spawn(async move {
        while let Ok((mut stream, _)) = leaving.accept().await {
            assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 17\r\n\r\n{\"status\":\"down\"}";
            stream.write_all(answer).await.unwrap();
        }
    });
    // Its admin port is taken, too.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = taken.local_addr().unwrap().to_string();
    let more = [("PROXY_HTTP_PORT", port.as_str()), ("TIDEGATE_ADMIN_ADDRESS", &admin)];
    let told = said(doctor(&store_in(dir.path()), &more).await, 1);
    assert_line(&told, "warning", "port", "is not ready: it starts or ends");
    assert_line(&told, "ok", "admin", "a proxy runs or may be running");
    answering.shutdown().await;
}

#[tokio::test]
async fn all_mistakes_in_settings_are_told_at_once() {
    let mistakes = [("TIDEGATE_DURABILITY", "sometimes"), ("TIDEGATE_DATADIR", "/x")];
    let told = said(doctor(&mistakes, &[]).await, 2);
    assert_line(&told, "ERROR", "settings", "");
    assert!(told.contains("TIDEGATE_DURABILITY") && told.contains("TIDEGATE_DATADIR"), "{told}");
}

#[tokio::test]
async fn what_is_lost_when_it_comes_to_the_worst_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_in(dir.path());
    let memory = said(doctor(&store, &[("TIDEGATE_STORE_BYTES", "900 GiB")]).await, 1);
    assert_line(&memory, "warning", "settings", "% of the memory limit");
    let former = said(doctor(&store, &[("TIDEGATE_DOOR_EVENTS", "100")]).await, 1);
    assert_line(&former, "warning", "settings", "TIDEGATE_ADMISSION_EVENTS now");
    let nothing_kept = said(doctor(&[("PROXY_DATABASE_TYPE", "memory")], &[]).await, 1);
    assert_line(&nothing_kept, "warning", "store", "lost when the proxy ends");

    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 500; exec \"$0\" doctor", BINARY]);
    set(&mut command, &[&store[..], &FEW].concat());
    let few_files = said(end(command.spawn().unwrap()).await, 1);
    assert_line(
        &few_files,
        "warning",
        "files",
        "500 file descriptors (hard limit), 676 may be needed",
    );
    assert!(few_files.ends_with("0 errors, 1 warnings\n"), "{few_files}");
}

#[test]
fn a_device_that_is_full_or_read_only_is_told() {
    run_on_device("96m", "inside_a_device_that_is_full_or_read_only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_is_full_or_read_only() {
    let data = Path::new("data");
    let proxy = Proxy::start(&embedded(data, "1")).await;
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
    said(doctor(&store_in(data), &[]).await, 0);
    // Of 96 MiB, an eighth is the reserve.
    fs::write("ballast", vec![1; 80 << 20]).unwrap();
    let little = said(doctor(&store_in(data), &[]).await, 1);
    assert_line(&little, "warning", "disk", "of 96 MiB are free");
    fs::write("more", vec![1; 9 << 20]).unwrap();
    let full = said(doctor(&store_in(data), &[]).await, 2);
    assert_line(&full, "ERROR", "disk", "kept in reserve: changes are refused with 503");
    fs::remove_file("ballast").unwrap();

    let remounted = std::process::Command::new("mount").args(["-o", "remount,ro", "."]).status();
    assert!(remounted.unwrap().success());
    for dir in [data, Path::new("new")] {
        let read_only = said(doctor(&store_in(dir), &[]).await, 2);
        assert_line(&read_only, "ERROR", "disk", "cannot be written: Read-only file system");
        assert_line(&read_only, "ok", "store", "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_as_at_a_start_and_their_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let authority = Authority::new(dir.path(), "authority");
    let memory = store_in(&store);
    let with = async |server: &Issued, more: &[(&str, &str)], code| {
        let own = [
            ("TIDEGATE_TLS_CERT", server.certificate.as_str()),
            ("TIDEGATE_TLS_KEY", server.key.as_str()),
        ];
        said(doctor(&memory, &[&own[..], more].concat()).await, code)
    };
    let server = authority.server("server", 90);
    let root = authority.root.as_str();
    let shown = authority.client("billing", 90);
    let all = [
        ("TIDEGATE_TLS_CLIENT_CA", root),
        ("TIDEGATE_HOST_TLS_CA", root),
        ("TIDEGATE_HOST_TLS_CERT", &shown.certificate),
        ("TIDEGATE_HOST_TLS_KEY", &shown.key),
    ];
    let right = with(&server, &all, 0).await;
    assert_line(&right, "ok", "tls", "TIDEGATE_TLS_CERT=");
    assert_line(&right, "ok", "tls", "server.pem: localhost, 127.0.0.1; holds until 20");
    assert_line(&right, "ok", "tls", "billing.pem: billing; holds until");
    assert_line(&right, "ok", "tls", "TIDEGATE_TLS_CLIENT_CA=");
    assert_line(&right, "ok", "tls", "TIDEGATE_HOST_TLS_CA=");

    let soon = with(&authority.server("soon", 29), &[], 1).await;
    assert_line(&soon, "warning", "tls", "soon.pem ends on 20");
    let ended = with(&authority.server("ended", -1), &[], 2).await;
    assert_line(&ended, "ERROR", "tls", "ended.pem has ended on 20");
    let nameless = with(&authority.issue("nameless", "proxy", &[], 90), &[], 1).await;
    assert_line(&nameless, "warning", "tls", "names no DNS name");
    let old_client = authority.client("old", -1);
    let shown = [
        ("TIDEGATE_HOST_TLS_CERT", old_client.certificate.as_str()),
        ("TIDEGATE_HOST_TLS_KEY", &old_client.key),
    ];
    assert_line(&with(&server, &shown, 2).await, "ERROR", "tls", "old.pem has ended");

    // What ends a start is an error, and named.
    let other = authority.server("other", 90);
    let unfit = Issued { certificate: server.certificate.clone(), key: other.key };
    let missing = Issued { certificate: server.certificate.clone(), key: "/none.key".into() };
    for (files, says) in [(unfit, "other.key"), (missing, "/none.key")] {
        assert_line(&with(&files, &[], 2).await, "ERROR", "tls", says);
        let own = [("TIDEGATE_TLS_CERT", &*files.certificate), ("TIDEGATE_TLS_KEY", &*files.key)];
        let (code, told) = Proxy::refused(&[&memory[..], &own].concat()).await;
        assert_eq!(code, Some(78), "the start says the same: {told}");
    }
    let broken = [("TIDEGATE_PROXY_TLS_CA", server.key.as_str())];
    // A start does not read it.
    let told = with(&server, &broken, 1).await;
    assert_line(&told, "warning", "tls", "TIDEGATE_PROXY_TLS_CA=");
    assert!(told.contains("\n0 errors, "), "{told}");
    // A proxy that cannot be asked may be who has the admin port.
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = taken.local_addr().unwrap().to_string();
    let unasked = [
        ("TIDEGATE_PROXY_TLS_CERT", "/none.pem"),
        ("TIDEGATE_PROXY_TLS_KEY", "/none.key"),
        ("TIDEGATE_ADMIN_ADDRESS", &admin),
    ];
    let told = with(&server, &unasked, 1).await;
    assert_line(&told, "warning", "port", "cannot be asked over TLS: ");
    assert_line(&told, "ok", "admin", "a proxy runs or may be running");
}
