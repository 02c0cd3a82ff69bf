//! Keys: the engine's keys for actors, revisions and registered names.
//!
//! Every part has a length prefix (two bytes, big-endian) and is never hashed: two names cannot share a
//! key, and no actor's key is a prefix of another's. The longest key, [`MAX_KEY_BYTES`], is far below the
//! engine's 65,535.

use tidegate_stages::actor::{ActorId, MAX_NAME_BYTES};
use tidegate_stages::ports::StoreError;

/// Prefix of a head in `current`.
pub(super) const HEAD: u8 = b'h';
/// Prefix of a registered name in `current`.
pub(super) const REGISTERED: u8 = b'r';
/// Prefix in `current` of an actor whose history is being removed.
pub(super) const PURGE: u8 = b'p';
/// Key of the newest claimed epoch, in `current`.
pub(super) const EPOCH: &[u8] = b"m/epoch";
/// Prefix of notes in `current`.
const NOTE: &[u8] = b"m/note/";

/// Longest key that is ever written: prefix, three parts, revision.
pub(super) const MAX_KEY_BYTES: usize = 1 + 3 * (2 + MAX_NAME_BYTES) + 8;
const _: () = assert!(MAX_KEY_BYTES <= u16::MAX as usize, "the engine's limit for a key");

fn push(key: &mut Vec<u8>, part: &str) -> Result<(), StoreError> {
    if part.len() > MAX_NAME_BYTES {
        let text = format!("a name of {} bytes, at most {MAX_NAME_BYTES} fit", part.len());
        return Err(StoreError::Unavailable(text));
    }
    let len = u16::try_from(part.len()).expect("MAX_NAME_BYTES fits u16");
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(part.as_bytes());
    Ok(())
}

/// Returns the key of an actor under a prefix of `current`.
pub(super) fn actor(prefix: u8, id: &ActorId) -> Result<Vec<u8>, StoreError> {
    let mut key = Vec::with_capacity(7 + id.system.len() + id.name.len() + id.parent.len());
    key.push(prefix);
    for part in [&id.system, &id.name, &id.parent] {
        push(&mut key, part)?;
    }
    Ok(key)
}

/// Returns the common prefix of the keys of all actors of a system, under a prefix of `current`.
pub(super) fn system(prefix: u8, system: &str) -> Result<Vec<u8>, StoreError> {
    let mut key = vec![prefix];
    push(&mut key, system)?;
    Ok(key)
}

/// Parses the actor from a key under a prefix of `current`; returns `None` for any other key.
pub(super) fn parse_actor(key: &[u8]) -> Option<ActorId> {
    fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let (len, tail) = rest.split_first_chunk()?;
        let (part, tail) = tail.split_at_checked(u16::from_be_bytes(*len).into())?;
        *rest = tail;
        str::from_utf8(part).ok()
    }
    let mut rest = key.get(1..)?;
    let (system, name, parent) = (part(&mut rest)?, part(&mut rest)?, part(&mut rest)?);
    let id = ActorId { name: name.into(), system: system.into(), parent: parent.into() };
    rest.is_empty().then_some(id)
}

/// Returns the common prefix of an actor's keys in `history`.
pub(super) fn history(id: &ActorId) -> Result<Vec<u8>, StoreError> {
    let mut key = Vec::with_capacity(14 + id.system.len() + id.name.len() + id.parent.len());
    for part in [&id.system, &id.name, &id.parent] {
        push(&mut key, part)?;
    }
    Ok(key)
}

/// Returns the key of one revision; `history` comes from [`history`].
pub(super) fn revision(mut history: Vec<u8>, revision: u64) -> Vec<u8> {
    history.extend_from_slice(&revision.to_be_bytes());
    history
}

pub(super) fn note(name: &str) -> Vec<u8> {
    [NOTE, name.as_bytes()].concat()
}

pub(super) fn registered(id: &ActorId) -> Result<Vec<u8>, StoreError> {
    let mut key = Vec::with_capacity(5 + id.system.len() + id.name.len());
    key.push(REGISTERED);
    push(&mut key, &id.system)?;
    push(&mut key, &id.name)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(system: &str, name: &str, parent: &str) -> ActorId {
        ActorId { name: name.into(), system: system.into(), parent: parent.into() }
    }

    #[test]
    fn the_longest_names_make_the_longest_key_and_longer_ones_are_refused() {
        let long = "x".repeat(MAX_NAME_BYTES);
        let longest = id(&long, &long, &long);
        assert_eq!(actor(HEAD, &longest).unwrap().len() + 8, MAX_KEY_BYTES);
        assert_eq!(revision(history(&longest).unwrap(), 1).len() + 1, MAX_KEY_BYTES);
        for too_long in [id(&"x".repeat(513), "a", ""), id("s", "a", &"x".repeat(70_000))] {
            assert!(matches!(actor(HEAD, &too_long), Err(StoreError::Unavailable(_))));
            assert!(matches!(history(&too_long), Err(StoreError::Unavailable(_))));
        }
    }

    #[test]
    fn a_key_tells_its_actor() {
        let joe = id("Zürich", "joe", "");
        let key = actor(HEAD, &joe).unwrap();
        assert_eq!(parse_actor(&key), Some(joe));
        assert_eq!(parse_actor(&key[..key.len() - 1]), None);
        assert_eq!(parse_actor(b""), None);
    }

    #[test]
    fn no_actors_key_begins_anothers() {
        let ids = [id("a", "b", "c"), id("ab", "c", ""), id("a", "bc", ""), id("a", "b", "")];
        for (i, a) in ids.iter().enumerate() {
            for (j, b) in ids.iter().enumerate() {
                let (a, b) = (actor(HEAD, a).unwrap(), actor(HEAD, b).unwrap());
                assert_eq!(a.starts_with(&b), i == j);
            }
        }
    }
}
