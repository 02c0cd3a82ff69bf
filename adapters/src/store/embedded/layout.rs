//! Layout: the files in a data directory.
//!
//! ```text
//! LOCK      locked by the process that has the store open; holds its process id
//! FORMAT    "tidegate store 2": the format of everything below
//! engine/   the engine's files, and MARK; in a backup also BACKUP
//! ```
//! A new `engine` and its `FORMAT` are completed under other names. Then `engine` is renamed, durably, then `FORMAT`: an interrupted
//! creation leaves no half-made engine, and where it leaves one without `FORMAT`, its format is in the file with the other name.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::OpenError;
use super::damage::Damage;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 2;

/// The oldest format that this version can bring up to [`FORMAT`].
const OLDEST: u32 = 1;

const FORMAT_WORDS: &str = "tidegate store ";
const FORMAT_FILE: &str = "FORMAT";
const UNFINISHED_FORMAT_FILE: &str = "FORMAT.unfinished";
const LOCK_FILE: &str = "LOCK";
const ENGINE_DIR: &str = "engine";
const UNFINISHED_DIR: &str = "engine.unfinished";

/// A data directory that this process has locked.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    /// The format of what is there.
    pub(super) format: u32,
    // The operating system releases the lock when the file is closed.
    _lock: File,
}

impl Layout {
    /// Locks the directory and creates it if needed; `create` makes a new engine and its
    /// mark at the given path.
    pub(super) fn open(
        dir: &Path,
        create: impl FnOnce(&Path) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.into(), source };
        // States are for the proxy's own user. A directory that is there keeps its mode.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let lock = lock(dir)?;
        let format = read_format(dir)?;
        let mut layout = Self { dir: dir.into(), format: format.unwrap_or(FORMAT), _lock: lock };
        let engine = layout.engine();
        match (format, engine.exists()) {
            (Some(_), true) => {}
            (Some(_), false) => {
                return Err(gone(&engine).into());
            }
            (None, false) => {
                refuse_strangers(dir)?;
                layout.complete(create)?;
            }
            // Interrupted between the last two steps of `complete`: the engine is whole.
            (None, true) => {
                layout.format = unfinished_format(dir)?;
                write_format(dir, layout.format).map_err(io)?;
            }
        }
        Ok(layout)
    }

    /// Locks an empty directory, or one that an interrupted `make` left, and makes a store of this format in it; `create` is
    /// as for [`open`](Self::open). Nothing is left of a store that was not completed, nor of directories made for it.
    pub(super) fn make(
        dir: &Path,
        format: u32,
        create: impl FnOnce(&Path) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let missing: Vec<_> = dir.ancestors().take_while(|at| !at.exists()).collect();
        let made = Self::make_in(dir, format, create);
        if made.is_err() {
            // The error counts. The innermost comes first; one that holds something meanwhile stays.
            for dir in missing {
                drop(fs::remove_dir(dir));
            }
        }
        made
    }

    fn make_in(
        dir: &Path,
        format: u32,
        create: impl FnOnce(&Path) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        let refuse = || {
            refuse_strangers(dir).map_err(|error| match error {
                OpenError::UnknownEntry { dir, entry } => OpenError::NotEmpty { dir, entry },
                error => error,
            })
        };
        refuse()?;
        let lock_file = dir.join(LOCK_FILE);
        let had_lock = lock_file.exists();
        let layout = Self { dir: dir.into(), format, _lock: lock(dir)? };
        // Another process may have made one meanwhile.
        refuse()?;
        let completed = layout.complete(create);
        if completed.is_err() {
            layout.clear();
            if !had_lock {
                // Still locked: see `lock`.
                drop(fs::remove_file(lock_file));
            }
        }
        completed.map(|()| layout)
    }

    fn complete(
        &self,
        create: impl FnOnce(&Path) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let dir = &*self.dir;
        let io = |source| OpenError::Io { path: dir.into(), source };
        let unfinished = dir.join(UNFINISHED_DIR);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(io)?;
        }
        create(&unfinished)?;
        sync_dir(&unfinished).map_err(io)?;
        write_unfinished_format(dir, self.format).map_err(io)?;
        fs::rename(&unfinished, self.engine()).map_err(io)?;
        // A file system may keep two renames in any order: with `FORMAT` alone the engine would be taken for one that is gone.
        sync_dir(dir).map_err(io)?;
        finish_format(dir).map_err(io)?;
        // The directory itself may be new, so its parent is synced.
        let parent = dir.parent().filter(|parent| *parent != Path::new(""));
        sync_dir(parent.unwrap_or_else(|| Path::new("."))).map_err(io)
    }

    /// Removes what [`complete`](Self::complete) has made, all of which is ours: the directory was empty. It takes back the steps
    /// of `complete` in reverse order, so that an interrupted removal leaves what an interrupted creation leaves. The error of
    /// `complete` counts, and not those of this.
    fn clear(&self) {
        let (engine, unfinished) = (self.engine(), self.dir.join(UNFINISHED_DIR));
        let unfinished_format = self.dir.join(UNFINISHED_FORMAT_FILE);
        drop(fs::rename(self.dir.join(FORMAT_FILE), &unfinished_format));
        if engine.exists() {
            drop(fs::remove_dir_all(&unfinished));
            if fs::rename(&engine, &unfinished).is_err() {
                // It stays whole.
                return;
            }
        }
        drop(fs::remove_file(unfinished_format));
        drop(fs::remove_dir_all(unfinished));
    }

    /// Locks a directory that holds a store. Creates only the lock file, and nothing in a directory without
    /// a store. Refuses an older format.
    pub(super) fn find(dir: &Path) -> Result<Self, OpenError> {
        // Creation writes this file last: without it there is no store.
        let Some(format) = read_format(dir)? else {
            return Err(OpenError::Missing { dir: dir.into() });
        };
        if format < FORMAT {
            return Err(OpenError::Older { dir: dir.into(), found: format, known: FORMAT });
        }
        let layout = Self { dir: dir.into(), format, _lock: lock(dir)? };
        let engine = layout.engine();
        if engine.exists() { Ok(layout) } else { Err(gone(&engine).into()) }
    }

    /// Notes that the engine's content is of this version's format. The last step of a migration.
    pub(super) fn migrated(&mut self) -> Result<(), OpenError> {
        write_format(&self.dir, FORMAT)
            .map_err(|source| OpenError::Io { path: self.dir.clone(), source })?;
        self.format = FORMAT;
        Ok(())
    }

    pub(super) fn engine(&self) -> PathBuf {
        engine_of(&self.dir)
    }
}

