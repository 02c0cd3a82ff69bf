//! Files: a data directory in memory; each trial damages a fresh copy.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The files of a store, held in memory: trailing zeros are left to the length.
#[derive(Clone, PartialEq)]
pub(crate) struct Files(pub(crate) BTreeMap<PathBuf, (Vec<u8>, u64)>);

impl Files {
    pub(crate) fn read(dir: &Path) -> Self {
        fn collect(root: &Path, dir: &Path, files: &mut Files) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    collect(root, &path, files);
                } else if let Ok(mut bytes) = fs::read(&path) {
                    let len = bytes.len() as u64;
                    bytes
                        .truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                    files.0.insert(path.strip_prefix(root).unwrap().into(), (bytes, len));
                }
            }
        }
        let mut files = Self(BTreeMap::new());
        collect(dir, dir, &mut files);
        files
    }

    /// Reads until nothing moves: background work may be under way.
    pub(crate) fn read_settled(dir: &Path) -> Self {
        let mut before = Self::read(dir);
        for _ in 0..100 {
            let after = Self::read(dir);
            if before == after {
                return after;
            }
            before = after;
        }
        panic!("the files of an idle store keep changing");
    }

    pub(crate) fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, (bytes, len)) in &self.0 {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = fs::File::create(path).unwrap();
            file.set_len(*len).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
        fs::create_dir_all(dir.path().join("engine/keyspaces/2/tables")).unwrap();
        dir
    }

    pub(crate) fn find(&self, end: &str) -> PathBuf {
        self.0.keys().find(|path| path.to_str().unwrap().ends_with(end)).unwrap().clone()
    }

    pub(crate) fn bytes(&mut self, path: &Path) -> &mut Vec<u8> {
        &mut self.0.get_mut(path).unwrap().0
    }
}
