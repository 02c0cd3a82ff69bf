//! Fuzz: journals, records and pages of a backup.

use std::fs;

use super::backup::Page;
use super::journal;
use super::mark::Acknowledged;
use crate::fuzz::{directory, golden, run};
use crate::store::records;
use crate::store::vault::Vault;
use crate::wire;

#[test]
fn journals() {
    let dir = directory();
    let path = dir.path().join("0.jnl");
    let seeds = ["store-v1-shop", "store-v2"].map(|store| golden(&format!("{store}/engine/0.jnl")));
    run("journal", seeds.into(), |bytes| {
        fs::write(&path, bytes).unwrap();
        let Ok(found) = journal::check(dir.path(), Acknowledged::default(), u64::MAX) else {
            return;
        };
        if let Some((torn, at)) = found.cut {
            // What is left when the torn end is cut off is whole, and lacks no commit.
            fs::write(&torn, &bytes[..usize::try_from(at).unwrap()]).unwrap();
            let again = journal::check(dir.path(), Acknowledged::default(), u64::MAX).unwrap();
            assert_eq!((again.last, again.cut), (found.last, None));
        }
    });
}

#[test]
fn records_of_states() {
    let vault = Vault::default();
    // Records lie in journals: values of some kilobytes, cut out.
    let journal = golden("store-v2/engine/0.jnl");
    let seeds = journal.chunks(300).map(<[u8]>::to_vec).collect();
    run("records", seeds, |bytes| {
        drop(records::decode_head(b"joe", bytes, &vault));
        drop(records::decode_revision(b"joe", 1, bytes, &vault));
        drop(records::decode_registered(bytes, wire::definition));
        drop(records::decode_checks(bytes));
        drop(records::decode_effect_id(bytes));
    });
}

#[test]
fn pages_of_backups() {
    let mut page = vec![0, 0, 2, 0, 0, 0, 5];
    page.extend_from_slice(b"h1state");
    page.extend_from_slice(&[1, 0, 1, 0, 0, 0, 0, b'r', 0xff]);
    page.extend_from_slice(&[0; 24]);
    run("backup", vec![page], |bytes| {
        let Some(page) = Page::decode(bytes) else { return };
        let entries: usize = page.ops.iter().map(|op| 7 + op.len()).sum();
        assert_eq!(entries as u64, page.bytes, "every byte is part of an entry");
        let end = if page.totals.is_some() { 25 } else { 0 };
        assert_eq!(entries + end, bytes.len());
    });
}
