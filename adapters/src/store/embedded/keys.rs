//! Keys: the engine's keys for actors, revisions, rows of effects and registered names. All prefixes, also those that
//! nothing writes yet, are listed in `docs/decisions/017-store-format-2.md`.
//!
//! Every part has a length prefix (two bytes, big-endian) and is never hashed: two names cannot share a
//! key, and no actor's key is a prefix of another's. The longest key, [`MAX_KEY_BYTES`], is far below the
//! engine's 65,535.

use tidegate_stages::actor::{ActorId, ActorRef, MAX_NAME_BYTES};
use tidegate_stages::due::DueKey;
use tidegate_stages::outbox::{EffectSource, OutboxKey, SourceKind};
use tidegate_stages::ports::StoreError;
use tidegate_stages::schedules::ScheduleKey;
use tidegate_stages::state::Timestamp;

/// Prefix of a head in `current`.
pub(super) const HEAD: u8 = b'h';
/// Prefix of a registered name in `current`.
pub(super) const REGISTERED: u8 = b'r';
/// Prefix in `current` of an actor whose history is being removed.
pub(super) const PURGE: u8 = b'p';
/// Prefix of a row of an outbox in `current`.
pub(super) const OUTBOX: u8 = b'o';
/// Prefix in `current` of the newest effect that an actor has seen of a source.
const SEEN: u8 = b's';
/// Prefix of an entry of the table of due work in `current`.
pub(super) const DUE: u8 = b'w';
/// Prefix of a pause in `current`.
pub(super) const PAUSE: u8 = b'x';
/// Kind of a paused actor, in the key of its pause.
const PAUSED_ACTOR: u8 = 0;
/// Prefix of a schedule in `current`.
pub(super) const SCHEDULE: u8 = b'c';
/// Key of the newest claimed epoch, in `current`.
pub(super) const EPOCH: &[u8] = b"m/epoch";
/// Prefix of notes in `current`.
const NOTE: &[u8] = b"m/note/";

/// Longest key that is ever written: prefix, actor, kind of a source, its two parts.
pub(super) const MAX_KEY_BYTES: usize = 1 + 3 * (2 + MAX_NAME_BYTES) + 1 + 2 * (2 + MAX_NAME_BYTES);
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

/// Returns what names the actor in a key under a prefix of `current` that has nothing behind the actor. The same bytes begin
/// the keys of its history.
pub(super) fn whose(key: &[u8]) -> &[u8] {
    key.get(1..).unwrap_or_default()
}

/// Returns the common prefix of the keys of all actors of a system, under a prefix of `current`.
pub(super) fn system(prefix: u8, system: &str) -> Result<Vec<u8>, StoreError> {
    let mut key = vec![prefix];
    push(&mut key, system)?;
    Ok(key)
}

/// Returns the common prefix of the keys of all actors with a system and name, under a prefix of `current`.
pub(super) fn named(prefix: u8, id: &ActorId) -> Result<Vec<u8>, StoreError> {
    let mut key = system(prefix, &id.system)?;
    push(&mut key, &id.name)?;
    Ok(key)
}

/// Takes a part off the front of a key.
fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (len, tail) = rest.split_first_chunk()?;
    let (part, tail) = tail.split_at_checked(u16::from_be_bytes(*len).into())?;
    *rest = tail;
    str::from_utf8(part).ok()
}

/// Parses the actor at the front of a key under a prefix of `current`; returns it with the rest of the key.
fn actor_of(key: &[u8]) -> Option<(ActorId, &[u8])> {
    let mut rest = key.get(1..)?;
    let (system, name, parent) = (part(&mut rest)?, part(&mut rest)?, part(&mut rest)?);
    let id = ActorId { name: name.into(), system: system.into(), parent: parent.into() };
    Some((id, rest))
}

/// Parses the actor from a key under a prefix of `current`; returns `None` for any other key.
pub(super) fn parse_actor(key: &[u8]) -> Option<ActorId> {
    actor_of(key).and_then(|(id, rest)| rest.is_empty().then_some(id))
}

/// Returns the common prefix of the rows of an actor's outbox.
pub(super) fn outbox(id: &ActorId) -> Result<Vec<u8>, StoreError> {
    actor(OUTBOX, id)
}

/// Returns the key of a row; `outbox` comes from [`outbox`].
pub(super) fn row(mut outbox: Vec<u8>, key: OutboxKey) -> Vec<u8> {
    outbox.extend_from_slice(&key.epoch.to_be_bytes());
    outbox.extend_from_slice(&key.place.to_be_bytes());
    outbox
}

/// Returns a key behind all rows of an actor's outbox and before those of every later actor.
pub(super) fn behind(mut outbox: Vec<u8>) -> Vec<u8> {
    outbox.extend_from_slice(&[0xff; 17]);
    outbox
}

/// Parses actor and position from the key of a row.
pub(super) fn parse_row(key: &[u8]) -> Option<(ActorId, OutboxKey)> {
    let (id, rest) = actor_of(key)?;
    let (epoch, place) = rest.split_first_chunk()?;
    let (epoch, place) = (u64::from_be_bytes(*epoch), u64::from_be_bytes(place.try_into().ok()?));
    Some((id, OutboxKey { epoch, place }))
}

/// Returns the common prefix of what an actor has seen.
pub(super) fn seen(id: &ActorId) -> Result<Vec<u8>, StoreError> {
    actor(SEEN, id)
}

