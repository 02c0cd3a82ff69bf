//! Socket file: the file of a Unix socket in the file system.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

/// The file of a bound socket. Drop removes the file, unless another file has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Takes the file that was just bound.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> io::Result<()> {
        if identity(&self.path)? != self.identity {
            return Err(io::Error::other("another file has taken its place"));
        }
        fs::remove_file(&self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(path = %self.path.display(), %error, "socket file not removed");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket that nobody listens on.
///
/// # Errors
/// When the path holds anything else; it is not removed.
pub(super) async fn remove_stale(path: &Path) -> io::Result<()> {
    if is_stale(path).await? {
        fs::remove_file(path)?;
        tracing::info!(path = %path.display(), "stale socket file removed");
    }
    Ok(())
}

/// Whether the path holds a socket that nobody listens on, and not nothing.
///
/// # Errors
/// When the path holds anything else.
pub(super) async fn is_stale(path: &Path) -> io::Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("what is there is not a socket, and it is left as it is"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
        // A datagram socket, a full backlog or a lack of rights: a process may still listen.
        Err(error) => Err(io::Error::other(format!("another process may listen on it ({error})"))),
    }
}
