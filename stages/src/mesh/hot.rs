//! Hot: the actors that are heaviest of late, by calls, time or bytes, and those with the most turns that wait now.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::hot::{Heaviest, Measure};
use crate::mesh::Mesh;
use crate::topics::event::topic_of;

/// An actor that is among the heaviest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotActor {
    /// Its system.
    pub system: String,
    /// Its name. A pool is one actor, unless turns that wait are counted.
    pub name: String,
    /// The member of the pool of that name, when turns that wait are counted.
    pub member: Option<String>,
    /// What it comes to, at most.
    pub count: u64,
    /// By how much that may be too much.
    pub error: u64,
}

/// The heaviest actors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotSeen {
    /// How long turns were counted until now; zero: they are those of this moment.
    pub covers: Duration,
    /// What all actors come to.
    pub total: u64,
    /// The most that an actor comes to that is not counted by its name.
    pub others_at_most: u64,
    /// The heaviest first.
    pub actors: Vec<HotActor>,
}

impl Mesh {
    /// The heaviest actors of the last one or two minutes, at most `limit`. They may be deleted by now.
    pub fn hottest(&self, measure: Measure, limit: usize) -> HotSeen {
        let Heaviest { covers, total, others_at_most, actors } =
            self.hot.heaviest(measure, limit, Instant::now());
        let actors = actors.into_iter().map(|found| HotActor {
            system: found.key.system().to_owned(),
            name: found.key.name().to_owned(),
            member: None,
            count: found.count,
            error: found.error,
        });
        HotSeen { covers, total, others_at_most, actors: actors.collect() }
    }

    /// The actors, and members of pools, with the most turns that wait now, at most `limit`. Looks at the mailboxes in which
    /// something waits or runs; calls go on meanwhile.
    pub fn deepest(&self, limit: usize) -> HotSeen {
        let (mut first, mut total) = (BTreeSet::new(), 0);
        self.mailboxes.queue.survey(|key| {
            let (system, name) = (key.key.system(), key.key.name());
            if key.queued == 0 || topic_of(name).is_some() {
                return;
            }
            total += count(key.queued);
            let is_first = first.len() < limit
                || first.last().is_some_and(
                    |(Reverse(least), ..): &(Reverse<usize>, String, String)| key.queued > *least,
                );
            if is_first {
                first.insert((Reverse(key.queued), system.to_owned(), name.to_owned()));
                if first.len() > limit {
                    first.pop_last();
                }
            }
        });
        let actors = first.into_iter().map(|(Reverse(queued), system, name)| {
            // A member of a pool has a mailbox of its own.
            let (name, member) = match name.split_once('\u{1}') {
                Some((pool, number)) => (pool.to_owned(), Some(format!("{pool}-{number}"))),
                None => (name, None),
            };
            HotActor { system, name, member, count: count(queued), error: 0 }
        });
        HotSeen { covers: Duration::ZERO, total, others_at_most: 0, actors: actors.collect() }
    }
}

fn count(turns: usize) -> u64 {
    u64::try_from(turns).unwrap_or(u64::MAX)
}
