//! Totals: the entries of a copy, as bytes in a page, and their sum.
//!
//! ```text
//! entry    space (1 byte: 0 current, 1 history), length of the key (2), length of the value (4), key, value
//! totals   0xff, number of entries (8), their bytes (8), xxh3 of all entries (8)
//! ```
//! Numbers are big-endian. A page holds whole entries; only the last one ends with totals.

use fjall::Slice;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::super::engine::{Op, Space};

const CURRENT: u8 = 0;
const HISTORY: u8 = 1;
const TOTALS: u8 = 0xff;
const HEAD_BYTES: usize = 7;

/// What a copy holds in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Number of entries.
    pub entries: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// The xxh3 of their encoded bytes.
    pub xxh3: u64,
}

/// Sums up entries.
pub(super) struct Sum {
    entries: u64,
    bytes: u64,
    hash: Xxh3Default,
}

impl Sum {
    pub(super) fn new() -> Self {
        Self { entries: 0, bytes: 0, hash: Xxh3Default::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn totals(&self) -> Totals {
        Totals { entries: self.entries, bytes: self.bytes, xxh3: self.hash.digest() }
    }

    /// Appends an entry to a page and counts it.
    pub(super) fn put(&mut self, page: &mut Vec<u8>, space: Space, key: &[u8], value: &[u8]) {
        let begin = page.len();
        page.push(match space {
            Space::Current => CURRENT,
            Space::History => HISTORY,
        });
        let key_len = u16::try_from(key.len()).expect("the engine's limit for a key");
        let value_len = u32::try_from(value.len()).expect("the engine's limit for a value");
        page.extend_from_slice(&key_len.to_be_bytes());
        page.extend_from_slice(&value_len.to_be_bytes());
        page.extend_from_slice(key);
        page.extend_from_slice(value);
        let entry = page.get(begin..).unwrap_or_default();
        self.entries += 1;
        self.bytes += entry.len() as u64;
        self.hash.update(entry);
    }
}

/// Appends the end of a copy to its last page.
pub(super) fn end(page: &mut Vec<u8>, Totals { entries, bytes, xxh3 }: Totals) {
    page.push(TOTALS);
    for number in [entries, bytes, xxh3] {
        page.extend_from_slice(&number.to_be_bytes());
    }
}

/// A decoded page.
#[derive(Debug)]
pub struct Page {
    pub(in crate::store::embedded) ops: Vec<Op>,
    /// The bytes of its entries.
    pub bytes: u64,
    /// `Some`: this is the last page.
    pub totals: Option<Totals>,
}

impl Page {
    /// Decodes a page; returns `None` when it is none.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let (mut ops, mut rest) = (Vec::new(), page);
        loop {
            if let Some((&TOTALS, end)) = rest.split_first() {
                let (entries, end) = number(end)?;
                let (bytes, end) = number(end)?;
                let (xxh3, end) = number(end)?;
                let totals = end.is_empty().then_some(Totals { entries, bytes, xxh3 })?;
                let read = page.len().saturating_sub(rest.len()) as u64;
                return Some(Self { ops, bytes: read, totals: Some(totals) });
            }
            if rest.is_empty() {
                return Some(Self { ops, bytes: page.len() as u64, totals: None });
            }
            let (head, tail) = rest.split_first_chunk::<HEAD_BYTES>()?;
            let [space, k0, k1, v0, v1, v2, v3] = *head;
            let space = match space {
                CURRENT => Space::Current,
                HISTORY => Space::History,
                _ => return None,
            };
            let value_len = usize::try_from(u32::from_be_bytes([v0, v1, v2, v3])).ok()?;
            let (key, tail) = tail.split_at_checked(u16::from_be_bytes([k0, k1]).into())?;
            let (value, tail) = tail.split_at_checked(value_len)?;
            ops.push(Op { space, key: Slice::from(key), value: Some(Slice::from(value)) });
            rest = tail;
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written_and_every_cut_is_noticed() {
        let (mut sum, mut page) = (Sum::new(), Vec::new());
        sum.put(&mut page, Space::Current, b"h1", b"state");
        sum.put(&mut page, Space::History, b"r", b"");
        let entries = page.len() as u64;
        end(&mut page, sum.totals());
        let read = Page::decode(&page).unwrap();
        assert_eq!((read.totals, read.bytes), (Some(sum.totals()), entries));
        assert_eq!(sum.totals().bytes, entries);
        let [head, revision] = &read.ops[..] else { panic!("{read:?}") };
        assert_eq!((head.space, &*head.key), (Space::Current, &b"h1"[..]));
        assert_eq!(head.value.as_deref(), Some(&b"state"[..]));
        assert_eq!((revision.space, revision.value.as_deref()), (Space::History, Some(&b""[..])));
        for cut in 1..page.len() {
            let whole = Page::decode(&page[..cut]).is_some_and(|page| page.totals.is_some());
            assert!(!whole, "cut at {cut}");
        }
        page.push(0);
        assert!(Page::decode(&page).is_none(), "nothing comes after the totals");
    }
}
