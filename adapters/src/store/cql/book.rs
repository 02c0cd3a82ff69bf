//! Book: the names of a change to the registry, and which changes of this owner count.

use super::shards::hash;

/// Partitions of what is registered.
pub(super) const PARTITIONS: i8 = 64;
/// Names and bytes in one write.
pub(super) const CHUNK: usize = 64;
const CHUNK_BYTES: usize = 1 << 20;
/// A name with its record; `None` when the name is removed.
pub(super) type Entry = (Slot, Option<Vec<u8>>);

/// A name, and where its rows are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) shard: i8,
    pub(super) system: String,
    pub(super) name: String,
}

impl Slot {
    pub(super) fn new(system: String, name: String) -> Self {
        let partitions = u64::from(PARTITIONS.unsigned_abs());
        let shard = i8::try_from(hash(&[&system, &name]) % partitions).unwrap_or(0);
        Self { shard, system, name }
    }
}

/// The changes that this owner has written.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) epoch: i64,
    /// Number of the last change that counts.
    pub(super) last: i64,
    pub(super) unfinished: Unfinished,
}

impl Book {
    pub(super) fn new(epoch: i64, last: i64) -> Self {
        Self { epoch, last, unfinished: Unfinished::Nothing }
    }
}

/// The rest of a failed change. It must be cleaned up before the next change.
#[derive(Debug, Default)]
pub(super) enum Unfinished {
    #[default]
    Nothing,
    /// Rows that must be removed: the next flip would make them visible.
    Rows(Vec<Slot>),
    /// A flip that may have happened.
    Flip,
}

/// Splits entries, which are sorted, into writes of bounded size, each of one partition and system.
pub(super) fn chunks(entries: &[Entry]) -> Vec<&[Entry]> {
    let of = |(name, record): &Entry| entry_bytes(&name.name, record.as_ref());
    let (mut count, mut bytes) = (1, entries.first().map_or(0, of));
    let joins = |last: &Entry, next: &Entry| {
        let is_same = (last.0.shard, &last.0.system) == (next.0.shard, &next.0.system);
        let joins = is_same && count < CHUNK && bytes + of(next) <= CHUNK_BYTES;
        (count, bytes) = if joins { (count + 1, bytes + of(next)) } else { (1, of(next)) };
        joins
    };
    entries.chunk_by(joins).collect()
}

/// About how many bytes an entry takes in one write.
pub(super) fn entry_bytes(name: &str, record: Option<&Vec<u8>>) -> usize {
    name.len() + record.map_or(0, Vec::len) + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(system: &str, name: &str, bytes: usize) -> Entry {
        (Slot::new(system.into(), name.into()), Some(vec![0; bytes]))
    }

    #[test]
    fn the_partition_of_a_name_never_changes() {
        // The partition is stored: another hash would look for a name elsewhere.
        let shards = ["joe", "ann", "Zürich"].map(|name| Slot::new("s".into(), name.into()).shard);
        assert_eq!(shards, [61, 39, 0]);
    }

    #[test]
    fn a_write_is_bounded_and_of_one_partition() {
        let mut entries: Vec<_> = (0..20_000)
            .map(|number| entry(["s", "t"][number % 2], &number.to_string(), 90))
            .collect();
        entries.extend((0..9).map(|number| entry("u", &format!("large{number}"), CHUNK_BYTES / 2)));
        entries.sort_unstable();
        let chunks = chunks(&entries);
        assert_eq!(chunks.concat(), entries);
        for chunk in &chunks {
            let (first, _) = &chunk[0];
            assert!(
                chunk
                    .iter()
                    .all(|(name, _)| (name.shard, &name.system) == (first.shard, &first.system))
            );
            let bytes: usize = chunk.iter().map(|(_, record)| record.as_ref().unwrap().len()).sum();
            assert!(chunk.len() <= CHUNK && bytes <= CHUNK_BYTES);
        }
        assert!(chunks.len() < 600, "{}", chunks.len());
    }
}
