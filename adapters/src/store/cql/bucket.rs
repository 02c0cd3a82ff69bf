//! Bucket: chooses the partition of the history for a revision.
//!
//! Each partition of an actor's history covers the time from its start to the start of the next. A new
//! partition begins when the newest is full, so every partition is bounded, whatever the actor's rate. It
//! never begins at the time of an earlier revision, so the last bucket that starts at or before a time
//! holds all revisions of that time.

use scylla::DeserializeRow;

/// Limits of a bucket: revisions, size in bytes, span in microseconds. A bucket at a limit takes no more.
const ENTRIES: i32 = 1_024;
const SIZE: i64 = 16 << 20;
const SPAN_US: i64 = 7 * 24 * 3_600 * 1_000_000;

/// A bucket, as stored in its index row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, DeserializeRow)]
pub(super) struct Bucket {
    /// Time at which the bucket begins; names the partition.
    #[scylla(rename = "place")]
    pub(super) start: i64,
    /// Revisions ever written to the bucket; a revision written twice counts twice.
    pub(super) written: i32,
    /// How many of them retention has dropped.
    pub(super) dropped: i32,
    /// Bytes of states ever written to the bucket.
    pub(super) size: i64,
    /// Lowest number of the bucket's revisions.
    pub(super) first: i64,
    /// Time of the bucket's newest revision.
    pub(super) last: i64,
}

impl Bucket {
    /// Creates a bucket that begins at this revision.
    pub(super) fn open(at: i64, revision: i64) -> Self {
        Self { start: at, written: 0, dropped: 0, size: 0, first: revision, last: at }
    }

    /// Whether a revision belongs in this bucket, if no later bucket begins at or before its time.
    pub(super) fn takes(&self, at: i64) -> bool {
        let has_room =
            self.written < ENTRIES && self.size < SIZE && at.saturating_sub(self.start) <= SPAN_US;
        at <= self.last || has_room
    }

    /// Counts a revision; returns whether the lowest number has changed.
    pub(super) fn add(&mut self, at: i64, revision: i64, bytes: usize) -> bool {
        self.written = self.written.saturating_add(1);
        self.size = self.size.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.last = self.last.max(at);
        let is_lower = revision < self.first;
        self.first = self.first.min(revision);
        is_lower
    }

    /// Returns the average size of a state, in bytes.
    pub(super) fn average(&self) -> usize {
        usize::try_from(self.size / i64::from(self.written.max(1))).unwrap_or(0)
    }

    /// Returns an upper bound for the number of revisions in the bucket.
    pub(super) fn kept(&self) -> u64 {
        u64::try_from(self.written.saturating_sub(self.dropped)).unwrap_or(0)
    }

    /// Estimates how many of the bucket's revisions are at or after a time.
    pub(super) fn kept_from(&self, from: i64) -> usize {
        let span = self.last.saturating_sub(self.start).max(1);
        let part = self.last.saturating_sub(from.max(self.start)).clamp(0, span);
        let kept = i128::from(self.kept()) * i128::from(part) / i128::from(span);
        usize::try_from(kept).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_bounded_in_entries_bytes_and_time() {
        let mut bucket = Bucket::open(1_000, 1);
        for at in 0..1_024 {
            assert!(bucket.takes(1_000 + at));
            bucket.add(1_000 + at, 1 + at, 10);
        }
        assert!(!bucket.takes(2_024));
        assert!(bucket.takes(2_023), "a time that it has already");
        assert_eq!((bucket.average(), bucket.kept()), (10, 1_024));
        let mut large = Bucket::open(0, 1);
        large.add(0, 1, 16 << 20);
        assert!(!large.takes(1));
        let mut old = Bucket::open(0, 1);
        old.add(0, 1, 1);
        assert!(old.takes(SPAN_US) && !old.takes(SPAN_US + 1));
    }

    #[test]
    fn what_an_interval_takes_of_a_bucket_is_estimated() {
        let mut bucket = Bucket::open(0, 1);
        for at in 0..=100 {
            bucket.add(at, at + 1, 1);
        }
        assert_eq!(bucket.kept_from(-5), 101);
        assert_eq!(bucket.kept_from(50), 50);
        assert_eq!(bucket.kept_from(200), 0);
    }
}
