//! Places: where a start makes files and opens ports. A file is not made to see whether it can be.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{Access, access};

use super::Finding;
use crate::config::{AdminListen, Settings};
use crate::ingress::{BindError, Socket};

/// The file of audit lines. `None`: there is none.
pub(super) fn audit_file(settings: &Settings) -> Option<Finding> {
    let about = "audit";
    let path = settings.http.audit_file.as_deref()?;
    let shown = path.display();
    Some(match may_be_written(path) {
        Ok(()) => Finding::ok(about, format!("{shown} can be written")),
        Err(error) => Finding::error(
            about,
            format!(
                "cannot write audit lines to {shown}: {error}; a start fails (73): TIDEGATE_AUDIT_FILE says where they go"
            ),
        ),
    })
}

/// Whether a start could listen on a Unix socket at this path.
///
/// # Errors
/// When something else is there, another process listens on it, or its file cannot be made. `NotFound`: its directory is
/// missing.
pub(crate) async fn may_listen(path: &Path) -> Result<(), BindError> {
    Socket::check_unix(path).await?;
    let failed = |source| BindError { address: path.display().to_string(), source };
    may_be_made(path).map_err(failed)
}

/// The admin port. `None`: there is none. A port that is taken is that of the proxy when one may be running.
pub(crate) async fn admin_port(listen: Option<AdminListen>, may_run: bool) -> Option<Finding> {
    let about = "admin";
    let AdminListen { address, is_needed } = listen?;
    Some(match Socket::tcp(address).await {
        Ok(_) => Finding::ok(about, format!("nobody listens at {address}; it is free")),
        Err(error) if may_run && error.source.kind() == ErrorKind::AddrInUse => {
            Finding::ok(about, format!("{address} is in use, and a proxy runs or may be running"))
        }
        Err(error) if is_needed => Finding::error(
            about,
            format!("{error}; a start fails (69): TIDEGATE_ADMIN_ADDRESS says where to listen"),
        ),
        Err(error) => Finding::warning(
            about,
            format!(
                "no admin port: {error}; TIDEGATE_ADMIN_ADDRESS says where to open it, or that it is off"
            ),
        ),
    })
}

/// Whether a file can be appended to, or made when it is not there. A link whose target is not there is followed, as opening the
/// file does; links that lead back to themselves are an error of the operating system.
fn may_be_written(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => access(path, Access::WRITE_OK).map_err(Into::into),
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => may_be_written(&path.parent().unwrap_or(path).join(target)),
            Err(_) => may_be_made(path),
        },
        Err(error) => Err(error),
    }
}

/// Whether a file can be made in the directory of this path.
fn may_be_made(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let parent = parent.unwrap_or_else(|| Path::new("."));
    access(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(Into::into)
}