/// Where a data directory has its engine.
pub(super) fn engine_of(dir: &Path) -> PathBuf {
    dir.join(ENGINE_DIR)
}

/// Keeps a store that is only copied from being opened meanwhile, and returns its format. Writes nothing: the store may be on
/// a read-only device.
pub(super) fn share(dir: &Path) -> Result<(u32, Option<File>), OpenError> {
    let Some(format) = read_format(dir)? else {
        return Err(OpenError::Missing { dir: dir.into() });
    };
    let path = dir.join(LOCK_FILE);
    let mut lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if is_missing(&error) => return Ok((format, None)),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(OpenError::Locked { dir: dir.into(), holder: holder(&mut lock) });
        }
        Err(error) => return Err(OpenError::Io { path, source: error.into() }),
    }
    if !is_at(&path, &lock).map_err(|source| OpenError::Io { path, source })? {
        return Err(OpenError::Locked { dir: dir.into(), holder: None });
    }
    Ok((format, Some(lock)))
}

/// Whether the file at this path is the opened lock file. A process that gives up making a store removes the lock file while it holds
/// the lock. Another process that had opened the removed file holds the lock of no directory.
fn is_at(path: &Path, lock: &File) -> io::Result<bool> {
    let own = lock.metadata()?;
    let is_own = |there: fs::Metadata| (there.dev(), there.ino()) == (own.dev(), own.ino());
    Ok(fs::metadata(path).is_ok_and(is_own))
}

pub(super) fn gone(engine: &Path) -> Damage {
    Damage::new(engine, "is gone, though FORMAT is there")
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = file.map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = holder(&mut file);
            return Err(OpenError::Locked { dir: dir.into(), holder });
        }
        Err(error) => return Err(io(error.into())),
    }
    if !is_at(&path, &file).map_err(io)? {
        return Err(OpenError::Locked { dir: dir.into(), holder: None });
    }
    file.set_len(0).map_err(io)?;
    file.rewind().map_err(io)?;
    writeln!(file, "{}", std::process::id()).map_err(io)?;
    Ok(file)
}

/// The process that holds the lock. Only for the message: it does not matter if it has not written its id yet.
fn holder(lock: &mut File) -> Option<u32> {
    let mut holder = String::new();
    drop(lock.read_to_string(&mut holder));
    holder.trim().parse().ok()
}

fn read_format(dir: &Path) -> Result<Option<u32>, OpenError> {
    read_format_in(dir, FORMAT_FILE)
}

/// The format of an engine whose creation was interrupted after the engine had got its name.
fn unfinished_format(dir: &Path) -> Result<u32, OpenError> {
    match read_format_in(dir, UNFINISHED_FORMAT_FILE) {
        Ok(found) => Ok(found.unwrap_or(FORMAT)),
        // Versions up to 0.3.0 began this file after the engine had its name, and made stores of this format.
        Err(OpenError::Damaged(_)) => Ok(FORMAT),
        Err(error) => Err(error),
    }
}

