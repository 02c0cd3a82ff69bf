//! Made: the files that commands write.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::app::StartError;

/// Writes all of the content to a file that was just opened at this path.
///
/// # Errors
/// When the file was not opened, or cannot be written to its end: then it may hold the beginning of the content.
pub(super) fn write(
    path: &Path,
    opened: io::Result<File>,
    content: &[u8],
) -> Result<(), StartError> {
    let mut file = opened.map_err(|error| not_made(path, &error))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    written.map_err(|error| StartError::File { doing: failed(path), error })
}

/// Why a file or directory is not made: nothing was written to it.
pub(super) fn not_made(path: &Path, error: &io::Error) -> StartError {
    if error.kind() == ErrorKind::AlreadyExists {
        return StartError::NotMade(format!(
            "{} is there already: nothing is written",
            path.display()
        ));
    }
    StartError::NotMade(format!("{}: {error}", failed(path)))
}

fn failed(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
