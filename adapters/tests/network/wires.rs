//! Wires: the proxy's view of the simulated network: incoming connections, connections to hosts, and the
//! time.

use std::io;

use tidegate::host::Connect;
use tidegate::ingress::Listener;
use tidegate::net::Peer;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;
use turmoil::net::{TcpListener, TcpStream};

/// The machine that the proxy runs on.
pub(crate) const PROXY: &str = "proxy";
/// Where the proxy listens.
pub(crate) const PROXY_ADDRESS: &str = "proxy:9001";
/// The machine that the actor host runs on.
pub(crate) const ACTORS: &str = "actors";
/// Where the actor host listens.
pub(crate) const ACTORS_ADDRESS: &str = "actors:8090";

/// A port of a simulated machine.
pub(crate) struct ProxyListener(pub(crate) TcpListener);

impl Listener for ProxyListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        Ok((stream, Peer::Ip(address.ip())))
    }
}

/// Connects over simulated TCP.
#[derive(Clone)]
pub(crate) struct Wire;

impl Connect for Wire {
    type Io = TcpStream;

    async fn connect(&self, address: &HostAddress) -> io::Result<TcpStream> {
        TcpStream::connect(address.as_str()).await
    }
}

/// The simulation's time of day, the same on every machine.
#[derive(Debug)]
pub(crate) struct SimulatedClock;

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let now = turmoil::since_epoch().expect("asked from inside the simulation");
        Timestamp(u64::try_from(now.as_micros()).expect("fits until the year 586,000"))
    }
}
