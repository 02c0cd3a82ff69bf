//! Reachability: whether a host accepts connections, as calls and probes have found out (decision 28).
//!
//! ```text
//! New ──▶ Reached ──▶ Away ──▶ Open        one probe every 250 ms
//!  ▲         ▲          ▲ ╲      │
//!  │         └───────── Tried ◀──┘         a probe has connected: one call tries the host
//!  └── a registration from its address, in any phase
//! ```
//! Calls of a host that is away wait for it. After the grace it is open: then synchronous calls fail at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::Error;
use crate::ports::HostError;

/// How long after a registration a host that was reached before may refuse: it may register before it listens.
pub(crate) const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// Outages that are remembered.
const OUTAGES: usize = 16;

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// No call has reached it since it registered.
    New,
    /// It accepted connections when it was last called.
    Reached,
    /// It refuses; all its calls wait.
    Away,
    /// It has refused for longer than the grace.
    Open,
    /// A probe has connected; one call tries it.
    Tried,
    /// No definition names it any more.
    Forgotten,
}

const PHASES: [Phase; 6] =
    [Phase::New, Phase::Reached, Phase::Away, Phase::Open, Phase::Tried, Phase::Forgotten];

/// One host; see the [module](self).
#[derive(Debug)]
pub(crate) struct Reachability {
    /// A [`Phase`]; it changes only under the lock.
    phase: AtomicU8,
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Debug)]
struct Held {
    was_reached: bool,
    contact_ends: Instant,
    /// Since when it is away, and the last reason.
    since: Instant,
    reason: String,
    /// When its last outages began, the oldest first.
    outages: VecDeque<Instant>,
}

impl Default for Reachability {
    fn default() -> Self {
        let now = Instant::now();
        let held = Held {
            was_reached: false,
            contact_ends: now,
            since: now,
            reason: String::new(),
            outages: VecDeque::new(),
        };
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            held: Mutex::new(held),
            changed: Notify::new(),
        }
    }
}

impl Reachability {
    pub(crate) fn phase(&self) -> Phase {
        let phase = usize::from(self.phase.load(Ordering::Acquire));
        PHASES.get(phase).copied().unwrap_or(Phase::New)
    }

