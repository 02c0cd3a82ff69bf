//! Shards: which partition of several an actor or a name is in.

use tidegate_stages::actor::ActorId;

/// Shards of a system's list of actors.
pub(super) const SHARDS: i8 = 16;

/// Returns an actor's shard in the list of its system.
pub(super) fn shard(actor: &ActorId) -> i8 {
    let shards = u64::from(SHARDS.unsigned_abs());
    i8::try_from(hash(&[&actor.name, &actor.parent]) % shards).unwrap_or(0)
}

/// Returns a hash that is stored: it never changes.
pub(super) fn hash(parts: &[&str]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(parts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_of_an_actor_never_changes() {
        let id = |name: &str, parent: &str| ActorId {
            name: name.into(),
            system: "any".into(),
            parent: parent.into(),
        };
        // The shard is stored: another hash would list actors twice.
        let shards = [id("joe", ""), id("joe", "p"), id("Zürich", "")].map(|id| shard(&id));
        assert_eq!(shards, [5, 7, 10]);
    }
}
