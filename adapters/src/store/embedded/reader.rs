//! Reader: reads heads, revisions and registered entries from the engine. Blocks.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use fjall::Slice;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{Interval, PAGE_BYTES, Page};
use tidegate_stages::outbox::{OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::Registered;
use tidegate_stages::state::{Head, Revision, Timestamp};

use super::damage::{Damage, ReadError};
use super::engine::Engine;
use super::keys;
use crate::store::records::{self, DecodeDefinition, RecordError};

pub(super) fn malformed(engine: &Engine, what: &str, error: &str) -> Damage {
    Damage::new(engine.dir(), format!("{what} cannot be decoded: {error}"))
}

/// As [`malformed`], but keeps a sealed value apart.
pub(super) fn unreadable(engine: &Engine, what: &str, error: RecordError) -> ReadError {
    match error {
        RecordError::Malformed(text) => malformed(engine, what, &text).into(),
        RecordError::Sealed(error) => ReadError::Sealed(format!("{what}: {error}")),
    }
}

pub(super) fn head(engine: &Engine, key: &[u8]) -> Result<Option<Head>, ReadError> {
    let value = engine.current.get(key).map_err(|error| engine.damage(&error))?;
    let decode = |value: Slice| records::decode_head(keys::whose(key), &value, &engine.vault);
    let head = value.map(decode).transpose();
    head.map_err(|error| unreadable(engine, "a head", error))
}

pub(super) fn revision(
    engine: &Engine,
    history: &[u8],
    revision: u64,
) -> Result<Option<Revision>, ReadError> {
    let value = engine.history.get(keys::revision(history.to_vec(), revision));
    let value = value.map_err(|error| engine.damage(&error))?;
    let decode = |value: Slice| records::decode_revision(history, revision, &value, &engine.vault);
    let revision = value.map(decode).transpose();
    revision.map_err(|error| unreadable(engine, "a revision", error))
}

/// One actor's history: entries in the order of their numbers, which is also the order of their times.
pub(super) struct History<'a> {
    pub(super) engine: &'a Engine,
    pub(super) prefix: &'a [u8],
}

impl History<'_> {
    pub(super) fn key(&self, revision: u64) -> Vec<u8> {
        keys::revision(self.prefix.to_vec(), revision)
    }

    /// Returns the entries with at least this number.
    fn from(&self, revision: u64) -> fjall::Iter {
        self.engine.history.range(self.key(revision)..=self.key(u64::MAX))
    }

    pub(super) fn number(&self, key: &[u8]) -> Result<u64, Damage> {
        let number = key.get(self.prefix.len()..).and_then(|suffix| suffix.try_into().ok());
        let number = number.map(u64::from_be_bytes);
        number.ok_or_else(|| malformed(self.engine, "a revision's key", "its length"))
    }

    /// Returns number and time of the first entry with at least this number.
    pub(super) fn first_from(&self, revision: u64) -> Result<Option<(u64, Timestamp)>, Damage> {
        // Histories have few gaps, and reading one key costs a third of searching for the next one.
        let exact = self.engine.history.get(self.key(revision));
        if let Some(value) = exact.map_err(|error| self.engine.damage(&error))? {
            return Ok(Some((revision, self.time(&value)?)));
        }
        let Some(entry) = self.from(revision).next() else { return Ok(None) };
        let (key, value) = entry.into_inner().map_err(|error| self.engine.damage(&error))?;
        Ok(Some((self.number(&key)?, self.time(&value)?)))
    }

    fn time(&self, value: &[u8]) -> Result<Timestamp, Damage> {
        let at = records::decode_revision_time(value);
        at.map_err(|error| malformed(self.engine, "a revision", &error))
    }

    pub(super) fn newest(&self) -> Result<Option<u64>, Damage> {
        let Some(entry) = self.from(0).next_back() else { return Ok(None) };
        let key = entry.key().map_err(|error| self.engine.damage(&error))?;
        self.number(&key).map(Some)
    }

    /// Returns a number: all entries below it are before `time`, all others are not. Times never run
    /// backwards, so a binary search finds the number with at most 64 seeks, however long the history is.
    pub(super) fn boundary(&self, time: Timestamp) -> Result<u64, Damage> {
        let Some((mut low, _)) = self.first_from(0)? else { return Ok(0) };
        let Some(newest) = self.newest()? else { return Ok(0) };
        let mut high = newest.saturating_add(1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_from(middle)? {
                Some((number, at)) if at < time => low = number.saturating_add(1),
                _ => high = middle,
            }
        }
        Ok(low)
    }

    fn decode(&self, entry: fjall::Guard) -> Result<Revision, ReadError> {
        let (key, value) = entry.into_inner().map_err(|error| self.engine.damage(&error))?;
        let number = self.number(&key)?;
        let revision = records::decode_revision(self.prefix, number, &value, &self.engine.vault);
        revision.map_err(|error| unreadable(self.engine, "a revision", error))
    }
}

