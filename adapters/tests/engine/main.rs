//! Damage trials: after any damage to a file the store refuses to open, reports it on reading, or has lost
//! nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "what was struck is the report of a failure")]

mod files;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use files::Files;
use store::{Base, COMMITS, MARKED, Outcome, UNMARKED, base, outcome};

const SEED: u64 = 0x7d1e_9a7e;

/// Where files are damaged: each gets its share, however small, and large ones are damaged all over.
fn places(files: &Files, per_file: usize, rng: &mut StdRng) -> Vec<(PathBuf, usize)> {
    let mut places = Vec::new();
    for (path, (bytes, _)) in &files.0 {
        if bytes.is_empty() {
            assert_eq!(path, Path::new("engine/lock"), "the only file that holds nothing");
            continue;
        }
        let share = if path.extension().is_some_and(|end| end == "jnl") { 6 } else { 1 };
        let spots = (0..per_file * share).map(|_| rng.random_range(0..bytes.len()));
        places.extend(spots.map(|at| (path.clone(), at)));
    }
    places
}

/// What happens to a file (its bytes, its length), at a place within its bytes.
type Hit = fn(&mut (Vec<u8>, u64), usize, &mut StdRng);

async fn damage_files(name: &str, files: &Files, per_file: usize, hit: Hit) {
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut counts = Counts::default();
    for (path, at) in places(files, per_file, &mut rng) {
        let mut damaged = files.clone();
        hit(damaged.0.get_mut(&path).unwrap(), at, &mut rng);
        counts.note(&format!("{name}, at {at}"), &path, &damaged).await;
    }
    println!("{name}: {counts:?}");
    assert!(counts.0.keys().any(|(_, outcome)| *outcome == Outcome::Refused));
}

/// How often what came of damage, by kind of file.
#[derive(Debug, Default)]
struct Counts(BTreeMap<(String, Outcome), u32>);

impl Counts {
    async fn note(&mut self, what: &str, path: &Path, damaged: &Files) {
        println!("{what}: {}", path.display());
        let (outcome, _) = outcome(damaged, COMMITS).await;
        let kind = path.extension().map_or_else(
            || path.parent().unwrap().file_name().map_or("file", |name| name.to_str().unwrap()),
            |extension| extension.to_str().unwrap(),
        );
        *self.0.entry((kind.into(), outcome)).or_default() += 1;
    }
}

fn flip_a_bit(file: &mut (Vec<u8>, u64), at: usize, rng: &mut StdRng) {
    file.0[at] ^= 1 << rng.random_range(0..8);
}

fn zero(bytes: &mut [u8], at: usize, len: usize) {
    let end = bytes.len().min(at + len);
    bytes[at..end].fill(0);
}

fn punch_a_hole(file: &mut (Vec<u8>, u64), at: usize, _: &mut StdRng) {
    zero(&mut file.0, at, 16);
}

fn lose_a_page(file: &mut (Vec<u8>, u64), at: usize, _: &mut StdRng) {
    zero(&mut file.0, at / 4096 * 4096, 4096);
}

fn cut_off(file: &mut (Vec<u8>, u64), at: usize, _: &mut StdRng) {
    file.0.truncate(at);
    file.1 = at as u64;
}

/// After the end; where space was reserved, up to two pages into it.
fn write_beyond(file: &mut (Vec<u8>, u64), _: usize, rng: &mut StdRng) {
    let (bytes, len) = file;
    let space = usize::try_from(*len).unwrap() - bytes.len();
    let gap = rng.random_range(0..=space.min(8192));
    bytes.resize(bytes.len() + gap, 0);
    bytes.push(rng.random_range(1..=255));
    *len = (*len).max(bytes.len() as u64);
}

