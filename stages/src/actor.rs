//! Actor: identities, registered definitions and host addresses.

mod host;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_pipeline::randomness::seed;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::state::{Any, Tags};

pub use host::{Endpoint, HostAddress, HostSet};

/// Longest system, name or parent, in bytes of UTF-8 (decision 12).
pub const MAX_NAME_BYTES: usize = 512;

/// Why a system, actor or parent name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("is empty")]
    Empty,
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("has {0} bytes, at most {MAX_NAME_BYTES} are allowed")]
    TooLong(usize),
    /// The name holds a control character.
    #[error("holds a control character")]
    Control,
}

/// Checks a system, actor or parent name.
///
/// # Errors
/// When the name is empty, too long or holds a control character.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

/// An actor's identity in the protocol. `parent` is empty for an actor that is its own definition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId {
    /// Instance name.
    pub name: String,
    /// System of the actor.
    pub system: String,
    /// Definition that the actor was spawned from; may be empty.
    pub parent: String,
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.system, self.name)
    }
}

/// A live actor's identity: system and name (decision 12). Cheap to clone and to compare.
#[derive(Debug, Clone)]
pub struct ActorRef(Arc<ActorRefInner>);

#[derive(Debug)]
struct ActorRefInner {
    system: Box<str>,
    name: Box<str>,
    hash: u64,
}

impl ActorRef {
    /// Names an actor.
    pub fn new(system: &str, name: &str) -> Self {
        let hash = Self::hash_of(system, name);
        Self(Arc::new(ActorRefInner { system: system.into(), name: name.into(), hash }))
    }

    /// The hash for a map of actors: 64 bits over system and name, with the seed of this process.
    pub fn hash_of(system: &str, name: &str) -> u64 {
        xxh3_64_with_seed(name.as_bytes(), xxh3_64_with_seed(system.as_bytes(), seed()))
    }

    /// System of the actor.
    pub fn system(&self) -> &str {
        &self.0.system
    }

    /// Instance name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The precomputed [`hash_of`](Self::hash_of) this actor.
    pub fn precomputed_hash(&self) -> u64 {
        self.0.hash
    }
}

impl PartialEq for ActorRef {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash
                && self.0.name == other.0.name
                && self.0.system == other.0.system)
    }
}

impl Eq for ActorRef {}

impl Hash for ActorRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for ActorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.system, self.0.name)
    }
}

/// The kind of actor that a definition describes. Numbers of later protocols are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// Addressed by its registered name.
    #[default]
    Named,
    /// A template, from which instances are spawned.
    Unnamed,
    /// A pool of members with these numbers. A largest number below the least one: as many as the machine has cores, and the
    /// least number on top.
    Pooled {
        /// The least number.
        min: u32,
        /// The largest one.
        max: u32,
    },
    /// As [`Kind::Named`], as in the original.
    Proxy,
    /// As [`Kind::Named`], as in the original.
    Task,
    /// A number of a feature that there is not here; behaves as [`Kind::Named`].
    Other(i32),
}

/// A periodic action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timer {
    /// The action to run.
    pub action: String,
    /// Time between two runs.
    pub period: Duration,
}

/// A binding of an actor to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Channel name; a binding without one does not count.
    pub topic: String,
    /// Action that runs on delivery; never empty (default `receive`).
    pub action: String,
}

/// How a host wants its calls written. Only the port that calls hosts knows what it means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As messages of the protocol.
    #[default]
    Protobuf,
    /// As JSON.
    Json,
}

/// One registered actor or template.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Identity as registered, including `parent`.
    pub id: ActorId,
    /// Where its hosts listen.
    pub hosts: HostSet,
    /// Its kind.
    pub kind: Kind,
    /// Whether the state survives deactivation and restart.
    pub stateful: bool,
    /// Period of the snapshot timer; `None`: no snapshot timer.
    pub snapshot_every: Option<Duration>,
    /// Idle time before the actor is deactivated; `None`: never.
    pub deactivate_after: Option<Duration>,
    /// Registered actions, in the order of registration.
    pub actions: Vec<String>,
    /// Registered timers.
    pub timers: Vec<Timer>,
    /// Channel bindings. `None` when the host sent no metadata; such an actor is never warmed up.
    pub channels: Option<Vec<Channel>>,
    /// Initial state, if any.
    pub initial_state: Option<Any>,
    /// Initial tags.
    pub initial_tags: Tags,
    /// Whether a later registration of its host lacks it. Its timers and channels are removed, its state stays.
    pub retired: bool,
    /// How its hosts are called.
    pub encoding: Encoding,
    /// The registered bytes, verbatim, so that no unknown field is lost (decision 27).
    pub raw: Bytes,
}

/// Actions that the proxy itself runs, without the host, unless the actor registered one of them.
pub const DEFAULT_ACTIONS: [&str; 5] = ["get", "Get", "get_state", "getState", "GetState"];