/// Returns a page of the revisions of an interval: one search for its beginning, then one step per entry.
pub(super) fn interval(
    engine: &Engine,
    history: &[u8],
    interval: &Interval,
    limit: usize,
) -> Result<Page<Revision>, ReadError> {
    let history = History { engine, prefix: history };
    let first = match (interval.after, interval.from) {
        (Some(after), _) => after.revision.saturating_add(1),
        (None, Some(from)) => history.boundary(from)?,
        (None, None) => 0,
    };
    let mut page = Page { items: Vec::new(), more: false };
    let mut bytes = 0;
    for entry in history.from(first) {
        if page.items.len() >= limit || bytes >= PAGE_BYTES {
            page.more = !page.items.is_empty();
            break;
        }
        let revision = history.decode(entry)?;
        if interval.to.is_some_and(|to| revision.at > to) {
            break;
        }
        if interval.holds(&revision) {
            bytes += revision.content.bytes();
            page.items.push(revision);
        }
    }
    Ok(page)
}

/// Returns the newest revision at or before a time.
pub(super) fn newest_at(
    engine: &Engine,
    history: &[u8],
    at: Timestamp,
) -> Result<Option<Revision>, ReadError> {
    let history = History { engine, prefix: history };
    let after = match at.0.checked_add(1) {
        Some(later) => history.boundary(Timestamp(later))?,
        None => u64::MAX,
    };
    let before = engine.history.range(history.key(0)..history.key(after)).next_back();
    before.map(|entry| history.decode(entry)).transpose()
}

