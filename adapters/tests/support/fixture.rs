//! Data directories that earlier versions have written.

use std::fs;
use std::path::Path;

/// Copies a data directory, without the lock of whoever had it open.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory is made");
    // A version control system keeps no empty directories.
    if from.join("current").exists() {
        fs::create_dir_all(to.join("tables")).expect("a directory is made");
    }
    for entry in fs::read_dir(from).expect("the fixture is there") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}
