//! Reader: heads, revisions and registered entries out of the engine. Blocks.

use tidegate_stages::ports::Registered;
use tidegate_stages::state::{Head, Revision, Timestamp};

use super::damage::Damage;
use super::engine::Engine;
use super::keys;
use crate::store::records::{self, DecodeDefinition};

fn malformed(engine: &Engine, what: &str, error: &str) -> Damage {
    Damage::new(engine.dir(), format!("{what} cannot be decoded: {error}"))
}

/// The head under a key.
pub(super) fn head(engine: &Engine, key: &[u8]) -> Result<Option<Head>, Damage> {
    let value = engine.current.get(key).map_err(|error| engine.damage(&error))?;
    let head = value.map(|value| records::decode_head(&value)).transpose();
    head.map_err(|error| malformed(engine, "a head", &error))
}

/// One revision.
pub(super) fn revision(
    engine: &Engine,
    history: Vec<u8>,
    revision: u64,
) -> Result<Option<Revision>, Damage> {
    let value = engine.history.get(keys::revision(history, revision));
    let value = value.map_err(|error| engine.damage(&error))?;
    let revision = value.map(|value| records::decode_revision(&value)).transpose();
    revision.map_err(|error| malformed(engine, "a revision", &error))
}

/// Revisions between two times. Times of an actor never run backwards, so the first is searched for by halves:
/// at most 64 seeks however long the history is, then one step per entry of the interval.
pub(super) fn interval(
    engine: &Engine,
    history: &[u8],
    from: Timestamp,
    to: Timestamp,
    limit: usize,
) -> Result<Vec<Revision>, Damage> {
    let mut found = Vec::new();
    if from > to || limit == 0 {
        return Ok(found);
    }
    let last = keys::revision(history.to_vec(), u64::MAX);
    let entries_from = |revision: u64| {
        let first = keys::revision(history.to_vec(), revision);
        engine.history.range(first..=last.clone())
    };
    // Number and time of the first entry with at least this number.
    let entry_at = |revision: u64| -> Result<Option<(u64, Timestamp)>, Damage> {
        let Some(entry) = entries_from(revision).next() else { return Ok(None) };
        let (key, value) = entry.into_inner().map_err(|error| engine.damage(&error))?;
        let number = key.get(history.len()..).and_then(|suffix| suffix.try_into().ok());
        let number = number.map(u64::from_be_bytes);
        let number = number.ok_or_else(|| malformed(engine, "a revision's key", "its length"))?;
        let at = records::decode_revision_time(&value);
        Ok(Some((number, at.map_err(|error| malformed(engine, "a revision", &error))?)))
    };
    let Some((mut low, _)) = entry_at(0)? else { return Ok(found) };
    let newest = engine.history.range(history.to_vec()..=last.clone()).next_back();
    let newest =
        newest.map(|entry| entry.key().map_err(|error| engine.damage(&error))).transpose()?;
    let newest = newest.and_then(|key| key.get(history.len()..)?.try_into().ok());
    let mut high = newest.map_or(u64::MAX, u64::from_be_bytes);
    // Entries below `low` are before `from`; the first entry from `high` on, if any, is not.
    while low < high {
        let middle = low + (high - low) / 2;
        match entry_at(middle)? {
            Some((number, at)) if at < from => low = number.saturating_add(1),
            _ => high = middle,
        }
    }
    for entry in entries_from(low) {
        let value = entry.value().map_err(|error| engine.damage(&error))?;
        let revision = records::decode_revision(&value);
        let revision = revision.map_err(|error| malformed(engine, "a revision", &error))?;
        if revision.at > to || found.len() == limit {
            break;
        }
        if revision.at >= from {
            found.push(revision);
        }
    }
    Ok(found)
}

/// Everything registered.
pub(super) fn registered(
    engine: &Engine,
    decode: DecodeDefinition,
) -> Result<Vec<Registered>, Damage> {
    let entries = engine.current.prefix([keys::REGISTERED]).map(|entry| {
        let value = entry.value().map_err(|error| engine.damage(&error))?;
        let entry = records::decode_registered(&value, decode);
        entry.map_err(|error| malformed(engine, "a registered entry", &error))
    });
    entries.collect()
}

/// Actors whose history was being removed when the store was left, as the beginnings of their keys in `history`.
pub(super) fn unfinished_purges(engine: &Engine) -> Result<Vec<Vec<u8>>, Damage> {
    let notes = engine.current.prefix([keys::PURGE]).map(|entry| {
        let key = entry.key().map_err(|error| engine.damage(&error))?;
        Ok(key.get(1..).unwrap_or_default().to_vec())
    });
    notes.collect()
}
