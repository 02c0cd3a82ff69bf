//! Files and sockets run out: a connection is refused, and no call fails at its host or its store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use support::client::Client;
use support::counter::{Added, Counter, add, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{BINARY, Proxy, embedded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// A request that is in flight as long as its client wants.
const HALF: &[u8] =
    b"POST /api/v1/system HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n\r\nha";
const LIMIT: Duration = Duration::from_secs(20);

/// A proxy on the embedded store, that may raise its limit from 128 to 256.
async fn start(directory: &std::path::Path) -> (Host, Proxy, Client) {
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let mut settings = embedded(directory, &port);
    settings.push(("TIDEGATE_HTTP_BODY_TIMEOUT", "10m"));
    settings.push(("TIDEGATE_DRAIN_DELAY", "0"));
    settings.push(("TIDEGATE_DRAIN_TIMEOUT", "1s"));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 128 && ulimit -H -n 256 && exec \"$0\" serve", BINARY]);
    let proxy = Proxy::spawn(command, &settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("a", Kind::Named)]).await;
    (host, proxy, client)
}

async fn count(client: &mut Client, times: u32) {
    for _ in 0..times {
        let added = add(client, "a").await.unwrap();
        assert!(matches!(added, Added::To(_)), "{added:?}");
    }
}

/// The numbers of its files and sockets.
fn descriptors(proxy: &Proxy) -> Vec<u64> {
    let entries = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// Processor time so far, in ticks of 10 ms.
fn ticks(proxy: &Proxy) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", proxy.pid())).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields: Vec<&str> = after_name.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn many_clients_leave_the_store_its_files_and_hosts_their_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let (_host, proxy, mut client) = start(directory.path()).await;
    let done = Cell::new(false);
    let connecting = async {
        let mut busy = Vec::new();
        // More than have places; the operating system may hold no more than 128 of the others.
        for _ in 0..150 {
            let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
            stream.write_all(HALF).await.unwrap();
            busy.push(stream);
        }
        done.set(true);
        busy
    };
    // While places are scarce, a client that falls silent loses its own.
    let calling = async {
        while !done.get() {
            count(&mut client, 1).await;
        }
        count(&mut client, 100).await;
    };
    let (_busy, ()) = tokio::join!(connecting, calling);
    let (open, before) = (descriptors(&proxy).len(), ticks(&proxy));
    sleep(Duration::from_secs(2)).await;
    let spent = ticks(&proxy) - before;
    eprintln!("{open} open files and sockets, {spent} ticks in 2 s");
    assert!(open < 256 - 64, "{open} are open: some are left for hosts and the store");
    assert!(spent < 100, "{spent} ticks in 2 s: it spins");
    let said = proxy.said(LIMIT).await.join("\n");
    let told = "at most 256 files and sockets may be open: 64 connections of clients, 64 to hosts, 64 files of the store";
    assert!(said.contains(told), "{said}");
}

#[tokio::test]
async fn without_a_descriptor_left_a_connection_is_refused_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let (_host, proxy, mut client) = start(directory.path()).await;
    count(&mut client, 10).await;
    let mut scraper = Client::connect(proxy.address()).await.unwrap();
    scraper.get("/health").await.unwrap();
    let pid = Pid::from_raw(proxy.pid());
    // The limit is on numbers: one that is free is not to be had from here on.
    let open = descriptors(&proxy);
    let limit = (0..256).find(|number| !open.contains(number)).unwrap();
    let lowered = Rlimit { current: Some(limit), maximum: Some(256) };
    prlimit(pid, Resource::Nofile, lowered).unwrap();
    let before = ticks(&proxy);
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(TcpStream::connect(proxy.address()).await.unwrap());
    }
    let last = timeout(LIMIT, streams[39].read(&mut [0])).await.expect("it is refused");
    assert!(matches!(last, Ok(0) | Err(_)), "{last:?}");
    // These have their connections, and so has the host.
    count(&mut client, 10).await;
    let metrics = scraper.get("/metrics").await.unwrap().body;
    let metrics = String::from_utf8_lossy(&metrics);
    let refused = r#"tidegate_http_connections_refused_total{reason="descriptors"}"#;
    let line = metrics.lines().find(|line| line.starts_with(refused));
    eprintln!("with a limit of {limit}: {line:?}");
    assert!(line.is_some(), "{metrics}");
    sleep(Duration::from_secs(2)).await;
    assert!(ticks(&proxy) - before < 100, "it spins");
}
