//! Manifest: checks the files through which the engine finds its tables, before the engine opens them.
//!
//! lsm-tree 3.1 writes the checksum of each version file into `current` but never compares it, and deletes
//! tables that its version does not name: one flipped bit there would remove data. It also trusts the
//! length in a table's directory before checking that length. The engine does verify the checksums of data,
//! index and filter blocks on every disk read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::damage::Damage;

/// Keyspace ids assigned by the engine: its own keyspace, `current`, `history`.
const KEYSPACES: [&str; 3] = ["0", "1", "2"];
/// Size of `current`: number of the version (`u64`), xxh3 of its file (`u128`), kind of checksum (`u8`);
/// little-endian.
const CURRENT_BYTES: usize = 25;
/// Size of the end of a version or table file: magic, format, kind of checksum, then the xxh3 (`u128`),
/// offset and length (`u64`) of its directory.
const TRAILER_BYTES: usize = 38;
const TRAILER_MAGIC: &[u8] = b"SFA!\x01\x00";
/// A directory has at most a dozen short entries.
const MAX_DIRECTORY_BYTES: u64 = 64 * 1024;

/// Checks the versions and the table directories of all keyspaces of an engine.
pub(super) fn check(engine: &Path) -> Result<(), Damage> {
    let keyspaces = engine.join("keyspaces");
    for keyspace in KEYSPACES {
        let dir = keyspaces.join(keyspace);
        check_version(&dir)?;
        check_tables(&dir.join("tables"))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Damage> {
    fs::read(path).map_err(|error| Damage::io(path, &error))
}

fn check_version(keyspace: &Path) -> Result<(), Damage> {
    let current_path = keyspace.join("current");
    let current = read(&current_path)?;
    let current: [u8; CURRENT_BYTES] = current
        .try_into()
        .map_err(|_| Damage::new(&current_path, format!("has not {CURRENT_BYTES} bytes")))?;
    let [v0, v1, v2, v3, v4, v5, v6, v7, checksum @ .., _kind] = current;
    let version = u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]);
    let version_path = keyspace.join(format!("v{version}"));
    if !version_path.exists() {
        return Err(Damage::new(
            &current_path,
            format!("names version {version}, which is not there"),
        ));
    }
    if xxh3_128(&read(&version_path)?) != u128::from_le_bytes(checksum) {
        return Err(Damage::new(&version_path, "does not have the checksum that `current` names"));
    }
    Ok(())
}

fn check_tables(tables: &Path) -> Result<(), Damage> {
    let entries = tables.read_dir().map_err(|error| Damage::io(tables, &error))?;
    for entry in entries {
        let path: PathBuf = entry.map_err(|error| Damage::io(tables, &error))?.path();
        if !has_valid_directory(&path).map_err(|error| Damage::io(&path, &error))? {
            return Err(Damage::new(&path, "its directory does not have its checksum"));
        }
    }
    Ok(())
}

/// Accepts a file without a trailer: a crash leaves such files, and the engine refuses one that it needs.
fn has_valid_directory(path: &Path) -> std::io::Result<bool> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let Some(trailer_at) = len.checked_sub(TRAILER_BYTES as u64) else { return Ok(true) };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, trailer_at)?;
    let (magic, rest) = trailer.split_at(TRAILER_MAGIC.len());
    if magic != TRAILER_MAGIC {
        return Ok(true);
    }
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 16];
        bytes[..len].copy_from_slice(&rest[at..at + len]);
        u128::from_le_bytes(bytes)
    };
    let (checksum, place) = (number(0, 16), number(16, 8));
    let size = u128::from(trailer_at).checked_sub(place).and_then(|size| u64::try_from(size).ok());
    let Some(size) = size.filter(|size| *size <= MAX_DIRECTORY_BYTES) else { return Ok(false) };
    let mut directory = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut directory, trailer_at - size)?;
    Ok(xxh3_128(&directory) == checksum)
}