fn read_format_in(dir: &Path, name: &str) -> Result<Option<u32>, OpenError> {
    let path = dir.join(name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    let text = str::from_utf8(&text).ok();
    let number = text.and_then(|text| text.strip_prefix(FORMAT_WORDS)?.strip_suffix('\n'));
    match number.and_then(|number| number.parse().ok()) {
        Some(found) if (OLDEST..=FORMAT).contains(&found) => Ok(Some(found)),
        Some(found) if found > FORMAT => {
            Err(OpenError::Newer { dir: dir.into(), found, known: FORMAT })
        }
        Some(_) | None => Err(Damage::new(&path, "does not name a format").into()),
    }
}

/// Whether the error means that the file, or the directory on the way to it, does not exist.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn write_format(dir: &Path, format: u32) -> io::Result<()> {
    write_unfinished_format(dir, format)?;
    finish_format(dir)
}

fn write_unfinished_format(dir: &Path, format: u32) -> io::Result<()> {
    let mut file = File::create(dir.join(UNFINISHED_FORMAT_FILE))?;
    writeln!(file, "{FORMAT_WORDS}{format}")?;
    file.sync_all()?;
    sync_dir(dir)
}

fn finish_format(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(UNFINISHED_FORMAT_FILE), dir.join(FORMAT_FILE))?;
    sync_dir(dir)
}

/// Refuses a directory with unknown files, so that a mistyped path creates nothing there.
fn refuse_strangers(dir: &Path) -> Result<(), OpenError> {
    let ours = [LOCK_FILE, UNFINISHED_DIR, UNFINISHED_FORMAT_FILE, "lost+found"];
    let io = |source| OpenError::Io { path: dir.into(), source };
    for entry in dir.read_dir().map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        if !ours.iter().any(|known| name == *known) {
            return Err(OpenError::UnknownEntry { dir: dir.into(), entry: name.into() });
        }
    }
    Ok(())
}

/// Refuses a directory without a store in which opening makes none. Changes nothing.
pub(super) fn check_free(dir: &Path) -> Result<(), OpenError> {
    match refuse_strangers(dir) {
        // It is made, or its store is completed.
        Err(_) if !dir.exists() || engine_of(dir).exists() => Ok(()),
        refused => refused,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes an empty engine.
    fn create(place: &Path) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { path: place.into(), source };
        fs::create_dir(place).map_err(io)
    }

    #[test]
    fn of_a_store_whose_making_fails_at_the_end_no_engine_is_left() {
        let dir = tempfile::tempdir().unwrap();
        // The file of the format cannot be named, when the engine has its name already.
        let in_the_way = dir.path().join(FORMAT_FILE);
        let made = Layout::make(dir.path(), FORMAT, |place| {
            fs::create_dir(&in_the_way).unwrap();
            create(place)
        });
        assert!(matches!(made.unwrap_err(), OpenError::Io { .. }));
        fs::remove_dir(&in_the_way).unwrap();
        let left: Vec<_> = dir.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_store_that_was_named_before_its_format_has_the_format_it_was_made_with() {
        for (unfinished, expected) in [
            (Some("tidegate store 1\n"), 1),
            (Some("tidegate store 2\n"), 2),
            // Of an older version.
            (Some("tidegate sto"), 2),
            (None, 2),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join(ENGINE_DIR)).unwrap();
            if let Some(unfinished) = unfinished {
                fs::write(dir.path().join(UNFINISHED_FORMAT_FILE), unfinished).unwrap();
            }
            let opened = Layout::open(dir.path(), |_| panic!("it is there")).unwrap();
            assert_eq!(opened.format, expected, "{unfinished:?}");
            assert_eq!(read_format(dir.path()).unwrap(), Some(expected));
        }
    }

    #[test]
    fn creation_that_is_interrupted_at_the_end_is_completed_by_the_next_open() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = dir.path().join(FORMAT_FILE);
        let lock = lock(dir.path()).unwrap();
        let interrupted = Layout { dir: dir.path().into(), format: 1, _lock: lock };
        fs::create_dir(&in_the_way).unwrap();
        assert!(interrupted.complete(create).is_err());
        drop(interrupted);
        fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(Layout::open(dir.path(), |_| panic!("it is there")).unwrap().format, 1);
    }

    #[test]
    fn a_lock_file_that_was_removed_locks_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK_FILE);
        let lock = File::create(&path).unwrap();
        assert!(is_at(&path, &lock).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&path, &lock).unwrap());
        File::create(&path).unwrap();
        assert!(!is_at(&path, &lock).unwrap(), "it is another file");
    }
}
