//! Strategy: which of several hosts a turn is for.

use std::fmt::Debug;

use tidegate_pipeline::randomness::seed;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::actor::{ActorRef, HostAddress};

/// How a host is chosen for a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostChoice {
    /// Any, each as often as the others.
    #[default]
    Random,
    /// One after the other.
    RoundRobin,
    /// The one with the fewest calls that wait or run; of several, any.
    LeastLoaded,
    /// The same for each call of an actor. When a host leaves, only its actors move.
    Sticky,
}

impl HostChoice {
    pub(crate) fn strategy(self) -> &'static dyn Strategy {
        match self {
            Self::Random => RANDOM,
            Self::RoundRobin => &RoundRobin,
            Self::LeastLoaded => &LeastLoaded,
            Self::Sticky => &Sticky,
        }
    }
}

/// [`HostChoice::Random`].
pub(crate) const RANDOM: &dyn Strategy = &Random;

/// A host that may be chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(super) address: &'a HostAddress,
    /// Its calls that wait or run.
    pub(super) load: usize,
    /// Its place among the candidates, and how many they are.
    pub(super) place: usize,
    pub(super) count: usize,
}

/// Ranks hosts.
pub(crate) trait Strategy: Debug + Send + Sync {
    /// The candidate with the least rank is chosen for the next turn of `actor`. `turn` is another number for each choice, one
    /// more than the last.
    fn rank(&self, candidate: &Candidate<'_>, actor: &ActorRef, turn: u64) -> u64;
}

#[derive(Debug)]
struct Random;

#[derive(Debug)]
struct RoundRobin;

#[derive(Debug)]
struct LeastLoaded;

#[derive(Debug)]
struct Sticky;

impl Strategy for Random {
    fn rank(&self, candidate: &Candidate<'_>, _: &ActorRef, turn: u64) -> u64 {
        let place = candidate.place as u64;
        xxh3_64_with_seed(&turn.to_ne_bytes(), seed() ^ place)
    }
}

impl Strategy for RoundRobin {
    fn rank(&self, candidate: &Candidate<'_>, _: &ActorRef, turn: u64) -> u64 {
        let (place, count) = (candidate.place as u64, candidate.count as u64);
        (place + count - turn % count) % count
    }
}

impl Strategy for LeastLoaded {
    fn rank(&self, candidate: &Candidate<'_>, actor: &ActorRef, turn: u64) -> u64 {
        let load = u32::try_from(candidate.load).unwrap_or(u32::MAX);
        u64::from(load) << 32 | Random.rank(candidate, actor, turn) >> 32
    }
}

impl Strategy for Sticky {
    /// The same in each process, so that actors stay where they are over a restart.
    fn rank(&self, candidate: &Candidate<'_>, actor: &ActorRef, _: u64) -> u64 {
        let of_system = xxh3_64_with_seed(actor.system().as_bytes(), 0);
        let of_actor = xxh3_64_with_seed(actor.name().as_bytes(), of_system);
        xxh3_64_with_seed(candidate.address.as_str().as_bytes(), of_actor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What `turns` choices among hosts with these loads come to, by address.
    fn chosen(choice: HostChoice, hosts: &[(HostAddress, usize)], turns: u64) -> Vec<usize> {
        let actor = ActorRef::new("s", "joe");
        (0..turns).map(|turn| best(choice, hosts, &actor, turn)).collect()
    }

    fn best(
        choice: HostChoice,
        hosts: &[(HostAddress, usize)],
        actor: &ActorRef,
        turn: u64,
    ) -> usize {
        let rank = |place: &usize| {
            let (address, load) = &hosts[*place];
            let candidate = Candidate { address, load: *load, place: *place, count: hosts.len() };
            choice.strategy().rank(&candidate, actor, turn)
        };
        (0..hosts.len()).min_by_key(rank).unwrap()
    }

    fn hosts(loads: &[usize]) -> Vec<(HostAddress, usize)> {
        let host = |(number, load): (usize, &usize)| {
            (HostAddress::new(&format!("10.0.0.{number}:8090")), *load)
        };
        loads.iter().enumerate().map(host).collect()
    }

    fn counts(chosen: &[usize]) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for place in chosen {
            *counts.entry(*place).or_default() += 1;
        }
        counts
    }

    #[test]
    fn random_chooses_each_about_as_often() {
        let counts = counts(&chosen(HostChoice::Random, &hosts(&[0, 5, 9]), 9_000));
        assert!(
            counts.len() == 3 && counts.values().all(|count| (2_600..3_400).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn actors_that_stick_are_spread_and_only_those_of_a_host_that_leaves_move() {
        let all = hosts(&[0; 4]);
        let others = &all[..3];
        let (mut of_last, mut spread) = (0, BTreeMap::new());
        for number in 0..4_000 {
            let actor = ActorRef::new("s", &format!("actor-{number}"));
            let (before, after) = (
                best(HostChoice::Sticky, &all, &actor, 7),
                best(HostChoice::Sticky, others, &actor, 8),
            );
            *spread.entry(before).or_insert(0) += 1;
            if before == 3 {
                of_last += 1;
            } else {
                assert_eq!(before, after, "{actor} moved");
            }
        }
        assert!((800..1_200).contains(&of_last), "{of_last}");
        assert!(spread.values().all(|count| (800..1_200).contains(count)), "{spread:?}");
    }

    proptest! {
        /// In turn: any number of choices in a row that is a multiple of the hosts' chooses each equally often.
        #[test]
        fn round_robin_chooses_each_in_turn(count in 1_usize..9, first in 0_u64..1_000, rounds in 1_u64..5) {
            let hosts = hosts(&vec![3; count]);
            let actor = ActorRef::new("s", "joe");
            let turns = first..first + rounds * count as u64;
            let chosen: Vec<_> = turns.map(|turn| best(HostChoice::RoundRobin, &hosts, &actor, turn)).collect();
            let counts = counts(&chosen);
            prop_assert_eq!(counts.len(), count);
            prop_assert!(counts.values().all(|times| *times as u64 == rounds));
            prop_assert!(count == 1 || chosen.windows(2).all(|two| two[0] != two[1]));
        }

        /// No other host has fewer calls.
        #[test]
        fn the_least_loaded_is_chosen(loads in proptest::collection::vec(0_usize..6, 1..9), turn: u64) {
            let hosts = hosts(&loads);
            let chosen = best(HostChoice::LeastLoaded, &hosts, &ActorRef::new("s", "joe"), turn);
            prop_assert_eq!(loads[chosen], *loads.iter().min().unwrap());
        }

        /// An actor is at one host whatever the loads, the order and the turns are.
        #[test]
        fn an_actor_sticks(name in "[a-z]{1,8}", loads in proptest::collection::vec(0_usize..6, 1..9), turns in 1_u64..20) {
            let actor = ActorRef::new("s", &name);
            let (hosts, mut reversed) = (hosts(&loads), hosts(&loads));
            reversed.reverse();
            let first = best(HostChoice::Sticky, &hosts, &actor, 0);
            for turn in 0..turns {
                prop_assert_eq!(best(HostChoice::Sticky, &hosts, &actor, turn), first);
                let place = best(HostChoice::Sticky, &reversed, &actor, turn);
                prop_assert_eq!(&reversed[place].0, &hosts[first].0);
            }
        }
    }
}
