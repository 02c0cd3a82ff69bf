//! Warnings: stuck turns, hosts that are away or flap, full mailboxes, retried effects and overdue schedules at one moment. A request
//! computes the warnings; no call pays for them.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

use crate::actor::ActorRef;
use crate::due::record::{Purpose, Record};
use crate::error::Error;
use crate::mesh::Mesh;
use crate::ports::DueStore;
use crate::registry::reachability::Phase;
use crate::schedules::ScheduleKey;
use crate::store_limit::in_time;

/// Warnings of one kind that are shown: those that last longest.
const SHOWN: usize = 100;
/// From this time on a turn is stuck where it is not known how long turns of its host take.
const STUCK: Duration = Duration::from_secs(30);
/// A host with so many outages within so long flaps.
const FLAPS: usize = 3;
const FLAPS_WITHIN: Duration = Duration::from_mins(10);
/// Parts of its bound, in tenths, from which on a mailbox is full.
const FULL_TENTHS: usize = 9;
/// A run of a schedule is overdue so long after its time.
const OVERDUE: Duration = Duration::from_secs(10);
/// Entries of due work that are looked at, and how many of them at once.
const DUE: usize = 4_096;
const DUE_PAGE: usize = 256;

/// What a warning is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// A turn runs for longer than nearly all turns of its host.
    StuckTurn,
    /// A host that has been away for longer than the grace: its calls are refused.
    HostAway,
    /// A host that is away again and again.
    FlappingHost,
    /// A mailbox that takes nearly no more calls.
    FullMailbox,
    /// Effects whose delivery has failed and is tried again.
    RetryingEffect,
    /// A schedule whose time has come, and whose run has not.
    OverdueSchedule,
}

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The actor, the host or the schedule.
    pub what: String,
    /// For how long it is so.
    pub lasts: Duration,
    /// What is not as it should be, with the figures.
    pub sentence: String,
}

/// The warnings of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warned {
    /// The first ones, the longest first.
    pub shown: Vec<Warning>,
    /// How many more there are.
    pub more: usize,
    /// Why there may be others that were not found.
    pub unknown: Option<String>,
}

impl Warned {
    fn add(&mut self, what: String, lasts: Duration, sentence: String) {
        self.shown.push(Warning { what, lasts, sentence });
        if self.shown.len() >= 2 * SHOWN {
            self.keep_longest();
        }
    }

    fn keep_longest(&mut self) {
        let order = |one: &Warning, other: &Warning| {
            other.lasts.cmp(&one.lasts).then_with(|| one.what.cmp(&other.what))
        };
        self.shown.sort_by(order);
        self.more += self.shown.len().saturating_sub(SHOWN);
        self.shown.truncate(SHOWN);
    }
}

impl Mesh {
    /// Computes all warnings. Calls go on meanwhile. The cost is that of [`flow`](Self::flow), a look at the effects in memory, and a
    /// read of the due work whose time has come.
    pub async fn warnings(&self) -> BTreeMap<WarningKind, Warned> {
        let (stuck, full) = self.of_mailboxes();
        let (away, flapping) = self.of_hosts();
        let mut all = BTreeMap::from([
            (WarningKind::StuckTurn, stuck),
            (WarningKind::HostAway, away),
            (WarningKind::FlappingHost, flapping),
            (WarningKind::FullMailbox, full),
            (WarningKind::RetryingEffect, self.retrying_effects()),
            (WarningKind::OverdueSchedule, self.overdue_schedules().await),
        ]);
        all.values_mut().for_each(Warned::keep_longest);
        all
    }

    /// Turns that are stuck, and mailboxes that are full.
    fn of_mailboxes(&self) -> (Warned, Warned) {
        let hosts = self.directory.all_hosts();
        let p99: HashMap<u32, Duration> = hosts
            .iter()
            .filter_map(|host| Some((host.limit, host.known.turn_times.p99()?)))
            .collect();
        let (mut stuck, mut full) = (Warned::default(), Warned::default());
        let (now, bound) = (Instant::now(), self.mailboxes.queue.per_key());
        self.mailboxes.queue.survey(|key| {
            if let (Some(turn), Some((class, since)), None) = (key.running, key.granted, key.parked)
            {
                let runs_for = now.saturating_duration_since(since);
                let known = p99.get(&class);
                if runs_for > *known.unwrap_or(&STUCK) {
                    let named = turn.action.as_str();
                    let turn = if named.is_empty() { format!("{:?}", turn.kind) } else { named.into() };
                    let but = known.map_or_else(
                        || format!("longer than {STUCK:?}; how long turns of its host take is not known yet"),
                        |known| format!("99 % of the last turns of its host took at most {known:?}"),
                    );
                    let sentence = format!("{turn} has run for {}; {but}", seconds(runs_for));
                    stuck.add(named_as(key.key), runs_for, sentence);
                }
            }
            if let Some((_, since)) = key.first
                && key.counted.saturating_mul(10) >= bound.saturating_mul(FULL_TENTHS)
            {
                let waits = now.saturating_duration_since(since);
                let counted = key.counted;
                let sentence =
                    format!("{counted} of {bound} calls wait; the first for {}", seconds(waits));
                full.add(named_as(key.key), waits, sentence);
            }
        });
        (stuck, full)
    }

