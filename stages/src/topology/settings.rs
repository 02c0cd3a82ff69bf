//! Settings: the bounds and rules of a mesh, and the ports that it is opened with.

use std::sync::Arc;
use std::time::Duration;

use tidegate_pipeline::layer::RateLimitOptions;
use tidegate_pipeline::{Bound, Full, KeyedOptions, KeyedProducer};

use crate::access::CurrentPolicies;
use crate::call::Placed;
use crate::checkpoint::CheckpointGate;
use crate::effects::DeadLetterBounds;
use crate::history::Retention;
use crate::ports::{Clock, HostProbe, OtherMembers, OtherSystems, Registry, StateStore};
use crate::registry::capacity::RegistryBounds;
use crate::registry::hosts::HostRules;
use crate::reply::Deadlines;
use crate::retry_budget::RetryRates;
use crate::rules::ChangeRules;
use crate::schedules::ScheduleBounds;
use crate::topics::rules::TopicRules;
use crate::traces::Tracer;

/// Bounds and rules of the mesh; the defaults suit a small machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Calls that are admitted and not answered yet.
    pub admission: Bound,
    /// Calls of these that wait for paused actors, all of them together.
    pub for_paused: usize,
    /// What happens to a call when this bound is reached.
    pub full: Full,
    /// How often clients may call.
    pub rate_limits: RateLimits,
    /// Where calls for systems go that are not registered here; `None`: nowhere.
    pub other_systems: Option<Arc<dyn OtherSystems>>,
    /// Where broadcasts go beside the subscribers here; `None`: nowhere.
    pub other_members: Option<Arc<dyn OtherMembers>>,
    /// Who may call what. Its owner may replace the policies while the mesh runs.
    pub policies: CurrentPolicies,
    /// Which calls are traced, and where traces go.
    pub tracer: Tracer,
    /// Turns that run at the same time.
    pub worker_demand: usize,
    /// Consumers among which the turns are shared; as many as there are cores.
    pub workers: usize,
    /// Calls in flight to one host.
    pub host_connections: usize,
    /// How long calls wait for a host that refuses connections. Then synchronous ones fail at once.
    pub host_grace: Duration,
    /// How the hosts of a definition are kept and chosen.
    pub hosts: HostRules,
    /// Changes on their way to the store, from the grant of their turns until their outcome is known; bytes at least
    /// [`least_checkpoint_bytes`](super::least_checkpoint_bytes).
    pub checkpoint: Bound,
    /// Commits that the store works on at once. One for a store that writes all waiting saves as one commit; more for a store
    /// over a network.
    pub commits_in_flight: usize,
    /// Side effects on their way to their targets.
    pub effects: Bound,
    /// Dead letters in the store, beyond which the oldest are dropped.
    pub dead_letters: DeadLetterBounds,
    /// Broadcasts and their deliveries, from the commit or the publication until the last subscriber is done: so many of each,
    /// and the bytes of the messages.
    pub broadcasts: Bound,
    /// Which topics are durable, and how.
    pub topics: TopicRules,
    /// Whether calls for a later time are taken and timers of actors run.
    pub delayed_calls: bool,
    /// How long a call may take, phase by phase.
    pub deadlines: Deadlines,
    /// How often a failing host or store is tried again.
    pub retries: RetryRates,
    /// How a response changes an actor.
    pub rules: ChangeRules,
    /// How many actors may be registered.
    pub registry: RegistryBounds,
    /// How many schedules there may be.
    pub schedules: ScheduleBounds,
    /// How much of each history is kept.
    pub retention: Retention,
    /// Actors in memory, beyond which the least recently used leave.
    pub max_live: usize,
    /// Bytes of states in memory, beyond which they leave too.
    pub max_live_bytes: usize,
}

/// How often clients may call; `None` is without limit. The mesh's own calls are never limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls of one peer.
    pub peer: Option<RateLimitOptions>,
    /// Calls of one client that has a name: of its token, else of its certificate.
    pub identity: Option<RateLimitOptions>,
    /// Calls of one system.
    pub system: Option<RateLimitOptions>,
    /// Calls of all actors that are made from one definition.
    pub definition: Option<RateLimitOptions>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            admission: Bound { events: 12_288, bytes: 256 << 20 },
            for_paused: 1_024,
            full: Full::Shed,
            rate_limits: RateLimits::default(),
            other_systems: None,
            other_members: None,
            policies: CurrentPolicies::default(),
            tracer: Tracer::default(),
            worker_demand: 4_096,
            workers: 2,
            host_connections: 4_096,
            host_grace: Duration::from_secs(4),
            hosts: HostRules::default(),
            checkpoint: Bound { events: 8_192, bytes: 128 << 20 },
            commits_in_flight: 1,
            effects: Bound { events: 8_192, bytes: 64 << 20 },
            dead_letters: DeadLetterBounds::default(),
            broadcasts: Bound { events: 8_192, bytes: 64 << 20 },
            topics: TopicRules::default(),
            delayed_calls: true,
            deadlines: Deadlines::default(),
            retries: RetryRates::default(),
            rules: ChangeRules::default(),
            registry: RegistryBounds::default(),
            schedules: ScheduleBounds::default(),
            retention: Retention::default(),
            max_live: 1_000_000,
            max_live_bytes: 1 << 30,
        }
    }
}

impl Settings {
    /// The mailboxes: a queue per actor, one invocation per actor at a time.
    pub(super) fn mailboxes(&self, gate: CheckpointGate) -> KeyedProducer<Placed> {
        let options = KeyedOptions {
            name: "caller",
            bound: self.admission,
            per_key: (self.admission.events / 8).max(1),
            full: self.full,
        };
        KeyedProducer::gated(options, gate)
    }
}

/// The outside world, as the mesh needs it.
#[derive(Debug)]
pub struct Ports<H> {
    /// Calls user functions.
    pub host: H,
    /// Finds out whether a host accepts connections.
    pub probe: Arc<dyn HostProbe>,
    /// Keeps states.
    pub store: Arc<dyn StateStore>,
    /// Keeps definitions.
    pub registry: Arc<dyn Registry>,
    /// Reads the wall clock.
    pub clock: Arc<dyn Clock>,
}
