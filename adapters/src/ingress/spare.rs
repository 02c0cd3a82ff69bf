//! Spare: a file descriptor that is kept free. When there is no other left, it accepts a connection to close it: a client that
//! is refused knows it, and the connection does not wait in line, where it would be tried again and again.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::timeout;

use super::listener::Listener;

/// See the [module](self). It is a file until it is needed.
#[derive(Debug)]
pub(super) struct Spare(Option<File>);

impl Spare {
    pub(super) fn new() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Whether a connection was not accepted because there is no file descriptor left.
    pub(super) fn is_needed(error: &io::Error) -> bool {
        [Errno::MFILE, Errno::NFILE].contains(&Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// Accepts the next connection in its place and closes it. Returns false when nobody waits, or somebody else took the place.
    pub(super) async fn refuse<L: Listener>(&mut self, listener: &mut L, limit: Duration) -> bool {
        drop(self.0.take());
        let refused = matches!(timeout(limit, listener.accept()).await, Ok(Ok(_)));
        *self = Self::new();
        refused
    }
}