/// Names of the action that runs on every activation.
pub const INIT_ACTIONS: [&str; 4] = ["init", "Init", "setup", "Setup"];

impl Definition {
    /// The host that is called.
    pub fn host(&self) -> &HostAddress {
        self.hosts.called()
    }

    /// Whether a call may name this action: a registered one, a timer's, or one of [`DEFAULT_ACTIONS`].
    pub fn knows(&self, action: &str) -> bool {
        DEFAULT_ACTIONS.contains(&action)
            || self.actions.iter().any(|known| known == action)
            || self.timers.iter().any(|timer| timer.action == action)
    }

    /// The topics that it binds, each once, with the action that runs on a delivery. Of several bindings of one topic the
    /// first one counts, and of those without a topic none.
    pub fn bindings(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.channels.as_deref().unwrap_or_default();
        let counts = move |(place, bound): &(usize, &Channel)| {
            let has = |earlier: &Channel| earlier.topic == bound.topic;
            !bound.topic.is_empty() && !all.iter().take(*place).any(has)
        };
        let bound = all.iter().enumerate().filter(counts);
        bound.map(|(_, bound)| (bound.topic.as_str(), bound.action.as_str()))
    }

    /// The action that runs when a message of this topic is delivered; `None` when the topic is not bound.
    pub fn action_on(&self, topic: &str) -> Option<&str> {
        let mut all = self.channels.iter().flatten();
        all.find(|bound| bound.topic == topic).map(|bound| bound.action.as_str())
    }

    /// Whether the proxy itself runs this action: one of [`DEFAULT_ACTIONS`], none of which is registered.
    pub fn is_default_action(&self, action: &str) -> bool {
        DEFAULT_ACTIONS.contains(&action)
            && !self.actions.iter().any(|known| DEFAULT_ACTIONS.contains(&known.as_str()))
    }

    /// Whether an action may change a state that is kept.
    pub(crate) fn may_change(&self, action: &str) -> bool {
        self.stateful && !self.is_default_action(action)
    }

    /// Returns the definition after its host registered without it (decision 28): no timers, no channels.
    #[must_use]
    pub fn retire(&self) -> Self {
        Self { timers: Vec::new(), channels: None, retired: true, ..self.clone() }
    }

    /// The first registered one of [`INIT_ACTIONS`].
    pub fn init_action(&self) -> Option<&str> {
        self.actions.iter().map(String::as_str).find(|action| INIT_ACTIONS.contains(action))
    }

    /// Whether the actor is activated right after registration: a named one with a state, a channel or a timer.
    pub fn is_warmed_up(&self) -> bool {
        !matches!(self.kind, Kind::Unnamed | Kind::Pooled { .. })
            && self
                .channels
                .as_ref()
                .is_some_and(|bound| self.stateful || !bound.is_empty() || !self.timers.is_empty())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    /// A stateful named definition in system `s` with the action `add`.
    pub(crate) fn definition(name: &str) -> Definition {
        Definition {
            id: ActorId { name: name.into(), system: "s".into(), parent: String::new() },
            hosts: HostAddress::new("127.0.0.1:8090").into(),
            kind: Kind::Named,
            stateful: true,
            snapshot_every: None,
            deactivate_after: None,
            actions: vec!["add".into()],
            timers: Vec::new(),
            channels: Some(Vec::new()),
            initial_state: None,
            initial_tags: Tags::new(),
            retired: false,
            encoding: Encoding::Protobuf,
            raw: Bytes::new(),
        }
    }

    #[test]
    fn names_chosen_for_one_bucket_of_another_process_are_spread() {
        const BUCKETS: u64 = 1_024;
        let without_seed = |name: &str| xxh3_64_with_seed(name.as_bytes(), xxh3_64(b"s"));
        let names = (0..).map(|number| format!("actor-{number}"));
        let chosen = names.filter(|name| without_seed(name) % BUCKETS == 0).take(64);
        let buckets: BTreeSet<u64> =
            chosen.map(|name| ActorRef::hash_of("s", &name) % BUCKETS).collect();
        assert!(buckets.len() > 32, "{} buckets for 64 names", buckets.len());
    }

    #[test]
    fn names_outside_the_rules_are_refused() {
        assert_eq!(check_name(""), Err(NameError::Empty));
        assert_eq!(check_name(&"x".repeat(513)), Err(NameError::TooLong(513)));
        assert_eq!(check_name("a\nb"), Err(NameError::Control));
        assert_eq!(check_name("Zürich 7/8"), Ok(()));
    }

    #[test]
    fn one_name_in_two_systems_is_two_actors() {
        assert_ne!(ActorRef::new("a", "joe"), ActorRef::new("b", "joe"));
        assert_eq!(ActorRef::new("a", "joe"), ActorRef::new("a", "joe"));
        assert_ne!(ActorRef::new("ab", "c"), ActorRef::new("a", "bc"));
    }
}
