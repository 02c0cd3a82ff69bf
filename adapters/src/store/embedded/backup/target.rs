//! Target: makes a store of a copy, and a data directory of that store.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::super::damage::Damage;
use super::super::engine::{Background, Engine, Op, Readiness, Space, guarded};
use super::super::layout::{self, Layout};
use super::super::mark::{Acknowledged, MARK, Mark};
use super::super::{OpenError, Options, keys, reader, space};
use super::copying::Copying;
use super::totals::{Page, Totals};

/// In the engine's directory of a backup: what the copy holds in all. A data directory has no such file.
const MARKER: &str = "BACKUP";

/// How long a commit may wait for the engine's tables.
const CATCH_UP: Duration = Duration::from_mins(1);

/// A restored store claims an epoch this far above all in its data. The store that the copy was made of may have claimed
/// some since, and others may have seen effects of these; it will not have been opened this often.
const STARTS: u64 = 1 << 20;

/// Whether an engine's directory is that of a backup.
pub(crate) fn is_backup(engine: &Path) -> bool {
    engine.join(MARKER).exists()
}

/// Makes a store of the pages of a copy in an empty directory, reads it to its end, and returns its totals. `read` is told
/// how many bytes of the new store were read. Blocks.
///
/// # Errors
/// When the directory is not empty, the pages end early, or the store cannot be written. Then no store is left.
pub fn write(
    dir: &Path,
    options: &Options,
    pages: impl IntoIterator<Item = Page>,
    read: impl FnMut(u64),
) -> Result<Totals, OpenError> {
    let mut written = None;
    Layout::make(dir, layout::FORMAT, |place| {
        Engine::create(place, options)?;
        Mark::create(place).map_err(io_at(place))?;
        let totals = guarded(place, || fill(place, options, pages))?;
        check(place, options, totals, read)?;
        let marker = place.join(MARKER);
        let text = serde_json::to_vec(&totals).map_err(|error| io_at(&marker)(error.into()))?;
        fs::write(&marker, text)
            .and_then(|()| File::open(&marker)?.sync_all())
            .map_err(io_at(&marker))?;
        written = Some(totals);
        Ok(())
    })?;
    written.ok_or_else(|| Damage::new(dir, "was not written").into())
}

/// Makes a data directory of a backup, which stays as it is. The data directory must be empty. Returns the totals of the
/// backup. Blocks.
///
/// # Errors
/// When there is no backup, it is damaged, or the data directory is not empty or cannot be written. Then no store is left.
pub fn restore(
    backup: &Path,
    dir: &Path,
    options: &Options,
    read: impl FnMut(u64),
) -> Result<Totals, OpenError> {
    let (format, _unused) = layout::share(backup)?;
    let from = layout::engine_of(backup);
    let marker = from.join(MARKER);
    let totals = match fs::read(&marker) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| Damage::new(&marker, format!("cannot be decoded: {error}")))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NoBackup { dir: backup.into() });
        }
        Err(source) => return Err(OpenError::Io { path: marker, source }),
    };
    Layout::make(dir, format, |place| {
        copy(&from, place)?;
        check(place, options, totals, read)?;
        claim(place, options)
    })?;
    Ok(totals)
}

fn fill(
    place: &Path,
    options: &Options,
    pages: impl IntoIterator<Item = Page>,
) -> Result<Totals, OpenError> {
    let mut mark = Mark::open(place)?;
    let (engine, _) = Engine::open(place, options, Background::On, mark.newest(), u64::MAX)?;
    for Page { ops, totals, .. } in pages {
        if !ops.is_empty() {
            commit(&engine, &mut mark, options, ops)?;
        }
        if let Some(totals) = totals {
            engine.sync().map_err(|error| failed(place, &error))?;
            mark.sync().map_err(io_at(&place.join(MARK)))?;
            return Ok(totals);
        }
    }
    Err(OpenError::Engine { dir: place.into(), reason: "the copy broke off".into() })
}

fn commit(
    engine: &Engine,
    mark: &mut Mark,
    options: &Options,
    ops: Vec<Op>,
) -> Result<(), OpenError> {
    let engine_failed = |reason: String| OpenError::Engine { dir: engine.dir().into(), reason };
    let bytes = ops.iter().map(Op::len).sum();
    space::check(engine.dir(), options, bytes).map_err(|error| engine_failed(error.to_string()))?;
    let deadline = Instant::now() + CATCH_UP;
    while engine.readiness(bytes) != Readiness::Ready {
        if engine.readiness(bytes) == Readiness::Broken || Instant::now() >= deadline {
            return Err(engine_failed(format!("tables were not written for {CATCH_UP:?}")));
        }
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let commit = mark.newest().commit + 1;
    let seqno = engine.commit(commit, ops).map_err(|error| failed(engine.dir(), &error))?;
    mark.note(Acknowledged { commit, seqno }).map_err(io_at(&engine.dir().join(MARK)))
}

/// Opens the engine and reads all of it, as the engine checks what it reads; compares the sum.
fn check(
    place: &Path,
    options: &Options,
    totals: Totals,
    mut read: impl FnMut(u64),
) -> Result<(), OpenError> {
    let mark = Mark::open(place)?;
    let (engine, _) = Engine::open(place, options, Background::Off, mark.newest(), u64::MAX)?;
    let found = guarded(place, || {
        let (mut copying, mut page) = (Copying::of(&engine, 0), Vec::new());
        loop {
            page.clear();
            let found = copying.next(&engine, &mut page)?;
            read(copying.bytes());
            if let Some(found) = found {
                return Ok::<_, Damage>(found);
            }
        }
    })?;
    if found == totals {
        return Ok(());
    }
    let Totals { entries, bytes, .. } = totals;
    let what = format!(
        "holds {} entries ({} bytes), not the {entries} entries ({bytes} bytes) of the copy",
        found.entries, found.bytes
    );
    Err(Damage::new(place, what).into())
}

/// Claims an epoch above all in the data (decision 18 b).
fn claim(place: &Path, options: &Options) -> Result<(), OpenError> {
    let mut mark = Mark::open(place)?;
    let (engine, _) = Engine::open(place, options, Background::Off, mark.newest(), u64::MAX)?;
    let epoch = reader::epoch(&engine)?.saturating_add(STARTS);
    let claimed = Op::put(Space::Current, keys::EPOCH.to_vec(), epoch.to_be_bytes().to_vec());
    commit(&engine, &mut mark, options, vec![claimed])?;
    engine.sync().map_err(|error| failed(place, &error))?;
    mark.sync().map_err(io_at(&place.join(MARK)))
}

/// Copies the files of a backup's engine, less the marker, and makes them durable.
fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    fs::create_dir(to).map_err(io_at(to))?;
    for entry in from.read_dir().map_err(io_at(from))? {
        let entry = entry.map_err(io_at(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(io_at(&source))?.is_dir() {
            copy(&source, &target)?;
        } else if entry.file_name() != MARKER {
            // Asked first, since a copy does not tell which of the two files failed.
            File::open(&source).map_err(io_at(&source))?;
            let copied = fs::copy(&source, &target).and_then(|_| File::open(&target)?.sync_all());
            copied.map_err(io_at(&target))?;
        }
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(io_at(to))
}

fn failed(dir: &Path, error: &fjall::Error) -> OpenError {
    OpenError::Engine { dir: dir.into(), reason: error.to_string() }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> OpenError + '_ {
    |source| OpenError::Io { path: path.into(), source }
}
