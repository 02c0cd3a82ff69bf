//! Summary: how many actors there are and what they do, by system and by host, and which have the most to do.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;

use crate::blocked_on::ActorView;
use crate::mesh::Mesh;
use crate::registry::entry::Entry;

/// Systems and hosts that are told apart; those beyond count as one without a name.
const TOLD_APART: usize = 1_000;
/// Actors that have the most to do.
const BUSIEST: usize = 20;
/// How many are gathered until they are compared.
const GATHERED: usize = 1_000;

/// What actors do, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Registered actors, and members of pools.
    pub actors: usize,
    /// Those in memory.
    pub in_memory: usize,
    /// Those that run a turn.
    pub running: usize,
    /// Turns that wait.
    pub queued: usize,
    /// Paused actors.
    pub paused: usize,
}

/// All actors, added up.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// By system.
    pub systems: BTreeMap<String, Totals>,
    /// By the address of the first host.
    pub hosts: BTreeMap<String, Totals>,
    /// The actors with the most turns that wait; among equals those whose turn runs longest.
    pub busiest: Vec<ActorView>,
}

impl Totals {
    fn add(&mut self, other: Totals) {
        self.actors += other.actors;
        self.in_memory += other.in_memory;
        self.running += other.running;
        self.queued += other.queued;
        self.paused += other.paused;
    }
}

/// An actor with something to do.
struct Busy {
    queued: usize,
    runs_for: Duration,
    entry: Arc<Entry>,
}

impl Mesh {
    /// Adds up all actors. Looks at each, and lets others work in between.
    pub async fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        let mut busy: Vec<Busy> = Vec::new();
        let mut shard = 0;
        while let Some(entries) = self.directory.shard_entries(shard) {
            for entry in entries {
                let members = self.directory.pools.members(&entry.actor);
                for entry in members.into_iter().chain([entry]) {
                    let seen = self.add_up(&mut summary, &entry);
                    busy.extend(seen.map(|(queued, runs_for)| Busy { queued, runs_for, entry }));
                }
                if busy.len() >= GATHERED {
                    keep_busiest(&mut busy);
                }
            }
            shard += 1;
            yield_now().await;
        }
        keep_busiest(&mut busy);
        summary.busiest = busy.iter().map(|busy| self.view(&busy.entry)).collect();
        summary
    }

    /// Adds an actor. Returns how many turns of it wait, and for how long one has run, if it has something to do.
    fn add_up(&self, summary: &mut Summary, entry: &Arc<Entry>) -> Option<(usize, Duration)> {
        let look = self.mailboxes.queue.look(&entry.mailbox, 0);
        let totals = Totals {
            actors: 1,
            in_memory: usize::from(entry.is_live()),
            running: usize::from(look.running.is_some()),
            queued: look.queued,
            paused: usize::from(entry.is_paused()),
        };
        let host = entry.with_hosted(|hosted| hosted.definition.host().as_str().to_owned());
        add(&mut summary.systems, entry.actor.system(), totals);
        add(&mut summary.hosts, &host, totals);
        let runs_for = look.running.as_ref().map(|turn| turn.since.elapsed());
        (look.queued > 0 || runs_for.is_some()).then(|| (look.queued, runs_for.unwrap_or_default()))
    }
}

fn add(all: &mut BTreeMap<String, Totals>, name: &str, totals: Totals) {
    if let Some(known) = all.get_mut(name) {
        return known.add(totals);
    }
    let name = if all.len() < TOLD_APART { name } else { "" };
    all.entry(name.to_owned()).or_default().add(totals);
}

fn keep_busiest(busy: &mut Vec<Busy>) {
    busy.sort_by_key(|busy| Reverse((busy.queued, busy.runs_for)));
    busy.truncate(BUSIEST);
}
