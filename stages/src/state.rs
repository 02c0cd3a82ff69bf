//! State: an actor's tags and state, and the records in which a store keeps them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

/// Tags of an actor: descriptive text, kept with its state.
pub type Tags = BTreeMap<String, String>;

/// A typed blob that the proxy never decodes. The type URL is kept verbatim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Any {
    /// Type URL as the user function sent it.
    pub type_url: String,
    /// The encoded message.
    pub value: Bytes,
}

impl Any {
    /// Whether type URL and value are both empty. Such a state is no state (decision 26).
    pub fn is_empty(&self) -> bool {
        self.type_url.is_empty() && self.value.is_empty()
    }

    /// Size in bytes, type URL included.
    pub fn len(&self) -> usize {
        self.type_url.len() + self.value.len()
    }
}

/// Microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the time of a new record: `self`, or just after `last` when the clock has gone back (decision 15).
    #[must_use]
    pub fn after(self, last: Timestamp) -> Timestamp {
        self.max(Timestamp(last.0 + 1))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Whether the actor was active when the record was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Status {
    /// The actor was in memory.
    #[default]
    Activated,
    /// The actor was deactivated in order.
    Deactivated,
    /// Not known.
    Unknown,
}

/// Tags and state, as `get_state` returns them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActorState {
    /// Current tags.
    pub tags: Tags,
    /// Current state, if any.
    pub state: Option<Any>,
}

impl ActorState {
    /// Size in bytes that counts against bounds.
    pub fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(key, value)| key.len() + value.len()).sum();
        tags + self.state.as_ref().map_or(0, Any::len)
    }
}

/// The newest revision of an actor's history: the result of a checkpoint and of a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Number of the newest revision; 0: none.
    pub revision: u64,
    /// When that revision was written; `None` when there is none.
    pub at: Option<Timestamp>,
    /// Tags and state of that revision.
    pub content: ActorState,
}

/// The latest durable state of an actor: one record, overwritten by each durable change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Counts durable changes.
    pub version: u64,
    /// Number of the newest revision appended to the history; 0: none.
    pub revision: u64,
    /// Activation that wrote the head (decision 13).
    pub incarnation: u64,
    /// Start of the proxy, or lease, under which the head was written (decision 17).
    pub epoch: u64,
    /// Whether the actor was running.
    pub status: Status,
    /// When the head was written; never goes back.
    pub at: Timestamp,
    /// Tags and state.
    pub content: ActorState,
}

impl Head {
    /// Returns the history entry for this head.
    pub fn as_revision(&self) -> Revision {
        Revision {
            revision: self.revision,
            version: self.version,
            incarnation: self.incarnation,
            epoch: self.epoch,
            status: self.status,
            at: self.at,
            content: self.content.clone(),
        }
    }
}

/// One entry of an actor's history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// Number: counts from 1, never repeats, never goes back (I4).
    pub revision: u64,
    /// Version of the head that became this entry.
    pub version: u64,
    /// Activation that wrote the entry.
    pub incarnation: u64,
    /// Epoch under which the entry was written.
    pub epoch: u64,
    /// Whether the actor was running.
    pub status: Status,
    /// When it was written.
    pub at: Timestamp,
    /// Tags and state.
    pub content: ActorState,
}
