//! Notify: the service manager is told when the proxy is ready and when it begins to end.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::LIMIT;
use crate::support::client::Client;
use crate::support::proxy::{Proxy, embedded};

/// How long a message may take.
const MESSAGE_LIMIT: Duration = Duration::from_secs(30);

fn next(manager: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let len = manager.recv(&mut message).expect("a message within its limit");
    String::from_utf8(message[..len].to_vec()).unwrap()
}

async fn told(manager: &UnixDatagram, name: &str, data: &Path) {
    manager.set_read_timeout(Some(MESSAGE_LIMIT)).unwrap();
    let mut settings = embedded(data, "1");
    settings.extend([("NOTIFY_SOCKET", name), ("TIDEGATE_DRAIN_DELAY", "0s")]);
    let mut proxy = Proxy::start(&settings).await;
    let ready = next(manager);
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    let status = format!("STATUS=listening on http://{}", proxy.address());
    assert!(ready.lines().any(|line| line == status), "{ready}");
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(client.get("/health/readiness").await.unwrap().status, 200);
    drop(client);
    proxy.signal(Signal::TERM);
    let stopping = next(manager);
    assert!(stopping.lines().any(|line| line == "STOPPING=1"), "{stopping}");
    assert_eq!(proxy.wait(LIMIT).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manager_is_told_of_readiness_and_of_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    told(&manager, path.to_str().unwrap(), &dir.path().join("a")).await;
    // systemd may use a name without a file, too.
    let name = format!("tidegate-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    told(&manager, &format!("@{name}"), &dir.path().join("b")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_does_not_start_is_never_ready_and_a_manager_that_is_gone_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("FORMAT"), "tidegate store 99\n").unwrap();
    let mut settings = embedded(&data, "1");
    settings.push(("NOTIFY_SOCKET", path.to_str().unwrap()));
    let (code, _) = Proxy::refused(&settings).await;
    assert_eq!(code, Some(65));
    // It has ended: what it would have sent is here.
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 100]).is_err(), "not ready");

    drop(manager);
    std::fs::remove_file(data.join("FORMAT")).unwrap();
    settings.push(("TIDEGATE_DRAIN_DELAY", "0s"));
    let proxy = Proxy::start(&settings).await;
    assert_eq!(proxy.terminate(LIMIT).await.code(), Some(0));
}
