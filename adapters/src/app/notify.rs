//! Notify: tells systemd when the proxy is ready and when it begins to end (`sd_notify`, `Type=notify`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tracing::warn;

use crate::config;

/// The socket of whoever started the process; `None` when it named none.
#[derive(Debug)]
pub(super) struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// Reads `NOTIFY_SOCKET`. One that cannot be used is a warning: the proxy serves without it.
    pub(super) fn new() -> Self {
        let Some(name) = config::notify_socket() else { return Self(None) };
        let opened = address(name.as_bytes()).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // Whoever does not read must not hold the proxy up.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        Self(opened.inspect_err(|error| warn!(%error, "NOTIFY_SOCKET cannot be used")).ok())
    }

    /// The proxy serves.
    pub(super) fn ready(&self, url: &str) {
        self.send(&format!("READY=1\nSTATUS=listening on {url}"));
    }

    /// The proxy has begun to end.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=ending");
    }

    fn send(&self, state: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            warn!(%error, "the service manager was not notified");
        }
    }
}

/// A path, or with `@` a name in the abstract namespace.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}