    /// Whether its calls wait for its return.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.phase(), Phase::Away | Phase::Open | Phase::Tried)
    }

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until the phase may have changed. For one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Notes that it accepted a call. An answer to a call from before its outage does not count as its return.
    pub(crate) fn reached(&self) {
        if !matches!(self.phase(), Phase::New | Phase::Tried) {
            return;
        }
        let mut held = self.held.lock();
        held.was_reached = true;
        if matches!(self.phase(), Phase::New | Phase::Tried) {
            self.set(Phase::Reached);
        }
    }

    /// Notes that it refused a call. Returns whether an outage begins with that. A host that was never reached may still be about
    /// to start: no outage begins, unless `others` can have its calls.
    pub(crate) fn refused(&self, error: &HostError, others: bool) -> bool {
        let mut held = self.held.lock();
        let now = Instant::now();
        let begins = match self.phase() {
            Phase::Reached => true,
            Phase::New => (held.was_reached || others) && now >= held.contact_ends,
            Phase::Tried => false,
            Phase::Away | Phase::Open | Phase::Forgotten => return false,
        };
        if begins {
            (held.since, held.reason) = (now, error.to_string());
            if held.outages.len() == OUTAGES {
                held.outages.pop_front();
            }
            held.outages.push_back(now);
            self.set(Phase::Away);
        } else if self.phase() == Phase::Tried {
            self.set(Phase::Away);
        }
        begins
    }

    /// Notes that a probe has connected. Returns false when it is not away any more.
    pub(crate) fn tried(&self) -> bool {
        self.change(|phase| matches!(phase, Phase::Away | Phase::Open), Phase::Tried)
    }

    /// Notes that it has been away for longer than the grace. Returns false when it is not away any more.
    pub(crate) fn open(&self) -> bool {
        self.change(|phase| phase == Phase::Away, Phase::Open)
    }

    /// Notes a registration from its address: it may refuse again for the time of a first contact.
    pub(crate) fn registered(&self) {
        self.held.lock().contact_ends = Instant::now() + FIRST_CONTACT;
        self.change(|phase| phase != Phase::Forgotten, Phase::New);
    }

    /// Notes that no definition names it any more.
    pub(crate) fn forget(&self) {
        self.change(|_| true, Phase::Forgotten);
    }

    fn change(&self, may: impl FnOnce(Phase) -> bool, to: Phase) -> bool {
        let _held = self.held.lock();
        let may = may(self.phase());
        if may {
            self.set(to);
        }
        may
    }

    /// How long it has been away.
    pub(crate) fn away_for(&self) -> Duration {
        self.held.lock().since.elapsed()
    }

    /// How many outages began within this time, 16 at most, and how long ago the first of them did.
    pub(crate) fn outages(&self, within: Duration) -> (usize, Duration) {
        let held = self.held.lock();
        let mut lately = held.outages.iter().map(Instant::elapsed).filter(|ago| *ago <= within);
        let first = lately.next();
        (lately.count() + usize::from(first.is_some()), first.unwrap_or_default())
    }

    /// The error of the connection attempt that began the outage.
    pub(crate) fn reason(&self) -> String {
        self.held.lock().reason.clone()
    }

    /// Why synchronous calls fail now.
    pub(crate) fn refusal(&self) -> Option<Error> {
        (self.phase() == Phase::Open).then(|| {
            let held = self.held.lock();
            Error::HostAway { away_for: held.since.elapsed(), reason: held.reason.clone() }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn error() -> HostError {
        HostError::Connect { address: "h".into(), reason: "refused".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_was_never_reached_is_never_away() {
        let host = Reachability::default();
        assert!(!host.refused(&error(), false));
        advance(Duration::from_hours(1)).await;
        assert!(!host.refused(&error(), false) && !host.is_away());
        assert!(!host.open() && !host.tried());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_outages_are_counted() {
        let host = Reachability::default();
        let within = Duration::from_mins(10);
        assert_eq!(host.outages(within), (0, Duration::ZERO));
        for _ in 0..20 {
            host.reached();
            assert!(host.refused(&error(), false) && !host.refused(&error(), false));
            assert!(host.tried());
            advance(Duration::from_secs(10)).await;
        }
        assert_eq!(host.outages(within), (16, Duration::from_secs(160)));
        assert_eq!(host.outages(Duration::from_secs(30)), (3, Duration::from_secs(30)));
        advance(within).await;
        assert_eq!(host.outages(within), (0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_begins_once_and_ends_with_a_call_that_it_accepts() {
        let host = Reachability::default();
        host.reached();
        assert!(host.refused(&error(), false));
        assert!(!host.refused(&error(), false), "it goes on");
        host.reached();
        assert_eq!(host.phase(), Phase::Away, "an answer to an older call");
        assert!(host.refusal().is_none());
        assert!(host.open());
        assert!(matches!(host.refusal(), Some(Error::HostAway { .. })));
        assert!(host.tried() && host.is_away());
        assert!(!host.refused(&error(), false), "the same outage");
        assert_eq!(host.phase(), Phase::Away);
        advance(Duration::from_secs(7)).await;
        assert_eq!(host.away_for(), Duration::from_secs(7));
        assert!(host.tried());
        host.reached();
        assert_eq!(host.phase(), Phase::Reached);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registration_starts_the_first_contact_anew() {
        let host = Reachability::default();
        host.reached();
        assert!(host.refused(&error(), false) && host.open());
        host.registered();
        assert!(!host.refused(&error(), false) && !host.is_away());
        advance(FIRST_CONTACT).await;
        assert!(host.refused(&error(), false));
        host.forget();
        host.registered();
        assert!(!host.refused(&error(), false) && !host.is_away());
    }
}
