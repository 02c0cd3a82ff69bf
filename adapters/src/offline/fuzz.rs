//! Fuzz: files of an export.

use std::fs;

use super::check;
use crate::fuzz::{directory, golden, run};
use crate::store::Vault;

#[test]
fn lines_of_exports() {
    let dir = directory();
    let path = dir.path().join("export");
    let seeds = ["export-v1.jsonl", "export-v1-sealed.jsonl"].map(golden);
    let vault = Vault::default();
    run("export", seeds.into(), |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(checked) = check(&path, &vault) {
            assert!(checked.bytes <= bytes.len() as u64);
        }
    });
}
