//! Randomness: the seed of every table of names, taken from one place.
//!
//! Names come from outside. With a known hash function somebody could choose names that all fall into one bucket of a
//! table, and make each look-up a search through all of them. So each process hashes with a seed of its own. A
//! simulation [fixes](fix) the seed, so that it can be run again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

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
