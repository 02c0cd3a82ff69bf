//! Mark: the newest acknowledged commit, kept beside the engine, so that opening notices silent loss.
//!
//! `MARK` holds the number of the newest acknowledged commit. It is written after the sync of each commit
//! and before the results are returned, and synced about once a second. So the mark is never ahead of
//! durable data. It is exact after the process was killed, and at most about a second old after a power
//! loss. Two slots in two pages take turns, so that a torn or damaged slot leaves the other intact.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::damage::Damage;

/// Name of the file, in the engine's directory.
pub(super) const MARK: &str = "MARK";

const MAGIC: [u8; 8] = *b"TGMARK\0\x01";
const SLOT_BYTES: usize = 32;
const SLOT_OFFSETS: [u64; 2] = [0, 4_096];

/// An acknowledged commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Number of the commit, counted from 1 without gaps.
    pub(super) commit: u64,
    /// The engine's next sequence number after the commit; higher than that of the commit's batch.
    pub(super) seqno: u64,
}

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    newest: Acknowledged,
    next_slot: usize,
    is_synced: bool,
}

impl Mark {
    /// Creates a mark file that holds no acknowledged commit.
    pub(super) fn create(dir: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).open(dir.join(MARK))?;
        for offset in SLOT_OFFSETS {
            file.write_all_at(&encode(Acknowledged::default()), offset)?;
        }
        file.sync_all()
    }

    /// Opens the file and reads the newest acknowledged commit.
    pub(super) fn open(dir: &Path) -> Result<Self, Damage> {
        let (file, next_slot, newest) = Self::read(dir, OpenOptions::new().read(true).write(true))?;
        Ok(Self { file, newest, next_slot, is_synced: true })
    }

    /// Reads the newest acknowledged commit of a mark that will not be written, also on a read-only device.
    pub(super) fn peek(dir: &Path) -> Result<Acknowledged, Damage> {
        Self::read(dir, OpenOptions::new().read(true)).map(|(_, _, newest)| newest)
    }

    fn read(dir: &Path, how: &OpenOptions) -> Result<(File, usize, Acknowledged), Damage> {
        let path = dir.join(MARK);
        let file = how.open(&path).map_err(|error| Damage::io(&path, &error))?;
        let slots = SLOT_OFFSETS.map(|offset| {
            let mut slot = [0; SLOT_BYTES];
            file.read_exact_at(&mut slot, offset).ok().and_then(|()| decode(&slot))
        });
        let (next_slot, newest) = match slots {
            [Some(a), Some(b)] if a.commit < b.commit => (0, b),
            [Some(a), _] => (1, a),
            [None, Some(b)] => (0, b),
            [None, None] => return Err(Damage::new(&path, "both of its slots are damaged")),
        };
        Ok((file, next_slot, newest))
    }

    /// Returns the newest acknowledged commit.
    pub(super) fn newest(&self) -> Acknowledged {
        self.newest
    }

    /// Writes a commit to the mark. The operating system has the write when this returns;
    /// [`sync`](Self::sync) makes it durable.
    ///
    /// The commit counts as acknowledged even when this fails: the commit is durable, only the mark is
    /// older.
    pub(super) fn note(&mut self, acknowledged: Acknowledged) -> io::Result<()> {
        self.newest = acknowledged;
        self.is_synced = false;
        let slot = self.next_slot;
        self.next_slot = 1 - slot;
        self.file.write_all_at(&encode(acknowledged), SLOT_OFFSETS[slot])
    }

    /// Makes the noted commits durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.is_synced {
            return Ok(());
        }
        if super::SYNCED {
            self.file.sync_data()?;
        }
        self.is_synced = true;
        Ok(())
    }
}

fn encode(acknowledged: Acknowledged) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&acknowledged.commit.to_be_bytes());
    slot[16..24].copy_from_slice(&acknowledged.seqno.to_be_bytes());
    let checksum = xxh3_64(&slot[..24]);
    slot[24..].copy_from_slice(&checksum.to_be_bytes());
    slot
}

fn decode(slot: &[u8; SLOT_BYTES]) -> Option<Acknowledged> {
    let number = |at: usize| Some(u64::from_be_bytes(slot.get(at..at + 8)?.try_into().ok()?));
    if slot[..8] != MAGIC || number(24)? != xxh3_64(&slot[..24]) {
        return None;
    }
    Some(Acknowledged { commit: number(8)?, seqno: number(16)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(commit: u64) -> Acknowledged {
        Acknowledged { commit, seqno: commit + 1 }
    }

    #[test]
    fn the_newest_slot_counts_and_one_damaged_slot_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        Mark::create(dir.path()).unwrap();
        let mut mark = Mark::open(dir.path()).unwrap();
        assert_eq!(mark.newest(), Acknowledged::default());
        for commit in 1..=3 {
            mark.note(at(commit)).unwrap();
        }
        mark.sync().unwrap();
        let newest_slot = 1 - mark.next_slot;
        drop(mark);
        assert_eq!(Mark::open(dir.path()).unwrap().newest(), at(3));

        let file = OpenOptions::new().write(true).open(dir.path().join(MARK)).unwrap();
        file.write_all_at(&[0xff], SLOT_OFFSETS[newest_slot] + 9).unwrap();
        let mut mark = Mark::open(dir.path()).unwrap();
        assert_eq!(mark.newest(), at(2));
        mark.note(at(4)).unwrap();
        assert_eq!(Mark::open(dir.path()).unwrap().newest(), at(4), "the damaged slot is next");

        for offset in SLOT_OFFSETS {
            file.write_all_at(&[0xff], offset + 9).unwrap();
        }
        let damage = Mark::open(dir.path()).unwrap_err();
        assert!(damage.to_string().contains("MARK"), "{damage}");
    }
}
