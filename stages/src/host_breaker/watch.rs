//! Watch: one task per outage of a host: it probes for the host's return, and ends the calls that cannot wait for it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use metrics::{Gauge, counter, gauge};
use tidegate_pipeline::metrics::Seconds;
use tidegate_pipeline::{Drain, KeyedProducer};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::call::{Failed, Placed, Task};
use crate::error::Error;
use crate::metrics::{HOSTS_AWAY, HOSTS_AWAY_SECONDS_TOTAL};
use crate::ports::HostProbe;
use crate::registry::entry::Hosted;
use crate::registry::hosts::Leave;
use crate::registry::reachability::Phase;
use crate::registry::registration::Registrar;

/// How often an absent host is probed, and calls are looked for that cannot wait any longer.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// When a host that could not be removed is tried to be removed again.
const LEAVE_AGAIN: Duration = Duration::from_secs(10);
/// How long one probe may take.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// How long calls wait for a host that is away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// All calls.
    pub(crate) grace: Duration,
    /// Accepted calls, which have no waiting caller.
    pub(crate) accepted: Duration,
    /// The definitions that have other hosts; then the host leaves them.
    pub(crate) leave_after: Duration,
}

/// Watches hosts that are away. It keeps nothing itself: what is known of a host is in
/// [`known_host`](crate::registry::known_host).
#[derive(Debug)]
pub(crate) struct HostBreakers {
    pub(crate) queue: KeyedProducer<Placed>,
    /// Where a host leaves its definitions.
    pub(crate) registrar: Registrar,
    pub(crate) probe: Arc<dyn HostProbe>,
    pub(crate) tasks: Drain,
    pub(crate) stop: CancellationToken,
    pub(crate) patience: Patience,
    /// Calls in flight to one host that is not away.
    pub(crate) host_connections: usize,
}

impl HostBreakers {
    /// Notes what a failed turn says of its host.
    pub(super) fn note(self: &Arc<Self>, failed: &Failed) {
        let Error::Host(error) = &failed.error else { return };
        let placed = &failed.placed;
        let hosted = placed.entry.spec().hosted.at(placed.host_limit, &placed.entry.mailbox);
        let is_its_own = error.address() == hosted.address().as_str();
        if !error.is_unsent() {
            // Otherwise it is of a host that has left the others.
            if is_its_own || hosted.several.is_none() {
                hosted.host.reachability.reached();
            }
        } else if is_its_own {
            // Otherwise the host moved while its old address refused.
            if hosted.host.reachability.refused(error, hosted.several.is_some()) {
                warn!(host = %hosted.address(), %error, "an actor host accepts no connections: its calls wait for it, or go to other hosts");
                let stop = self.stop.clone();
                let watching = self.clone().watch(hosted);
                self.tasks.spawn(async move {
                    stop.run_until_cancelled(watching).await;
                });
            } else if hosted.host.reachability.is_away() {
                self.limit(&hosted, 0);
            }
        }
    }

    /// Sets how many turns of a host may be in flight.
    fn limit(&self, hosted: &Hosted, turns: usize) {
        self.queue.set_class_limit(hosted.host_limit, turns);
        match hosted.host.reachability.phase() {
            // Without a limit it is forgotten when it is quiet.
            Phase::Forgotten => self.queue.set_class_limit(hosted.host_limit, usize::MAX),
            // It came back while this limit was on its way, and nobody watches it any more.
            Phase::New | Phase::Reached if turns < self.host_connections => {
                self.queue.set_class_limit(hosted.host_limit, self.host_connections);
            }
            _ => {}
        }
    }

    async fn watch(self: Arc<Self>, hosted: Hosted) {
        let mut counted = Counted::new();
        self.limit(&hosted, 0);
        let reachability = &hosted.host.reachability;
        let mut leaves = Instant::now() + self.patience.leave_after;
        let mut ticks = interval(PROBE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_due = tokio::select! {
                _ = ticks.tick() => true,
                () = reachability.changed() => false,
            };
            counted.note();
            match reachability.phase() {
                Phase::Tried if is_due => reachability.reached(),
                Phase::Tried => {}
                Phase::Away | Phase::Open => {
                    self.limit(&hosted, 0);
                    let opens =
                        reachability.away_for() >= self.patience.grace && reachability.open();
                    if opens {
                        warn!(host = %hosted.address(), grace = ?self.patience.grace, "synchronous calls of this host fail at once now");
                    }
                    // Also after it has opened: some calls were on their way to their mailbox.
                    if opens || is_due {
                        self.sweep(&hosted);
                    }
                    if is_due && Instant::now() >= leaves {
                        leaves = Instant::now() + self.leave(&hosted).await;
                    }
                    if is_due && self.is_back(&hosted).await && reachability.tried() {
                        self.limit(&hosted, 1);
                    }
                }
                Phase::New | Phase::Reached | Phase::Forgotten => break,
            }
        }
        self.limit(&hosted, self.host_connections);
        let after = reachability.away_for();
        match reachability.phase() {
            Phase::Reached => {
                info!(host = %hosted.address(), ?after, "the actor host accepts connections again");
            }
            Phase::Forgotten => {
                info!(host = %hosted.address(), ?after, "no actor is of this host any more");
            }
            _ => {
                info!(host = %hosted.address(), ?after, "the actor host has registered again");
            }
        }
    }

