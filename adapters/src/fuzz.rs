//! Fuzz: tries readers of bytes from outside with inputs that nobody would write.
//!
//! A target is a test in the module `fuzz` of a reader. A target has seeds, which are whole inputs, and a check, which panics
//! when the reader breaks a promise. Files below `adapters/tests/fuzz/TARGET` are seeds too: each input that ever broke a reader is kept
//! there. Inputs are seeds that were changed in a few places, and sometimes noise. An input that fails the check is made small
//! and shown.
//!
//! `TIDEGATE_FUZZ_SECONDS` says how long each target runs; without it, a target tries [`CASES`] inputs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestError, TestRunner};
use tempfile::TempDir;
use tokio::time::Instant;

/// Inputs between two looks at the clock.
const CASES: u32 = 256;
/// Changes of one input at most.
const CHANGES: usize = 6;
/// Numbers at which lengths and counts go wrong.
const NUMBERS: [u64; 10] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// An input, shown as the text of a byte string.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[derive(Debug, Clone)]
enum Change {
    Overwrite(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Cut(Index),
    Number(Index, u64, usize, bool),
    Graft(Index, Vec<u8>),
}

impl Change {
    fn of(self, bytes: &mut Vec<u8>) {
        let place = |at: &Index, bytes: &Vec<u8>| at.index(bytes.len() + 1);
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            let end = (at + new.len()).min(bytes.len());
            bytes.splice(at..end, new.iter().copied());
        };
        match self {
            Self::Overwrite(at, new) => {
                let at = place(&at, bytes);
                put(bytes, at, &new);
            }
            Self::Insert(at, new) => {
                let at = place(&at, bytes);
                bytes.splice(at..at, new);
            }
            Self::Remove(at, count) => {
                let at = place(&at, bytes);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Repeat(at, count, times) => {
                let at = place(&at, bytes);
                let part = bytes[at..(at + count).min(bytes.len())].repeat(times);
                bytes.splice(at..at, part);
            }
            Self::Cut(at) => bytes.truncate(place(&at, bytes)),
            Self::Number(at, number, width, is_big) => {
                let at = place(&at, bytes);
                let number = if is_big { number.to_be_bytes() } else { number.to_le_bytes() };
                put(bytes, at, if is_big { &number[8 - width..] } else { &number[..width] });
            }
            Self::Graft(at, other) => {
                bytes.truncate(place(&at, bytes));
                let from = place(&at, &other).min(other.len());
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

fn change(seeds: &[Vec<u8>]) -> impl Strategy<Value = Change> + use<> {
    let at = any::<Index>;
    let few = || prop::collection::vec(any::<u8>(), 1..8);
    let number = select(&NUMBERS[..]);
    let width = select(&[1_usize, 2, 4, 8][..]);
    prop_oneof![
        4 => (at(), few()).prop_map(|(at, new)| Change::Overwrite(at, new)),
        2 => (at(), few()).prop_map(|(at, new)| Change::Insert(at, new)),
        2 => (at(), 1..64_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => (at(), 1..64_usize, 1..200_usize).prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
        1 => at().prop_map(Change::Cut),
        3 => (at(), number, width, any::<bool>()).prop_map(|(at, number, width, is_big)| Change::Number(at, number, width, is_big)),
        1 => (at(), select(seeds.to_vec())).prop_map(|(at, other)| Change::Graft(at, other)),
    ]
}

fn inputs(seeds: &[Vec<u8>]) -> impl Strategy<Value = Input> + use<> {
    let changed = (select(seeds.to_vec()), prop::collection::vec(change(seeds), 1..CHANGES));
    let changed = changed.prop_map(|(mut bytes, changes)| {
        for change in changes {
            change.of(&mut bytes);
        }
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![9 => changed, 1 => noise].prop_map(Input)
}

/// Checks all seeds, then changed ones until the time is over.
pub(crate) fn run(target: &str, mut seeds: Vec<Vec<u8>>, check: impl Fn(&[u8])) {
    seeds.extend(corpus(target));
    assert!(!seeds.is_empty(), "{target} has no seed");
    for seed in &seeds {
        check(seed);
    }
    let strategy = inputs(&seeds);
    let (until, mut tried) = (Instant::now() + time(), 0);
    loop {
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&strategy, |Input(bytes)| {
            check(&bytes);
            Ok(())
        });
        if let Err(TestError::Fail(reason, input)) = outcome {
            panic!(
                "{target}: {reason}; keep this input below adapters/tests/fuzz/{target}: {input:?}"
            );
        }
        tried += u64::from(CASES);
        if Instant::now() >= until {
            break;
        }
    }
    eprintln!("{target}: {} seeds, {tried} inputs", seeds.len());
}

#[allow(clippy::disallowed_methods, reason = "a test is told how long it may take")]
fn time() -> Duration {
    let seconds = std::env::var("TIDEGATE_FUZZ_SECONDS").ok().filter(|text| !text.is_empty());
    Duration::from_secs(seconds.map_or(0, |text| text.parse().expect("a number of seconds")))
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let Ok(files) = tests().join("fuzz").join(target).read_dir() else { return Vec::new() };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort_unstable();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A file of `tests/golden`.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    std::fs::read(tests().join("golden").join(name)).unwrap()
}

/// A directory for inputs that are files, in memory where there is one.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
#[should_panic(expected = "keep this input below adapters/tests/fuzz/planted: b\"")]
fn fuzz_finds_what_is_planted() {
    run("planted", vec![b"a sound input".to_vec()], |bytes| {
        // Only a changed input breaks it.
        assert!(bytes.is_ascii(), "planted");
    });
}
