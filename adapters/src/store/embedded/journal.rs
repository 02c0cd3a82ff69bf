//! Journal: reads the engine's journals before the engine does, and finds data that the engine would lose
//! silently.
//!
//! fjall 3.1 treats the first unreadable entry as the end of a journal and cuts off the rest. Its checksum
//! does not cover the sequence number of a batch. So each batch begins with a *commit record*: the number
//! of the commit, counted without gaps, and the engine's next sequence number. This module checks the
//! checksum, the number and the sequence number of each batch. Everything up to the [mark](super::mark)
//! must be there. The first break after the mark is the end; no whole batch may follow.
//!
//! Format, little-endian: `1 items:u32 seqno:u64`, then per item `2 type:u8 compression:u8 keyspace:u64
//! key:u16 value:u32 stored:u32 …key …value`, then `3 xxh3:u64 "FJL\x03"`; then zeros up to the file's
//! length.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::damage::Damage;
use super::mark::Acknowledged;

/// Key of the commit record, the first item of every batch. Every commit overwrites it. Long enough to
/// search for.
pub(super) const COMMIT_KEY: &[u8] = b"m/tidegate-commit";

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: &[u8] = b"FJL\x03";
const START_BYTES: usize = 13;
const ITEM_HEADER_BYTES: usize = 21;
/// How far the engine's sequence number may be ahead of a commit record's: flushes take some numbers, never
/// so many.
const MAX_SEQNO_LEAD: u64 = 1 << 20;

/// Returns the value of a commit record.
pub(super) fn commit_record(commit: u64, next_seqno: u64) -> [u8; 16] {
    let mut value = [0; 16];
    value[..8].copy_from_slice(&commit.to_be_bytes());
    value[8..].copy_from_slice(&next_seqno.to_be_bytes());
    value
}

/// Returns the number in a commit record.
pub(super) fn commit_number(value: &[u8]) -> Option<u64> {
    let value: [u8; 16] = value.try_into().ok()?;
    Some(u64::from_be_bytes(value[..8].try_into().ok()?))
}

/// What the journals hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Number of the newest commit; `None` when the journals hold no commit because all are in tables.
    pub(super) last: Option<u64>,
    /// Where to cut the journals: at a broken tail, or at the first commit beyond the limit.
    pub(super) cut: Option<(PathBuf, u64)>,
}

/// Checks all journals of a directory and changes nothing; the result says where to cut off commits beyond
/// `limit`.
pub(super) fn check(dir: &Path, acknowledged: Acknowledged, limit: u64) -> Result<Found, Damage> {
    let mut chain = Chain { acknowledged, last: None };
    let mut cut: Option<(PathBuf, u64)> = None;
    let mut last_path = dir.to_path_buf();
    for path in journals(dir)? {
        let mut journal = Journal::open(&path).map_err(|error| Damage::io(&path, &error))?;
        loop {
            let next = journal.next_batch().map_err(|error| Damage::io(&path, &error))?;
            match next {
                Some(batch) if cut.is_some() => {
                    let (broken, at) = cut.unwrap_or((path, batch.start));
                    return Err(Damage::new(
                        &broken,
                        format!("broken at byte {at}, followed by later commits"),
                    ));
                }
                Some(batch) if batch.commit.is_some_and(|commit| commit > limit) => {
                    return Ok(Found {
                        last: chain.last.map(|last| last.commit),
                        cut: Some((path, batch.start)),
                    });
                }
                Some(batch) => chain.add(&batch).map_err(|what| Damage::new(&path, what))?,
                None => break,
            }
        }
        let end = journal.at;
        let rest = journal.rest().map_err(|error| Damage::io(&path, &error))?;
        match rest {
            Rest::Zeros => {}
            Rest::Broken => cut = cut.or_else(|| Some((path.clone(), end))),
            Rest::WholeBatchAt(later) => {
                let what =
                    format!("broken at byte {end}, followed by a whole commit at byte {later}");
                return Err(Damage::new(&path, what));
            }
        }
        last_path = path;
    }
    let last = chain.last.map(|last| last.commit);
    if (last.is_some() || cut.is_some()) && last.unwrap_or(0) < acknowledged.commit {
        let (path, at) = cut.unwrap_or((last_path, 0));
        let last = last.map_or_else(|| "none".into(), |last| last.to_string());
        let what = format!(
            "commit {} was acknowledged, the last whole one is {last} (broken at byte {at})",
            acknowledged.commit
        );
        return Err(Damage::new(&path, what));
    }
    Ok(Found { last, cut })
}

/// Cuts a journal at a byte, durably.
pub(super) fn cut(path: &Path, at: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(at)?;
    file.sync_all()
}