    /// Probes the host once. The probe ends with the grace at the latest.
    async fn is_back(&self, hosted: &Hosted) -> bool {
        let reachability = &hosted.host.reachability;
        let left = self.patience.grace.saturating_sub(reachability.away_for());
        let limit = if left.is_zero() { PROBE_LIMIT } else { left.min(PROBE_LIMIT) };
        let probing = timeout(limit, self.probe.probe(hosted.address()));
        tokio::select! {
            probed = probing => matches!(probed, Ok(Ok(()))),
            () = reachability.changed() => false,
        }
    }

    /// Removes the host from the definitions that have others. Returns after how long that is tried again: it may have become one
    /// of several meanwhile.
    async fn leave(&self, hosted: &Hosted) -> Duration {
        let host = hosted.address().clone();
        let leaving = self.registrar.leave(Leave { host, system: None });
        tokio::select! {
            left = leaving => match left {
                Ok(()) => self.patience.leave_after,
                Err(error) => {
                    warn!(host = %hosted.address(), %error, "a host that was away for too long is not removed yet");
                    LEAVE_AGAIN
                }
            },
            () = hosted.host.reachability.changed() => Duration::ZERO,
        }
    }

    /// Ends the queued calls that may not wait any longer. Moves calls that another host can have.
    fn sweep(&self, hosted: &Hosted) {
        let (reachability, away_for) =
            (&hosted.host.reachability, hosted.host.reachability.away_for());
        let is_open = reachability.phase() == Phase::Open;
        let is_over = |placed: &mut Placed| {
            if placed.host_limit != hosted.host_limit {
                return false;
            }
            placed.keep_host();
            if placed.host_limit != hosted.host_limit {
                return false;
            }
            match &placed.task {
                Task::Call(call) if !call.reply.is_wanted() => {
                    away_for.min(call.timing.elapsed()) >= self.patience.accepted
                }
                _ => is_open,
            }
        };
        let over = self.queue.take_where(is_over);
        for placed in over {
            let reason = reachability.reason();
            placed.fail(Error::HostAway { away_for, reason });
        }
    }
}

/// Counts a host that is away, and for how long.
struct Counted {
    hosts: Gauge,
    /// Until when its time is counted.
    until: Instant,
}

/// The time of all hosts together, so that fractions of a second add up.
static AWAY: LazyLock<Seconds> = LazyLock::new(|| Seconds::new(counter!(HOSTS_AWAY_SECONDS_TOTAL)));

impl Counted {
    fn new() -> Self {
        let hosts = gauge!(HOSTS_AWAY);
        hosts.increment(1);
        Self { hosts, until: Instant::now() }
    }

    /// Counts the time since the last note.
    fn note(&mut self) {
        let now = Instant::now();
        AWAY.add(now.saturating_duration_since(self.until));
        self.until = now;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.note();
        self.hosts.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_pipeline::{Bound, Full, KeyedOptions};

    use super::*;
    use crate::actor::tests::definition;
    use crate::actor_timers::ActorTimers;
    use crate::effects::{DeadLetterBounds, Effects};
    use crate::memory::MemoryStore;
    use crate::placement::{Mailboxes, OneNode};
    use crate::ports::HostError;
    use crate::registry::capacity::RegistryBounds;
    use crate::registry::directory::Directory;
    use crate::registry::kept_rows::KeptRows;
    use crate::reply::Deadlines;

    const CONNECTIONS: usize = 4;

    fn breakers_of(directory: &Arc<Directory>) -> HostBreakers {
        let bound = Bound { events: 1, bytes: 1 };
        let options = KeyedOptions { name: "caller", bound, per_key: 1, full: Full::Shed };
        let (queue, placement) = (KeyedProducer::new(options), Arc::new(OneNode { epoch: 1 }));
        let mailboxes = Mailboxes::new(queue.clone(), placement, Deadlines::default());
        let (timers, _) = ActorTimers::new(mailboxes.clone(), directory.clone(), false);
        let tasks = Drain::new();
        let (store, epoch) = (Arc::new(MemoryStore::new()), 1);
        let effects = Effects::new(bound, DeadLetterBounds::default(), epoch);
        let rows = KeptRows { store, effects, epoch };
        let (registrar, _) = Registrar::new(
            directory.clone(),
            (Arc::new(MemoryStore::new()), rows),
            (mailboxes, timers),
            tasks.clone(),
            CONNECTIONS,
            (RegistryBounds::default(), true),
            1,
        );
        let long = Duration::from_mins(1);
        HostBreakers {
            queue,
            registrar,
            probe: Arc::new(()),
            tasks,
            stop: CancellationToken::new(),
            patience: Patience { grace: long, accepted: long, leave_after: long },
            host_connections: CONNECTIONS,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_comes_late_does_not_close_a_host_that_is_back() {
        let directory = Arc::new(Directory::new());
        let hosted = directory.hosted(Arc::new(definition("a"))).0;
        let breakers = breakers_of(&directory);
        let limited = |turns| {
            breakers.limit(&hosted, turns);
            breakers.queue.class_limit(hosted.host_limit)
        };
        let reachability = &hosted.host.reachability;
        reachability.reached();
        assert_eq!((limited(0), limited(1)), (CONNECTIONS, CONNECTIONS));
        let error = HostError::Connect { address: "h".into(), reason: "refused".into() };
        assert!(reachability.refused(&error, false));
        assert_eq!(limited(0), 0);
        assert!(reachability.tried());
        assert_eq!(limited(1), 1);
        reachability.registered();
        assert_eq!(limited(0), CONNECTIONS);
        reachability.forget();
        assert_eq!(limited(0), usize::MAX);
    }
}
