//! Flow: what turns wait for at one moment, at which host, and which actors have waited longest. The gauges of
//! [`observe`](super::observe) are computed from the same views of the mailboxes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use tidegate_pipeline::KeySeen;
use tokio::time::Instant;

use super::observe::{
    ACTOR_TURN, HOST_BREAKER, HOST_PERMIT, REASONS, Reason, first_waits_for, parked,
};
use crate::actor::{ActorRef, HostAddress};
use crate::blocked_on::ActorView;
use crate::call::TurnHandle;
use crate::mesh::Mesh;
use crate::registry::hosts::OneHost;
use crate::registry::reachability::Phase;

/// Most hosts that are shown: those that refuse calls, then those with the most turns.
const HOSTS: usize = 256;

/// Turns that wait for the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingSeen {
    /// The stage that they wait in.
    pub stage: &'static str,
    /// What they wait for.
    pub reason: &'static str,
    /// How many they are.
    pub turns: usize,
    /// For how long the first of them waits; zero where that is not known.
    pub oldest: Duration,
    /// For how long half of the first turns of their mailboxes wait; zero where that is not known.
    pub median: Duration,
}

/// A host, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSeen {
    /// Where it listens.
    pub address: HostAddress,
    /// `new`, `reached`, `away`, `open` or `tried`.
    pub state: &'static str,
    /// How long it has accepted no connections; zero when it does.
    pub away_for: Duration,
    /// How many turns run there.
    pub running: usize,
    /// How many may; `None`: there is no limit.
    pub permits: Option<usize>,
    /// How many mailboxes have a first turn that waits for it.
    pub waiting: usize,
    /// For how long half of these turns wait.
    pub median: Duration,
    /// For how long the first of them waits.
    pub oldest: Duration,
    /// How long its turns take on average; `None`: not known yet.
    pub mean_turn: Option<Duration>,
}

/// What the mesh does at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowSeen {
    /// What turns wait for; nothing for which none waits.
    pub waiting: Vec<WaitingSeen>,
    /// The hosts that refuse calls, then those with the most turns.
    pub hosts: Vec<HostSeen>,
    /// How many hosts there are.
    pub all_hosts: usize,
    /// Whether the breaker of the store is open.
    pub store_breaker_open: bool,
    /// Actors in memory.
    pub live_actors: usize,
    /// Actors that are registered.
    pub registered_actors: usize,
}

/// Which waiting actors are meant: those that all of it is true of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingFilter {
    /// Of this system.
    pub system: Option<String>,
    /// Whose first turn waits for this reason, as metrics name it.
    pub reason: Option<String>,
    /// Whose first turn waits for this host.
    pub host: Option<String>,
}

impl WaitingFilter {
    /// What turns can wait for, as metrics name it.
    pub fn reasons() -> impl Iterator<Item = &'static str> {
        REASONS.iter().map(|(_, reason)| *reason)
    }
}

/// Times that turns have waited for.
#[derive(Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn oldest(&self) -> Duration {
        self.0.iter().max().copied().unwrap_or_default()
    }

    fn median(&mut self) -> Duration {
        let middle = self.0.len() / 2;
        if self.0.is_empty() {
            return Duration::ZERO;
        }
        *self.0.select_nth_unstable(middle).1
    }
}

impl Mesh {
    /// Looks at what turns wait for. Calls go on meanwhile; each turn that waits costs it some nanoseconds.
    pub fn flow(&self) -> FlowSeen {
        let hosts = self.directory.all_hosts();
        let away = away(&hosts);
        let now = Instant::now();
        let mut waiting: BTreeMap<Reason, (usize, Times)> = BTreeMap::new();
        let mut by_host: HashMap<u32, Times> = HashMap::new();
        self.mailboxes.queue.survey(|key| {
            let mut add = |reason, turns: usize, since: Option<Instant>| {
                let (count, times) = waiting.entry(reason).or_default();
                *count += turns;
                times.0.extend(since.map(|since| now.saturating_duration_since(since)));
            };
            if let Some((reason, since)) = parked(key) {
                add(reason, 1, Some(since));
            }
            let Some((class, since)) = key.first else { return };
            let first = first_waits_for(key, &away);
            add(first, 1, Some(since));
            if key.queued > 1 {
                let behind = if key.is_paused { first } else { ACTOR_TURN };
                add(behind, key.queued - 1, None);
            }
            if first == HOST_PERMIT || first == HOST_BREAKER {
                let times = by_host.entry(class).or_default();
                times.0.push(now.saturating_duration_since(since));
            }
        });
        for (reason, turns) in [
            (super::observe::ADMISSION, self.mailboxes.queue.waiting()),
            (super::observe::COMMIT, self.checkpoint.waiting()),
        ] {
            if turns > 0 {
                waiting.entry(reason).or_default().0 += turns;
            }
        }
        let waiting = waiting.into_iter().map(|((stage, reason), (turns, mut times))| {
            WaitingSeen { stage, reason, turns, oldest: times.oldest(), median: times.median() }
        });
        let all_hosts = hosts.len();
        let mut hosts: Vec<_> = hosts
            .iter()
            .map(|host| self.host_seen(host, by_host.remove(&host.limit).unwrap_or_default()))
            .collect();
        hosts.sort_by(|one, other| {
            let rank = |host: &HostSeen| (host.state == "open", host.waiting + host.running);
            rank(other).cmp(&rank(one)).then_with(|| one.address.cmp(&other.address))
        });
        hosts.truncate(HOSTS);
        FlowSeen {
            waiting: waiting.collect(),
            hosts,
            all_hosts,
            store_breaker_open: self.control.store_breaker().0,
            live_actors: self.directory.live.len(),
            registered_actors: self.directory.registered(),
        }
    }

