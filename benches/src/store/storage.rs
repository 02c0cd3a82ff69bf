//! Storage: the common trait of a store and its bare engine, and states that identify their actor.

use std::future::Future;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_stages::actor::ActorId;
use tidegate_stages::state::Timestamp;

use crate::counter::mix;

/// Size of a state in bytes, without its type URL.
pub const STATE_BYTES: usize = 256;
/// Type URL of a state.
pub const STATE_URL: &str = "type.googleapis.com/tidegate.benches.Kept";
/// Time of the first revision of a history, in microseconds since 1970; each later revision is [`STEP_US`] later.
const BEGINNING_US: u64 = 1_780_000_000_000_000;
/// Time between two revisions of one actor, in microseconds.
const STEP_US: u64 = 250_000;

/// One change of one actor.
#[derive(Debug, Clone)]
pub struct Change {
    /// The actor.
    pub actor: Arc<ActorId>,
    /// Its number among the actors.
    pub number: u64,
    /// Counts the actor's changes.
    pub version: u64,
    /// Number of the newest revision.
    pub revision: u64,
    /// Whether this change is that revision.
    pub append: bool,
}

/// Stores changes. A change is durable when `save` returns. Every error ends the bench.
pub trait Storage: Send + Sync + 'static {
    /// Stores a change.
    fn save(&self, change: Change) -> impl Future<Output = ()> + Send;

    /// Returns the newest state.
    fn load(&self, actor: &ActorId) -> impl Future<Output = Bytes> + Send;

    /// Returns the state of a revision.
    fn load_revision(&self, actor: &ActorId, revision: u64) -> impl Future<Output = Bytes> + Send;
}

/// The identity of an actor.
pub fn identity(number: u64) -> Arc<ActorId> {
    let name = format!("kept-{number:08}");
    Arc::new(ActorId { name, system: "benches".into(), parent: "kept".into() })
}

/// The time of a version.
pub fn time(version: u64) -> Timestamp {
    Timestamp(BEGINNING_US + version * STEP_US)
}

/// The state of an actor at a version: both numbers, then incompressible bytes derived from them.
pub fn state(actor: u64, version: u64) -> Bytes {
    let mut bytes = BytesMut::with_capacity(STATE_BYTES);
    bytes.put_u64_le(actor);
    bytes.put_u64_le(version);
    let seed = mix(actor ^ mix(version));
    for word in 0..(STATE_BYTES / 8 - 2) as u64 {
        bytes.put_u64_le(mix(seed ^ word));
    }
    bytes.freeze()
}

/// Returns the version of a state.
///
/// # Panics
/// When the bytes are not a complete state of this actor.
pub fn version_in(actor: u64, bytes: &Bytes) -> u64 {
    let version = bytes.get(8..16).and_then(|version| version.try_into().ok());
    let version = version.map(u64::from_le_bytes).expect("a state");
    assert_eq!(*bytes, state(actor, version), "a state of actor {actor}");
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_tells_its_version_and_cannot_be_anothers() {
        let kept = state(7, 41);
        assert_eq!((kept.len(), version_in(7, &kept)), (STATE_BYTES, 41));
        assert!(std::panic::catch_unwind(|| version_in(8, &state(7, 41))).is_err());
    }

    #[test]
    #[should_panic(expected = "a state of actor 7")]
    fn a_torn_state_is_found_out() {
        let mut bytes = state(7, 41).to_vec();
        bytes[200] ^= 1;
        version_in(7, &bytes.into());
    }
}