/// Returns a page of the actors under a prefix, in the order of their keys.
pub(super) fn actors(
    engine: &Engine,
    system: &[u8],
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<Page<Arc<ActorId>>, Damage> {
    let mut page = Page { items: Vec::new(), more: false };
    let first = after.map_or_else(
        || Bound::Included(system.to_vec()),
        |after| {
            if after.starts_with(system) {
                Bound::Excluded(after)
            } else {
                Bound::Included(system.to_vec())
            }
        },
    );
    for entry in engine.current.range::<Vec<u8>, _>((first, Bound::Unbounded)) {
        let key = entry.key().map_err(|error| engine.damage(&error))?;
        if !key.starts_with(system) {
            break;
        }
        if page.items.len() >= limit {
            page.more = !page.items.is_empty();
            break;
        }
        let actor = keys::parse_actor(&key);
        page.items
            .push(Arc::new(actor.ok_or_else(|| malformed(engine, "a head's key", "its parts"))?));
    }
    Ok(page)
}

/// Returns a page of an actor's outbox; `outbox` is the prefix of its rows.
pub(super) fn outbox(
    engine: &Engine,
    outbox: &[u8],
    after: Option<OutboxKey>,
    limit: usize,
) -> Result<Page<OutboxRow>, ReadError> {
    let first = after.map_or_else(
        || Bound::Included(outbox.to_vec()),
        |after| Bound::Excluded(keys::row(outbox.to_vec(), after)),
    );
    let last = Bound::Excluded(keys::behind(outbox.to_vec()));
    page(engine, (first, last), limit, OutboxRow::bytes, |key, value| {
        let place = keys::parse_row(key).map(|(_, place)| place);
        let place = place.ok_or_else(|| malformed(engine, "an outbox's key", "its parts"))?;
        let row = records::decode_row(keys::whose(outbox), place, value, &engine.vault);
        row.map_err(|error| unreadable(engine, "a row of an outbox", error))
    })
}

/// Returns the rows of current state in a range of keys, at most `limit` rows and about [`PAGE_BYTES`], one row at least.
pub(super) fn page<T>(
    engine: &Engine,
    range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    limit: usize,
    bytes: fn(&T) -> usize,
    row: impl Fn(&[u8], &[u8]) -> Result<T, ReadError>,
) -> Result<Page<T>, ReadError> {
    let mut page = Page { items: Vec::new(), more: false };
    let mut read = 0;
    for entry in engine.current.range::<Vec<u8>, _>(range) {
        if page.items.len() >= limit || read >= PAGE_BYTES {
            page.more = !page.items.is_empty();
            break;
        }
        let (key, value) = entry.into_inner().map_err(|error| engine.damage(&error))?;
        let row = row(&key, &value)?;
        read += bytes(&row);
        page.items.push(row);
    }
    Ok(page)
}

/// Returns what an actor has seen; `seen` is the prefix of these rows.
pub(super) fn seen(engine: &Engine, seen: &[u8]) -> Result<Vec<Seen>, Damage> {
    let all = engine.current.prefix(seen).map(|entry| {
        let (key, value) = entry.into_inner().map_err(|error| engine.damage(&error))?;
        let source = keys::parse_source(&key, seen);
        let source = source.ok_or_else(|| malformed(engine, "a source's key", "its parts"))?;
        let id = records::decode_effect_id(&value);
        let id = id.map_err(|error| malformed(engine, "a seen effect", &error))?;
        Ok(Seen { source: Arc::new(source), id })
    });
    all.collect()
}

/// Returns a page of the actors whose outbox has a row: one search per actor, however many rows it has. `after` is
/// the prefix of the rows of the last actor before the page.
pub(super) fn pending(
    engine: &Engine,
    after: Option<Vec<u8>>,
    limit: usize,
) -> Result<Page<Arc<ActorId>>, ReadError> {
    let mut page = Page { items: Vec::new(), more: false };
    let mut first = after.map_or_else(|| vec![keys::OUTBOX], keys::behind);
    while let Some(entry) = engine.current.range(first..vec![keys::OUTBOX + 1]).next() {
        if page.items.len() >= limit {
            page.more = !page.items.is_empty();
            break;
        }
        let key = entry.key().map_err(|error| engine.damage(&error))?;
        let actor = keys::parse_row(&key).map(|(actor, _)| actor);
        let actor = actor.ok_or_else(|| malformed(engine, "an outbox's key", "its parts"))?;
        let outbox = keys::outbox(&actor);
        first =
            keys::behind(outbox.map_err(|error| malformed(engine, "a key", &error.to_string()))?);
        page.items.push(Arc::new(actor));
    }
    Ok(page)
}

/// Returns the keys of all heads under a prefix.
pub(super) fn heads(engine: &Engine, prefix: &[u8]) -> Result<Vec<Vec<u8>>, Damage> {
    let keys = engine.current.prefix(prefix).map(|entry| entry.key().map(|key| key.to_vec()));
    keys.collect::<Result<_, _>>().map_err(|error| engine.damage(&error))
}

/// Returns a head as it must be written under an epoch; `None` when there is none or it is of this epoch.
///
/// # Errors
/// When the head is of a later epoch: inside.
pub(super) fn moved_head(
    engine: &Engine,
    key: &[u8],
    epoch: u64,
) -> Result<Result<Option<Vec<u8>>, u64>, Damage> {
    let damaged = |error: String| malformed(engine, "a head", &error);
    let Some(value) = engine.current.get(key).map_err(|error| engine.damage(&error))? else {
        return Ok(Ok(None));
    };
    match records::epoch_of_head(&value).map_err(damaged)? {
        later if later > epoch => Ok(Err(later)),
        same if same == epoch => Ok(Ok(None)),
        _ => Ok(Ok(Some(records::move_head(&value, epoch).map_err(damaged)?))),
    }
}

/// Returns the newest claimed epoch; 0 when there is none.
pub(super) fn epoch(engine: &Engine) -> Result<u64, Damage> {
    let value = engine.current.get(keys::EPOCH).map_err(|error| engine.damage(&error))?;
    let value = value.map(|value| value.as_ref().try_into().map(u64::from_be_bytes));
    let epoch = value.transpose();
    Ok(epoch.map_err(|_| Damage::new(engine.dir(), "the epoch is malformed"))?.unwrap_or(0))
}

pub(super) fn note(engine: &Engine, key: &[u8]) -> Result<Option<Bytes>, Damage> {
    let value = engine.current.get(key).map_err(|error| engine.damage(&error))?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

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

/// Returns the `history` key prefixes of actors whose history was not removed completely when the store was
/// closed.
pub(super) fn unfinished_purges(engine: &Engine) -> Result<Vec<Vec<u8>>, Damage> {
    let notes = engine.current.prefix([keys::PURGE]).map(|entry| {
        let key = entry.key().map_err(|error| engine.damage(&error))?;
        Ok(key.get(1..).unwrap_or_default().to_vec())
    });
    notes.collect()
}
