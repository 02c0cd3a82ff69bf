//! Check: reads a whole file before any of it is applied.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::grammar::{Grammar, Item, Part};
use super::lines::{Mark, Reader};
use super::{OfflineError, Progress, progress};
use crate::store::Vault;

/// A complete file whose every line is valid.
#[derive(Debug)]
pub struct Checked {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// The position after the header.
    pub(super) first: Mark,
    /// Sum of the last line.
    pub(super) sum: u64,
    /// All systems named in the file.
    pub(super) systems: BTreeSet<String>,
    /// The newest epoch in the file.
    pub(super) newest_epoch: u64,
}

/// Reads a whole file and opens all sealed values.
///
/// # Errors
/// When the file cannot be read, is damaged, cut short, of a later format, or sealed with another key.
pub fn check(path: &Path, vault: &Vault) -> Result<Checked, OfflineError> {
    let io = OfflineError::file(path);
    let file = File::open(path).map_err(&io)?;
    let bytes = file.metadata().map_err(&io)?.len();
    let mut progress = Progress::new("checking", bytes);
    let checked = read(path, file, vault, &mut progress);
    progress.end();
    checked
}

fn read(
    path: &Path,
    file: File,
    vault: &Vault,
    progress: &mut Progress,
) -> Result<Checked, OfflineError> {
    let (mut reader, header) = Reader::open(path, file)?;
    let key = |error: crate::store::SealError| OfflineError::Key {
        path: path.into(),
        why: error.to_string(),
    };
    header.check_seal(vault).map_err(key)?;
    let first = reader.mark();
    let (mut grammar, mut systems) = (Grammar::of_format(header.format), BTreeSet::new());
    while let Some(line) = reader.next()? {
        let item = grammar.take(line, header.seal(vault)).map_err(|why| reader.damaged(why))?;
        let system = match &item {
            Item::Registered(entry) => &*entry.id().system,
            Item::Actor(actor) => &actor.system,
            Item::Due(entry) => &entry.key.source.system,
            Item::Schedule(row) => &row.key.system,
            Item::Pause(pause) => pause.actor.system(),
            Item::Revision(_) | Item::Outbox(_) | Item::Seen(_) | Item::Head(_) | Item::End => {
                continue;
            }
        };
        if !systems.contains(system) {
            systems.insert(system.to_owned());
        }
        let read = reader.mark().offset;
        progress.at(read, || format!("{} read", progress::bytes(read)));
    }
    if grammar.part != Part::End {
        return Err(reader.damaged("it ends here, without its end: the export was interrupted"));
    }
    let Mark { offset, sum, .. } = reader.mark();
    let newest_epoch = grammar.newest_epoch;
    Ok(Checked { path: path.into(), bytes: offset, first, sum, systems, newest_epoch })
}