    fn host_seen(&self, host: &OneHost, mut times: Times) -> HostSeen {
        let reachability = &host.known.reachability;
        let queue = &self.mailboxes.queue;
        let permits = queue.class_limit(host.limit);
        HostSeen {
            address: host.address.clone(),
            state: match reachability.phase() {
                Phase::New | Phase::Forgotten => "new",
                Phase::Reached => "reached",
                Phase::Away => "away",
                Phase::Open => "open",
                Phase::Tried => "tried",
            },
            away_for: if reachability.is_away() { reachability.away_for() } else { Duration::ZERO },
            running: queue.in_flight_of(host.limit),
            permits: (permits < usize::MAX).then_some(permits),
            waiting: times.0.len(),
            oldest: times.oldest(),
            median: times.median(),
            mean_turn: host.known.mean_turn.mean(),
        }
    }

    /// The actors whose turns have waited longest, of those that a filter matches, the longest first: `limit` at most, and how many
    /// match in all.
    pub fn waiting(&self, filter: &WaitingFilter, limit: usize) -> (Vec<ActorView>, usize) {
        let hosts = self.directory.all_hosts();
        let away = away(&hosts);
        let of_host: Option<HashSet<u32>> = filter.host.as_ref().map(|wanted| {
            let meant = hosts.iter().filter(|host| host.address.as_str() == wanted);
            meant.map(|host| host.limit).collect()
        });
        let (mut first, mut all) = (BTreeSet::new(), 0);
        self.mailboxes.queue.survey(|key| {
            let Some((reason, since, class)) = waits(key, &away) else { return };
            let is_meant = filter.system.as_ref().is_none_or(|wanted| key.key.system() == wanted)
                && filter.reason.as_ref().is_none_or(|wanted| reason.1 == wanted)
                && of_host.as_ref().is_none_or(|limits| limits.contains(&class));
            if !is_meant {
                return;
            }
            all += 1;
            let is_first = first.len() < limit
                || first.last().is_some_and(|(last, ..): &(Instant, String, String)| since < *last);
            if is_first {
                first.insert((since, key.key.system().to_owned(), key.key.name().to_owned()));
                if first.len() > limit {
                    first.pop_last();
                }
            }
        });
        let views = first.iter().filter_map(|(_, system, name)| {
            // A member of a pool has a mailbox of its own.
            let actor = name.split_once('\u{1}').map_or(&**name, |(pool, _)| pool);
            let entry = self.directory.find(system, actor)?;
            let all = self.with_members(&entry);
            let entry = all.into_iter().find(|entry| entry.mailbox.name() == name)?;
            Some(self.view(&entry))
        });
        (views.collect(), all)
    }
}

fn away(hosts: &[OneHost]) -> HashSet<u32> {
    let away = hosts.iter().filter(|host| host.known.reachability.is_away());
    away.map(|host| host.limit).collect()
}

/// What a mailbox waits for, since when, and the limit of the host that its first turn counts against: that of the turn that is
/// parked, else that of the first turn that waits.
fn waits(
    key: &KeySeen<'_, ActorRef, TurnHandle>,
    away: &HashSet<u32>,
) -> Option<(Reason, Instant, u32)> {
    let class = key.first.map_or(0, |(class, _)| class);
    if let Some((reason, since)) = parked(key) {
        return Some((reason, since, class));
    }
    let (class, since) = key.first?;
    Some((first_waits_for(key, away), since, class))
}
