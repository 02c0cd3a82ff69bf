//! Made: the files that commands write.

use std::fs::{File, create_dir_all};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::app::StartError;

/// Makes the directory of the file at this path, and those above it, where they are missing.
///
/// # Errors
/// When one cannot be made, or something else has its name.
pub(super) fn directory_of(path: &Path) -> Result<(), StartError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    create_dir_all(parent).map_err(|error| {
        let (failed, parent) = (failed(path), parent.display());
        StartError::NotMade(format!("{failed}: cannot make the directory {parent}: {error}"))
    })
}

/// Writes all of the content to a file that was just opened at this path.
///
/// # Errors
/// When the file was not opened, or cannot be written to its end: then it may hold the beginning of the content.
pub(super) fn write(
    path: &Path,
    opened: io::Result<File>,
    content: &[u8],
) -> Result<(), StartError> {
    let mut file = opened.map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            let text = format!("{} is there already: it stays as it is", path.display());
            return StartError::NotMade(text);
        }
        not_made(path, &error)
    })?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(|error| StartError::File { doing: failed(path), error })
}

/// Why a file or directory is not made: nothing was written to it.
pub(super) fn not_made(path: &Path, error: &io::Error) -> StartError {
    StartError::NotMade(format!("{}: {error}", failed(path)))
}

fn failed(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
