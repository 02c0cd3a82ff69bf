//! Randomness: the seed of every table of names, and what is left to chance, taken from one place.
//!
//! Names come from outside. With a known hash function somebody could choose names that all fall into one bucket of a
//! table, and make each look-up a search through all of them. So each process hashes with a seed of its own. A
//! simulation [fixes](fix) the seed, so that it can be run again. What is [left to chance](chance), such as how long to
//! wait before a retry, is drawn on each thread by itself; a simulation [begins these draws anew](begin_draws).

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

/// What hashes begin with.
struct Seed {
    number: u64,
    shared: SharedSeed,
}

static SEED: OnceLock<Seed> = OnceLock::new();

impl Seed {
    fn new(number: u64) -> Seed {
        Seed { number, shared: SharedSeed::from_u64(number) }
    }

    /// The seed of this process. The operating system chooses it, unless it was fixed before.
    fn get() -> &'static Seed {
        SEED.get_or_init(|| Seed::new(RandomState::new().hash_one(0)))
    }
}

/// Returns the seed of this process.
pub fn seed() -> u64 {
    Seed::get().number
}

/// Fixes the seed of this process. Returns whether it is this one: the first use decides.
///
/// For simulations and tests only: who knows the seed can choose names that fall into one bucket.
pub fn fix(seed: u64) -> bool {
    SEED.get_or_init(|| Seed::new(seed)).number == seed
}

thread_local! {
    /// What the next draw on this thread is made from.
    static NEXT_DRAW: Cell<u64> = Cell::new(first_draw());
}

/// What the draws of a thread begin with: other numbers than those of any other thread of this process.
fn first_draw() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    let thread = THREADS.fetch_add(1, Ordering::Relaxed);
    Seeded::default().hash_one(("the draws of a thread", thread))
}

/// Draws a number, evenly spread from 0 to below 1. Never for what must not be guessed.
pub fn chance() -> f64 {
    // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    let state = NEXT_DRAW.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    NEXT_DRAW.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // The 32 highest bits: as many as an f64 holds without a loss.
    let high = u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) / 4_294_967_296.0
}

/// From now on, [`chance`] draws the same numbers on this thread whenever it begins with this seed. For simulations.
pub fn begin_draws(seed: u64) {
    NEXT_DRAW.set(seed);
}

/// Hashes with the seed of this process. The hasher of maps and sets whose keys come from outside.
///
/// ```
/// use std::collections::HashMap;
/// use tidegate_pipeline::randomness::Seeded;
///
/// let mut calls: HashMap<String, u32, Seeded> = HashMap::default();
/// *calls.entry("ann".to_owned()).or_default() += 1;
/// ```
#[derive(Debug, Clone)]
pub struct Seeded(SeedableRandomState);

impl Default for Seeded {
    fn default() -> Seeded {
        let Seed { number, shared } = Seed::get();
        Seeded(SeedableRandomState::with_seed(*number, shared))
    }
}

impl BuildHasher for Seeded {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> FoldHasher<'static> {
        self.0.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a process prints that fixes this seed, or none.
    fn printed(fixed: &str) -> String {
        let this = std::env::current_exe().unwrap();
        let name = "randomness::tests::inside_a_process_that_prints_a_hash";
        let output = Command::new(this)
            .args(["--exact", name, "--ignored", "--nocapture"])
            .env("FIXED_SEED", fixed)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("hash"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    fn each_process_has_its_own_seed_unless_it_is_fixed() {
        assert_ne!(printed(""), printed(""));
        assert_eq!(printed("7"), printed("7"));
        assert_ne!(printed("7"), printed("8"));
    }

    #[test]
    fn draws_are_spread_and_can_be_begun_anew() {
        let draw = |seed| {
            begin_draws(seed);
            (0..1_000).map(|_| chance()).collect::<Vec<_>>()
        };
        let (first, second) = (draw(1), draw(2));
        assert_eq!(first, draw(1));
        assert_ne!(first, second);
        for draws in [first, second] {
            let tenths = draws.iter().filter(|draw| **draw < 0.1).count();
            assert!((60..140).contains(&tenths), "{tenths} of 1,000 draws are below 0.1");
            assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        }
    }

    #[test]
    fn each_thread_draws_its_own_numbers() {
        let draws = || (0..10).map(|_| chance()).collect::<Vec<_>>();
        let [one, other] = [(); 2].map(|()| std::thread::spawn(draws).join().unwrap());
        assert_ne!(one, other);
    }

    #[test]
    #[ignore = "started by a test above"]
    #[allow(clippy::disallowed_methods, reason = "the test above says what to do")]
    fn inside_a_process_that_prints_a_hash() {
        if let Ok(fixed) = std::env::var("FIXED_SEED").unwrap().parse() {
            assert!(fix(fixed));
            assert!(!fix(fixed + 1), "the first one counts");
            assert_eq!(seed(), fixed);
        }
        println!("hash {:016x} of {:016x}", Seeded::default().hash_one("a name"), seed());
    }
}
