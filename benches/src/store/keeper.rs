//! Keeper: what keeps states, a store or its bare engine; and states that tell whose they are.

use std::future::Future;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_stages::actor::ActorId;
use tidegate_stages::state::Timestamp;

use crate::counter::mix;

/// Size of a state, its type URL not counted.
pub const STATE_BYTES: usize = 256;
/// Its type URL.
pub const STATE_URL: &str = "type.googleapis.com/tidegate.benches.Kept";
/// When the first revision of a history was written, in microseconds since 1970; each later one is [`STEP_US`] younger.
const BEGINNING_US: u64 = 1_780_000_000_000_000;
/// Time between two revisions of one actor.
const STEP_US: u64 = 250_000;

/// One change of one actor.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose.
    pub actor: Arc<ActorId>,
    /// Its number among the actors.
    pub number: u64,
    /// Counts its changes.
    pub version: u64,
    /// Its newest revision.
    pub revision: u64,
    /// Whether this change is that revision.
    pub append: bool,
}

/// Keeps changes; a change is durable when `save` ends. Ends the bench on every error.
pub trait Keeper: Send + Sync + 'static {
    /// Keeps a change.
    fn save(&self, change: Change) -> impl Future<Output = ()> + Send;

    /// The newest state.
    fn load(&self, actor: &ActorId) -> impl Future<Output = Bytes> + Send;

    /// The state of a revision.
    fn load_revision(&self, actor: &ActorId, revision: u64) -> impl Future<Output = Bytes> + Send;
}

/// The identity of an actor.
pub fn identity(number: u64) -> Arc<ActorId> {
    let name = format!("kept-{number:08}");
    Arc::new(ActorId { name, system: "benches".into(), parent: "kept".into() })
}

/// When a version was written.
pub fn time(version: u64) -> Timestamp {
    Timestamp(BEGINNING_US + version * STEP_US)
}

/// The state of an actor at a version: both numbers, then bytes that follow from them and cannot be compressed.
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

/// The version of which this is the state.
///
/// # Panics
/// When it is not a state of this actor, whole.
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