/// Returns the key of what an actor has seen of a source; `seen` comes from [`seen`].
pub(super) fn source(mut seen: Vec<u8>, source: &EffectSource) -> Result<Vec<u8>, StoreError> {
    seen.push(source.kind.number());
    push(&mut seen, &source.system)?;
    push(&mut seen, &source.name)?;
    Ok(seen)
}

/// Parses the source from a key below `seen`.
pub(super) fn parse_source(key: &[u8], seen: &[u8]) -> Option<EffectSource> {
    let (kind, mut rest) = key.strip_prefix(seen)?.split_first()?;
    let (system, name) = (part(&mut rest)?.into(), part(&mut rest)?.into());
    let kind = SourceKind::of_number(*kind).filter(|_| rest.is_empty())?;
    Some(EffectSource { kind, system, name })
}

/// Returns the key of an entry of the table of due work. Keys follow the order of their times.
pub(super) fn due(key: &DueKey) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![DUE];
    bytes.extend_from_slice(&key.at.0.to_be_bytes());
    source(bytes, &key.source)
}

/// Parses the key of an entry of the table of due work.
pub(super) fn parse_due(key: &[u8]) -> Option<DueKey> {
    let (at, _) = key.get(1..)?.split_first_chunk()?;
    let source = parse_source(key, key.get(..1 + size_of::<u64>())?)?;
    Some(DueKey { at: Timestamp(u64::from_be_bytes(*at)), source: source.into() })
}

/// Returns the key of an actor's pause.
pub(super) fn paused(actor: &ActorRef) -> Result<Vec<u8>, StoreError> {
    let mut key = vec![PAUSE];
    push(&mut key, actor.system())?;
    key.push(PAUSED_ACTOR);
    push(&mut key, actor.name())?;
    Ok(key)
}

/// Parses the key of a pause; `Some(None)` for one of something else than an actor.
#[expect(clippy::option_option, reason = "a key that is malformed, and one of another kind")]
pub(super) fn parse_paused(key: &[u8]) -> Option<Option<ActorRef>> {
    let mut rest = key.get(1..)?;
    let system = part(&mut rest)?;
    let (kind, mut rest) = rest.split_first()?;
    let name = part(&mut rest).filter(|_| rest.is_empty())?;
    Some((*kind == PAUSED_ACTOR).then(|| ActorRef::new(system, name)))
}

/// Returns the key of a schedule. Those of a system follow each other.
pub(super) fn schedule(
    ScheduleKey { system: of, name }: &ScheduleKey,
) -> Result<Vec<u8>, StoreError> {
    let mut key = system(SCHEDULE, of)?;
    push(&mut key, name)?;
    Ok(key)
}

/// Parses the key of a schedule.
pub(super) fn parse_schedule(key: &[u8]) -> Option<ScheduleKey> {
    let mut rest = key.get(1..)?;
    let (system, name) = (part(&mut rest)?.into(), part(&mut rest)?.into());
    rest.is_empty().then_some(ScheduleKey { system, name })
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
    named(REGISTERED, id)
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
        let from = EffectSource { system: long.clone(), name: long, ..EffectSource::default() };
        let key = source(seen(&longest).unwrap(), &from).unwrap();
        assert_eq!(key.len(), MAX_KEY_BYTES);
        assert!(row(outbox(&longest).unwrap(), OutboxKey::default()).len() < MAX_KEY_BYTES);
        assert!(revision(history(&longest).unwrap(), 1).len() < MAX_KEY_BYTES);
        for too_long in [id(&"x".repeat(513), "a", ""), id("s", "a", &"x".repeat(70_000))] {
            assert!(matches!(actor(HEAD, &too_long), Err(StoreError::Unavailable(_))));
            assert!(matches!(history(&too_long), Err(StoreError::Unavailable(_))));
        }
    }

    #[test]
    fn a_key_tells_its_actor() {
        let joe = id("Zürich", "joe", "");
        let key = actor(HEAD, &joe).unwrap();
        let named_so = crate::store::place::named(&joe);
        assert_eq!((whose(&key), &history(&joe).unwrap()), (&*named_so, &named_so));
        assert_eq!(parse_actor(&key), Some(joe));
        assert_eq!(parse_actor(&key[..key.len() - 1]), None);
        assert_eq!(parse_actor(b""), None);
    }

    #[test]
    fn the_keys_of_rows_tell_what_they_are_of_and_follow_their_order() {
        let joe = id("Zürich", "joe", "p");
        let place = |epoch, place| OutboxKey { epoch, place };
        let key = |at| row(outbox(&joe).unwrap(), at);
        assert_eq!(parse_row(&key(place(3, 4))), Some((joe.clone(), place(3, 4))));
        assert_eq!(parse_row(&actor(HEAD, &joe).unwrap()), None);
        let ascending = [place(0, 0), place(0, 9), place(1, 0), place(1 << 62, 1 << 62)].map(key);
        assert!(ascending.is_sorted());
        assert!(ascending[3] < behind(outbox(&joe).unwrap()));
        assert!(behind(outbox(&joe).unwrap()) < outbox(&id("Zürich", "joe", "q")).unwrap());
        let from = EffectSource { kind: SourceKind::Topic, system: "s".into(), name: "t".into() };
        let prefix = seen(&joe).unwrap();
        let key = source(prefix.clone(), &from).unwrap();
        assert_eq!(parse_source(&key, &prefix), Some(from));
        assert_eq!(parse_source(&key[..key.len() - 1], &prefix), None);
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