#[tokio::test]
async fn no_damage_to_any_file_loses_anything_in_silence() {
    let base = base().await;
    assert_eq!(outcome(&base.closed, COMMITS).await.0, Outcome::Whole);
    assert_eq!(outcome(&base.killed, COMMITS).await.0, Outcome::Whole);
    damage_files("a bit, closed", &base.closed, 8, flip_a_bit).await;
    damage_files("a bit, killed", &base.killed, 6, flip_a_bit).await;
    damage_files("a hole, closed", &base.closed, 4, punch_a_hole).await;
    damage_files("a hole, killed", &base.killed, 4, punch_a_hole).await;
    damage_files("a page, closed", &base.closed, 2, lose_a_page).await;
    damage_files("a page, killed", &base.killed, 2, lose_a_page).await;
    damage_files("cut off, closed", &base.closed, 2, cut_off).await;
    damage_files("cut off, killed", &base.killed, 2, cut_off).await;
    damage_files("written beyond, closed", &base.closed, 2, write_beyond).await;
    damage_files("written beyond, killed", &base.killed, 2, write_beyond).await;
    gone("gone, closed", &base.closed).await;
    gone("gone, killed", &base.killed).await;
    tails(&base).await;
}

/// Each file, and each directory with all that is in it, is removed.
async fn gone(name: &str, files: &Files) {
    let places: BTreeSet<PathBuf> =
        files.0.keys().flat_map(|path| path.ancestors()).map(PathBuf::from).collect();
    let mut counts = Counts::default();
    for place in places.iter().filter(|place| !place.as_os_str().is_empty()) {
        let mut damaged = files.clone();
        damaged.0.retain(|path, _| !path.starts_with(place));
        counts.note(name, place, &damaged).await;
    }
    println!("{name}: {counts:?}");
}

/// The journal's end, as a loss of power leaves it, and as it must not be.
async fn tails(base: &Base) {
    let mut rng = StdRng::seed_from_u64(SEED);
    let journal = base.killed.find(".jnl");
    let mut lost_power = base.killed.clone();
    lost_power.bytes(Path::new("engine/MARK")).clone_from(&base.old_mark);
    let len = lost_power.0[&journal].0.len();
    let starts = batch_starts(&lost_power.0[&journal].0);
    let after_mark = starts[starts.len() - UNMARKED];
    let last = *starts.last().unwrap();

    for _ in 0..20 {
        // Cut anywhere after the mark: opens with what is whole.
        let at = rng.random_range(after_mark..len);
        let mut torn = lost_power.clone();
        torn.bytes(&journal).truncate(at);
        let (outcome_, text) = outcome(&torn, MARKED).await;
        assert_eq!(outcome_, Outcome::Whole, "cut at {at} of {len}: {text}");

        // A hole in the last commit: opens without it.
        let at = rng.random_range(last..len);
        let mut torn = lost_power.clone();
        zero(torn.bytes(&journal), at, 16);
        let (outcome_, text) = outcome(&torn, COMMITS - 1).await;
        assert_eq!(outcome_, Outcome::Whole, "hole at {at} of {len}: {text}");

        // A hole before the last commit is no torn tail, marked or not.
        let at = rng.random_range(0..last - 16);
        let mut damaged = lost_power.clone();
        zero(damaged.bytes(&journal), at, 16);
        let (outcome_, text) = outcome(&damaged, COMMITS).await;
        assert_eq!(outcome_, Outcome::Refused, "hole at {at} of {len}");
        assert!(text.contains(".jnl"), "{text}");

        // Cut before what was acknowledged.
        let at = rng.random_range(0..last);
        let mut cut = base.killed.clone();
        cut.bytes(&journal).truncate(at);
        let (outcome_, text) = outcome(&cut, COMMITS).await;
        assert_eq!(outcome_, Outcome::Refused, "cut at {at}");
        assert!(text.contains(".jnl") || at == 0, "{text}");
    }

    // A whole commit is missing from the middle, or there twice.
    let (from, to) = (starts[starts.len() - 5], starts[starts.len() - 4]);
    let mut missing = lost_power.clone();
    missing.bytes(&journal).drain(from..to);
    assert_eq!(outcome(&missing, COMMITS).await.0, Outcome::Refused);
    let mut twice = lost_power.clone();
    let copy = twice.bytes(&journal)[from..to].to_vec();
    twice.bytes(&journal).splice(from..from, copy);
    assert_eq!(outcome(&twice, COMMITS).await.0, Outcome::Refused);
}

/// Where each commit of a journal begins, found by the key of its record.
fn batch_starts(journal: &[u8]) -> Vec<usize> {
    let key = b"m/tidegate-commit";
    let places = journal.windows(key.len()).enumerate().filter(|(_, window)| window == key);
    places.map(|(at, _)| at - 34).collect()
}
