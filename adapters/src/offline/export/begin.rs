//! Begin: opens the file of an export, and finds out how far an earlier run has come.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tidegate_stages::ports::Registered;

use super::Export;
use crate::offline::OfflineError;
use crate::offline::format::FORMAT;
use crate::offline::grammar::{Grammar, Item, Part};
use crate::offline::lines::{Mark, Reader};
use crate::store::Vault;

/// First bytes of every export.
const BEGINNING: &[u8] = b"{\"tidegate_export\":";
/// Every header is shorter than this.
const HEADER_BYTES: usize = 4096;

/// Returns where an export is written: it gets its own name once it is whole. What stands under that name already is
/// continued there.
pub(super) fn file_of(export: &Export<'_>) -> Result<PathBuf, OfflineError> {
    let mut unfinished = export.path.as_os_str().to_owned();
    unfinished.push(".part");
    match (export.path.exists(), export.resume) {
        (true, false) => Err(OfflineError::Exists(export.path.into())),
        (true, true) => Ok(export.path.into()),
        (false, _) => Ok(unfinished.into()),
    }
}

/// Creates the file, or finds the position in it at which to continue.
pub(super) fn begin(
    export: &Export<'_>,
    path: &Path,
    registered: &[Registered],
) -> Result<(File, Option<(Mark, Grammar)>), OfflineError> {
    let io = OfflineError::file(path);
    // The file may hold states in the clear: only its owner may read it.
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    if !export.resume {
        return match options.create_new(true).open(path) {
            Ok(file) => Ok((file, None)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OfflineError::Exists(path.into()))
            }
            Err(error) => Err(OfflineError::NotMade { path: path.into(), error }),
        };
    }
    let file = options.create(true).truncate(false).open(path);
    let file = file.map_err(|error| OfflineError::NotMade { path: path.into(), error })?;
    let reading = file.try_clone().map_err(&io)?;
    if is_beginning(&file).map_err(&io)? {
        return Ok((file, None));
    }
    let (mut reader, header) = Reader::open(path, reading)?;
    if header.format != FORMAT {
        let (path, format) = (path.display(), header.format);
        let text = format!("{path} was begun in format {format}, not {FORMAT}; begin a new export");
        return Err(OfflineError::Refused(text));
    }
    if header.seal.is_some() != export.vault.is_some() {
        let path = path.display();
        let how = if header.seal.is_some() { "with" } else { "without" };
        return Err(OfflineError::Refused(format!("{path} was begun {how} --sealed")));
    }
    let vault = Vault::default();
    let vault = export.vault.unwrap_or(&vault);
    let key = |error: crate::store::SealError| OfflineError::Key {
        path: path.into(),
        why: error.to_string(),
    };
    header.check_seal(vault).map_err(key)?;
    let seal = header.seal(vault);
    let mut grammar = Grammar::of_format(header.format);
    let mut whole = (reader.mark(), grammar.clone());
    loop {
        match reader.next() {
            Ok(Some(line)) => {
                let item = grammar.take(line, seal).map_err(|why| reader.damaged(why))?;
                match &item {
                    Item::Registered(entry) => {
                        let place =
                            usize::try_from(grammar.counts.registered - 1).unwrap_or(usize::MAX);
                        if registered.get(place) != Some(entry) {
                            return Err(changed(path));
                        }
                    }
                    // Rows of effects are few, so they are all read again.
                    Item::Actor(_) | Item::Outbox(_) | Item::Seen(_) => continue,
                    Item::Revision(_)
                    | Item::Head(_)
                    | Item::Due(_)
                    | Item::Schedule(_)
                    | Item::Pause(_)
                    | Item::End => {}
                }
                whole = (reader.mark(), grammar.clone());
            }
            Ok(None) => {
                let all = grammar.counts.registered == registered.len() as u64;
                if grammar.part != Part::Registered && !all {
                    return Err(changed(path));
                }
                return Ok((file, Some(whole)));
            }
            Err(_) if reader.is_torn() => return Ok((file, Some(whole))),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a file holds only a part of a header, because the export was interrupted before the first line
/// was complete.
fn is_beginning(file: &File) -> io::Result<bool> {
    let mut begun = [0; BEGINNING.len()];
    let len = file.read_at(&mut begun, 0)?;
    let begun = begun.get(..len).unwrap_or_default();
    if !BEGINNING.starts_with(begun) {
        return Ok(false);
    }
    let mut first = vec![0; HEADER_BYTES];
    let len = file.read_at(&mut first, 0)?;
    Ok(len < HEADER_BYTES && !first.iter().take(len).any(|byte| *byte == b'\n'))
}

fn changed(path: &Path) -> OfflineError {
    let path = path.display();
    let text = format!("what is registered has changed since {path} was begun; begin a new export");
    OfflineError::Refused(text)
}
