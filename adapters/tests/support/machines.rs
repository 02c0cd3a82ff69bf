//! Machines: tests on a network of two machines, which ends with them.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream};

use super::namespace::{run, this, unshare};

/// The machine that the test and the proxy run on, seen from [`elsewhere`].
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Another machine, seen from this one.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Makes a network of two machines: this one, and one that is entered with [`elsewhere`]. Both end with their processes.
const NETWORK: &str = "mount -t tmpfs none /run && ip link set lo up \
    && ip netns add elsewhere && ip link add here type veth peer name there netns elsewhere \
    && ip addr add 10.77.0.1/24 dev here && ip link set here up \
    && ip -n elsewhere addr add 10.77.0.2/24 dev there && ip -n elsewhere link set there up \
    && ip -n elsewhere link set lo up";

/// Runs an ignored test of this binary in a process of its own, on a machine that has a network with [`elsewhere`].
pub(crate) fn run_on_network(name: &str) {
    let rights: [&[&str]; 2] = [&["--net"], &["--user", "--map-root-user", "--net"]];
    let mut said = Vec::new();
    for rights in rights {
        let output = unshare(rights, NETWORK, Path::new("/")).output().expect("unshare starts");
        if output.status.success() {
            let script = format!("{NETWORK} && exec \"$@\"");
            let mut command = unshare(rights, &script, Path::new("/"));
            command.arg(this());
            return run(command, name);
        }
        said.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    panic!(
        "no network of two machines: it takes root (or user namespaces), unshare and ip; {said:?}"
    );
}

/// Runs this on the other machine, in a thread of its own: what it opens belongs there, also later.
pub(crate) async fn elsewhere<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let network = std::fs::File::open("/run/netns/elsewhere").expect("the other machine");
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(network.as_fd(), kind).expect("it can be entered");
        drop(done.send(run()));
    });
    result.await.expect("it ran")
}

/// A connection from the other machine to `address`.
pub(crate) async fn connect_from_elsewhere(address: &str) -> std::io::Result<TcpStream> {
    let address = address.to_owned();
    let stream = elsewhere(move || std::net::TcpStream::connect(address)).await?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Listens on the other machine, on a port of the system's choice.
pub(crate) async fn listen_elsewhere() -> TcpListener {
    let bound = elsewhere(|| std::net::TcpListener::bind((ELSEWHERE, 0))).await;
    let listener = bound.expect("a free port");
    listener.set_nonblocking(true).expect("it can be asked");
    TcpListener::from_std(listener).expect("a listener")
}