fn journals(dir: &Path) -> Result<Vec<PathBuf>, Damage> {
    let mut found = Vec::new();
    for entry in dir.read_dir().map_err(|error| Damage::io(dir, &error))? {
        let path = entry.map_err(|error| Damage::io(dir, &error))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            let number = number.ok_or_else(|| Damage::new(&path, "is not a journal's name"))?;
            found.push((number, path));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// One whole batch, with a correct checksum.
#[derive(Debug)]
struct Batch {
    start: u64,
    seqno: u64,
    /// Number and next sequence number, if the batch begins with a commit record.
    commit: Option<u64>,
    next_seqno: u64,
}

/// The commits seen so far.
struct Chain {
    acknowledged: Acknowledged,
    last: Option<Link>,
}

#[derive(Clone, Copy)]
struct Link {
    commit: u64,
    seqno: u64,
}

impl Chain {
    fn add(&mut self, batch: &Batch) -> Result<(), String> {
        let Batch { start, seqno, next_seqno, .. } = *batch;
        let Some(commit) = batch.commit else {
            return Err(format!("the batch at byte {start} was not written by this store"));
        };
        if let Some(last) = self.last {
            if commit != last.commit + 1 {
                return Err(format!("commit {commit} at byte {start} follows {}", last.commit));
            }
            if next_seqno <= last.seqno {
                return Err(format!("commit {} has a wrong sequence number", last.commit));
            }
        }
        let acknowledged = self.acknowledged;
        if seqno < next_seqno
            || seqno - next_seqno > MAX_SEQNO_LEAD
            || (commit == acknowledged.commit && seqno >= acknowledged.seqno)
        {
            return Err(format!("commit {commit} at byte {start} has a wrong sequence number"));
        }
        self.last = Some(Link { commit, seqno });
        Ok(())
    }
}

/// What follows the last readable batch.
enum Rest {
    Zeros,
    Broken,
    WholeBatchAt(u64),
}

/// One journal, read forward.
struct Journal {
    file: BufReader<File>,
    at: u64,
    len: u64,
    scratch: Vec<u8>,
}

impl Journal {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let file = BufReader::with_capacity(64 * 1024, file);
        Ok(Self { file, at: 0, len, scratch: vec![0; 64 * 1024] })
    }

    /// Returns the next whole batch; `None`, without moving forward, when there is none.
    fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        let start = self.at;
        let read = self.read_batch();
        match read {
            Ok(Some(batch)) => Ok(Some(batch)),
            Ok(None) => self.seek(start).map(|()| None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.seek(start).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    fn read_batch(&mut self) -> io::Result<Option<Batch>> {
        let start = self.at;
        if self.u8()? != START {
            return Ok(None);
        }
        let items = u32::from_le_bytes(self.array()?);
        let seqno = u64::from_le_bytes(self.array()?);
        let mut checksum = Xxh3::new();
        let (mut commit, mut next_seqno) = (None, 0);
        for index in 0..items {
            let header: [u8; ITEM_HEADER_BYTES] = self.array()?;
            let [ITEM, _, 0, .., k0, k1, v0, v1, v2, v3, s0, s1, s2, s3] = header else {
                return Ok(None);
            };
            let key_len = u16::from_le_bytes([k0, k1]);
            let value_len = u32::from_le_bytes([v0, v1, v2, v3]);
            if value_len != u32::from_le_bytes([s0, s1, s2, s3]) {
                return Ok(None);
            }
            checksum.update(&header);
            let body_len = u64::from(key_len) + u64::from(value_len);
            if body_len > self.len.saturating_sub(self.at) {
                return Ok(None);
            }
            if index == 0 && usize::from(key_len) == COMMIT_KEY.len() && value_len == 16 {
                let key: [u8; COMMIT_KEY.len()] = self.array()?;
                let number: [u8; 8] = self.array()?;
                let seqno: [u8; 8] = self.array()?;
                for part in [&key[..], &number, &seqno] {
                    checksum.update(part);
                }
                commit = (key == COMMIT_KEY).then(|| u64::from_be_bytes(number));
                next_seqno = u64::from_be_bytes(seqno);
            } else {
                self.hash(body_len, &mut checksum)?;
            }
        }
        let is_whole = self.u8()? == END
            && u64::from_le_bytes(self.array()?) == checksum.digest()
            && self.array::<4>()? == TRAILER;
        Ok(is_whole.then_some(Batch { start, seqno, commit, next_seqno }))
    }

    /// Inspects everything after the last whole batch: a later whole batch proves that this is not a broken
    /// tail.
    fn rest(&mut self) -> io::Result<Rest> {
        let overlap = COMMIT_KEY.len() - 1;
        let mut window = vec![0; 256 * 1024];
        let (mut kept, mut is_zero, mut from) = (0, true, self.at);
        loop {
            self.seek(from + kept as u64)?;
            let read = self.file.read(&mut window[kept..])?;
            self.at += read as u64;
            if read == 0 {
                return Ok(if is_zero { Rest::Zeros } else { Rest::Broken });
            }
            let filled = kept + read;
            is_zero &= window[kept..filled].iter().all(|byte| *byte == 0);
            if !is_zero {
                for offset in positions_of(COMMIT_KEY, &window[..filled]) {
                    let key_at = from + offset as u64;
                    let before_key = (START_BYTES + ITEM_HEADER_BYTES) as u64;
                    let Some(start) = key_at.checked_sub(before_key) else { continue };
                    self.seek(start)?;
                    if self.next_batch()?.is_some() {
                        return Ok(Rest::WholeBatchAt(start));
                    }
                }
            }
            kept = overlap.min(filled);
            window.copy_within(filled - kept..filled, 0);
            from += (filled - kept) as u64;
        }
    }

    fn seek(&mut self, at: u64) -> io::Result<()> {
        // Keeps the buffer when the target is inside it.
        let by = i64::try_from(at).and_then(|to| i64::try_from(self.at).map(|from| to - from));
        match by {
            Ok(by) => self.file.seek_relative(by)?,
            Err(_) => self.file.seek(SeekFrom::Start(at)).map(|_| ())?,
        }
        self.at = at;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn hash(&mut self, mut len: u64, checksum: &mut Xxh3) -> io::Result<()> {
        while len > 0 {
            let step =
                usize::try_from(len).map_or(self.scratch.len(), |len| len.min(self.scratch.len()));
            let chunk = &mut self.scratch[..step];
            self.file.read_exact(chunk)?;
            checksum.update(chunk);
            self.at += step as u64;
            len -= step as u64;
        }
        Ok(())
    }
}

fn positions_of<'a>(needle: &'a [u8], haystack: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let windows = haystack.windows(needle.len()).enumerate();
    windows.filter(move |(_, window)| *window == needle).map(|(at, _)| at)
}