    /// Hosts that are away for longer than the grace, and hosts that flap.
    fn of_hosts(&self) -> (Warned, Warned) {
        let (mut away, mut flapping) = (Warned::default(), Warned::default());
        for host in self.directory.all_hosts() {
            let reachability = &host.known.reachability;
            if reachability.phase() == Phase::Open {
                let lasts = reachability.away_for();
                let sentence = format!(
                    "it has accepted no connection for {}: calls that need it are refused. The reason: {}",
                    seconds(lasts),
                    reachability.reason(),
                );
                away.add(host.address.as_str().to_owned(), lasts, sentence);
            }
            let (outages, first) = reachability.outages(FLAPS_WITHIN);
            if outages < FLAPS {
                continue;
            }
            let now = if reachability.is_away() { "it is away" } else { "it is there" };
            let sentence = format!(
                "{outages} outages within the last {} min, the first {} ago; now {now}. The last reason: {}",
                FLAPS_WITHIN.as_secs() / 60,
                seconds(first),
                reachability.reason(),
            );
            flapping.add(host.address.as_str().to_owned(), first, sentence);
        }
        (away, flapping)
    }

    fn retrying_effects(&self) -> Warned {
        let (mut retrying, now) = (Warned::default(), self.due.now());
        for (source, effects, tries, first) in self.effects.retried() {
            let lasts = Duration::from_micros(now.0.saturating_sub(first.0));
            let are = if effects == 1 { "effect is" } else { "effects are" };
            let sentence = format!(
                "{effects} side {are} tried again, {tries} times so far at most; the first was emitted {} ago",
                seconds(lasts),
            );
            retrying.add(format!("{}/{}", source.system, source.name), lasts, sentence);
        }
        retrying
    }

    async fn overdue_schedules(&self) -> Warned {
        let mut overdue = Warned::default();
        match self.late_schedules().await {
            Ok((late, is_whole)) => {
                if !is_whole {
                    overdue.unknown = Some(format!("more than {DUE} entries of due work are late"));
                }
                for (key, lasts) in late {
                    let sentence =
                        format!("its run is due since {} and was not made", seconds(lasts));
                    overdue.add(format!("{}/{}", key.system, key.name), lasts, sentence);
                }
            }
            Err(error) => overdue.unknown = Some(error.to_string()),
        }
        overdue
    }

    /// The schedules with a run that is due for longer than it should and does not run now, and whether these are all.
    async fn late_schedules(&self) -> Result<(Vec<(ScheduleKey, Duration)>, bool), Error> {
        let (mut late, mut after, mut seen) = (HashMap::new(), None, 0);
        let now = self.due.now();
        let is_whole = loop {
            let page =
                in_time(DueStore::due(&**self.due.store(), after.as_ref(), DUE_PAGE)).await?;
            let mut is_over = !page.more;
            for entry in page.items {
                let lasts = Duration::from_micros(now.0.saturating_sub(entry.key.at.0));
                if lasts <= OVERDUE {
                    is_over = true;
                    break;
                }
                seen += 1;
                let ScheduleKey { system, name } = match Record::decode(entry.record) {
                    Some(Record { purpose: Purpose::Look, .. }) => ScheduleKey {
                        system: entry.key.source.system.clone(),
                        name: entry.key.source.name.clone(),
                    },
                    Some(Record { purpose: Purpose::Run(run), invocation })
                        if !self.runs_now(&invocation.actor.system, &invocation.actor.name) =>
                    {
                        run.key
                    }
                    _ => {
                        after = Some(entry.key);
                        continue;
                    }
                };
                // The entries come in the order of their times.
                late.entry((system, name)).or_insert(lasts);
                after = Some(entry.key);
            }
            if is_over || seen >= DUE {
                break is_over;
            }
        };
        let late =
            late.into_iter().map(|((system, name), lasts)| (ScheduleKey { system, name }, lasts));
        Ok((late.collect(), is_whole))
    }

    /// Whether an actor runs a turn that is not parked; for a pool, whether one of its members does.
    fn runs_now(&self, system: &str, name: &str) -> bool {
        let Some(entry) = self.directory.find(system, name) else { return false };
        self.with_members(&entry).iter().any(|entry| {
            let look = self.mailboxes.queue.look(&entry.mailbox, 0);
            look.running.is_some() && look.parked.is_none()
        })
    }
}

/// The name of a mailbox for people; a member of a pool has one of its own.
fn named_as(mailbox: &ActorRef) -> String {
    let (system, name) = (mailbox.system(), mailbox.name());
    match name.split_once('\u{1}') {
        Some((pool, member)) => format!("{system}/{pool} ({member})"),
        None => format!("{system}/{name}"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_are_shown_and_the_others_counted() {
        let mut warned = Warned::default();
        for at in 0..1_050 {
            warned.add(format!("a{at}"), Duration::from_secs(at), String::new());
        }
        warned.keep_longest();
        assert_eq!((warned.shown.len(), warned.more), (SHOWN, 950));
        let shown: Vec<_> = warned.shown.iter().map(|warning| warning.lasts.as_secs()).collect();
        assert_eq!(shown, (950..1_050).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_member_of_a_pool_is_named_with_it() {
        assert_eq!(named_as(&ActorRef::new("shop", "cart")), "shop/cart");
        assert_eq!(named_as(&ActorRef::new("shop", "pool\u{1}2")), "shop/pool (2)");
    }
}
