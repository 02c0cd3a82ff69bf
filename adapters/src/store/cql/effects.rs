//! Effects: the rows of effects in an actor's partition, as they are written and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::{PAGE_BYTES, Page};
use tidegate_stages::outbox::{
    EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, Seen, SourceKind,
};
use tidegate_stages::ports::StoreError;

use super::database::Changes;
use super::errors::damage;
use super::rows::{HEAD, Key, OWNER, bound, open, signed, unsigned};
use super::shards::hash;
use super::shared::Shared;
use crate::store::place::Place;
use crate::store::vault::Vault;

/// Bytes of a row beside its content.
const ROW_BYTES: usize = 128;
/// Rows of an outbox that are read together.
const ABREAST: usize = 16;

/// The number of an effect: epoch, activation, number.
pub(super) type Number = (i64, i64, i64);
/// A source: kind, system, name.
pub(super) type Source = (i8, String, String);
/// A row of seen effects.
pub(super) type SeenMap = BTreeMap<Source, Number>;
/// The last places of older epochs that a take-over found in an outbox.
pub(super) type Taken = BTreeMap<i64, i64>;

/// A row of an outbox as it is stored: epoch, place, number of the effect, record, whether that is sealed.
type Stored = (i64, i64, Option<Number>, Option<Bytes>, Option<bool>);

/// The rows of one commit, ready to be written.
#[derive(Debug, Default)]
pub(super) struct EffectsOut {
    appends: Vec<(i64, i64, Number, Bytes, bool)>,
    acknowledged: Vec<(i64, i64)>,
    seen: Vec<(Source, Number)>,
    forgotten: Vec<Source>,
}

impl EffectsOut {
    /// `actor` is [named](Key::named).
    pub(super) fn of(
        actor: &[u8],
        mut rows: EffectRows,
        vault: &Vault,
    ) -> Result<Self, StoreError> {
        rows.reduce();
        let append = |OutboxRow { key, id, record }: OutboxRow| {
            let (record, sealed) = match vault.seal(&record, Place::effect(actor, key, id)) {
                Some(sealed) => (sealed, true),
                None => (record, false),
            };
            Ok((signed(key.epoch)?, signed(key.place)?, number(id)?, record, sealed))
        };
        let key = |key: OutboxKey| Ok::<_, StoreError>((signed(key.epoch)?, signed(key.place)?));
        let seen = |seen: Seen| Ok((source(&seen.source)?, number(seen.id)?));
        Ok(Self {
            appends: rows.appends.into_iter().map(append).collect::<Result<_, StoreError>>()?,
            acknowledged: rows.acknowledged.into_iter().map(key).collect::<Result<_, _>>()?,
            seen: rows.seen.into_iter().map(seen).collect::<Result<_, StoreError>>()?,
            forgotten: rows.forgotten.iter().map(|of| source(of)).collect::<Result<_, _>>()?,
        })
    }

    /// Rows that it adds to the outbox.
    pub(super) fn appended(&self) -> usize {
        self.appends.len()
    }

    /// Rows that it removes from the outbox.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Returns about how many bytes the rows take in one write.
    pub(super) fn bytes(&self) -> usize {
        let appends = self.appends.iter().map(|(_, _, _, record, _)| ROW_BYTES + record.len());
        let sources = self.seen.iter().map(|(source, _)| source).chain(&self.forgotten);
        let seen = sources.map(|source| ROW_BYTES + source.1.len() + source.2.len());
        appends.sum::<usize>() + seen.sum::<usize>() + ROW_BYTES * self.acknowledged.len()
    }
}

impl Shared {
    /// Adds the rows of a commit to its changes.
    pub(super) fn put_effects<'a>(
        &self,
        key: &Key<'a>,
        epoch: i64,
        effects: &'a EffectsOut,
        changes: &mut Changes<'a>,
    ) {
        let (cql, Key { system, actor, parent }) = (&self.database.cql, *key);
        for (epoch, place, number, record, sealed) in &effects.appends {
            let values = (system, actor, parent, epoch, place, number, record, sealed);
            changes.add(&cql.put_outbox, values);
        }
        for (epoch, place) in &effects.acknowledged {
            changes.add(&cql.drop_outbox, (system, actor, parent, epoch, place));
        }
        for (source, number) in &effects.seen {
            self.put_seen(key, epoch, source, *number, changes);
        }
        for source in &effects.forgotten {
            // They lie under the owner's epoch, which has taken them over.
            let values = (source, system, actor, parent, epoch, place_of(source));
            changes.add(&cql.drop_seen, values);
        }
    }

    pub(super) fn put_seen<'a>(
        &self,
        key: &Key<'a>,
        epoch: i64,
        source: &'a Source,
        number: Number,
        changes: &mut Changes<'a>,
    ) {
        let Key { system, actor, parent } = *key;
        let values = (source, number, system, actor, parent, epoch, place_of(source));
        changes.add(&self.database.cql.put_seen, values);
    }

    /// Returns the epoch of an actor's owner: rows of older epochs do not count. Also returns, for each older epoch, the
    /// last position in the outbox that still counts.
    pub(super) async fn owner(&self, key: &Key<'_>) -> Result<(i64, Taken), StoreError> {
        let rows: Vec<(i8, i64, Option<Taken>)> =
            self.database.read(&self.database.cql.owner, *key).await?;
        Ok(owner(rows))
    }

    /// Returns the rows of an actor's outbox that count, ascending.
    pub(super) async fn outbox(
        &self,
        actor: &ActorId,
        after: Option<OutboxKey>,
        limit: usize,
    ) -> Result<Page<OutboxRow>, StoreError> {
        let (key, cql) = (Key::of(actor)?, &self.database.cql);
        let named = key.named();
        let Key { system, actor, parent } = key;
        let (owner, taken) = self.owner(&key).await?;
        let (mut epoch, mut place) =
            after.map_or((0, -1), |after| (bound(after.epoch), bound(after.place)));
        let mut page = Page::EMPTY;
        let mut bytes = 0;
        loop {
            let from = (system, actor, parent, epoch);
            let next: Option<(i64,)> = self.database.read_one(&cql.outbox_epoch, from).await?;
            let Some((found,)) = next else { return Ok(page) };
            if found > epoch {
                (epoch, place) = (found, -1);
            }
            let last =
                if epoch < owner { taken.get(&epoch).copied().unwrap_or(-1) } else { i64::MAX };
            let count = i32::try_from(ABREAST).unwrap_or(i32::MAX);
            let values = (system, actor, parent, epoch, place, last, count);
            let rows: Vec<Stored> = self.database.read(&cql.outbox, values).await?;
            let is_last = rows.len() < ABREAST;
            for row in rows {
                if page.items.len() >= limit || bytes >= PAGE_BYTES {
                    page.more = !page.items.is_empty();
                    return Ok(page);
                }
                place = row.1;
                let row = self.outbox_row(&named, row)?;
                bytes += row.bytes();
                page.items.push(row);
            }
            if is_last {
                (epoch, place) = (epoch.saturating_add(1), -1);
            }
        }
    }

    fn outbox_row(&self, actor: &[u8], row: Stored) -> Result<OutboxRow, StoreError> {
        let (epoch, place, number, record, sealed) = row;
        let number = number.ok_or_else(|| damage("a row of an outbox", "it has no number"))?;
        let record = record.unwrap_or_default();
        let key = OutboxKey { epoch: unsigned(epoch)?, place: unsigned(place)? };
        let id = effect_id(number)?;
        let place = Place::effect(actor, key, id);
        let record = open(record, sealed.unwrap_or_default(), place, &self.vault, "an effect")?;
        Ok(OutboxRow { key, id, record })
    }

    /// Returns the newest effects that an actor has seen, ordered by source.
    pub(super) async fn seen(&self, key: &Key<'_>) -> Result<Vec<Seen>, StoreError> {
        let (owner, _) = self.owner(key).await?;
        let rows: Vec<(i64, Option<SeenMap>)> =
            self.database.read(&self.database.cql.seen, *key).await?;
        let counting = rows.into_iter().filter(|(epoch, _)| *epoch >= owner);
        newest(counting.filter_map(|(_, seen)| seen))
    }
}

/// Returns the epoch of an actor's owner and what it took over, from kind, epoch and `taken` of its heads and owner's rows.
///
/// An owner that finds rows of effects takes the actor over, which writes its row. A head of a later epoch than that row is
/// of an owner that found none, so whatever older epochs still add does not count (`docs/decisions/020`).
pub(super) fn owner(rows: impl IntoIterator<Item = (i8, i64, Option<Taken>)>) -> (i64, Taken) {
    let (mut owner, mut head) = ((0, Taken::new()), 0);
    for (kind, epoch, taken) in rows {
        match kind {
            OWNER if epoch > owner.0 => owner = (epoch, taken.unwrap_or_default()),
            HEAD => head = head.max(epoch),
            _ => {}
        }
    }
    if head > owner.0 { (head, Taken::new()) } else { owner }
}

/// In which row a source is.
fn place_of((kind, of, name): &Source) -> i64 {
    hash(&[&kind.to_string(), of, name]).cast_signed()
}

/// Returns the newest effect of each source, ordered by source.
pub(super) fn newest(rows: impl Iterator<Item = SeenMap>) -> Result<Vec<Seen>, StoreError> {
    let mut newest: BTreeMap<EffectSource, EffectId> = BTreeMap::new();
    for (source, number) in rows.flatten() {
        let id = effect_id(number)?;
        let entry = newest.entry(effect_source(source)?).or_insert(id);
        *entry = id.max(*entry);
    }
    Ok(newest.into_iter().map(|(source, id)| Seen { source: Arc::new(source), id }).collect())
}

pub(super) fn number(id: EffectId) -> Result<Number, StoreError> {
    Ok((signed(id.epoch)?, signed(id.activation)?, signed(id.number)?))
}

fn effect_id((epoch, activation, number): Number) -> Result<EffectId, StoreError> {
    let (epoch, activation, number) = (unsigned(epoch)?, unsigned(activation)?, unsigned(number)?);
    Ok(EffectId { epoch, activation, number })
}

pub(super) fn source(source: &EffectSource) -> Result<Source, StoreError> {
    let kind = match source.kind {
        SourceKind::Actor => 0,
        SourceKind::Due => 1,
        SourceKind::Schedule => 2,
        SourceKind::Topic => 3,
        _ => return Err(damage("a source", "its kind is not known")),
    };
    Ok((kind, source.system.clone(), source.name.clone()))
}

pub(super) fn effect_source((kind, system, name): Source) -> Result<EffectSource, StoreError> {
    let kind = match kind {
        0 => SourceKind::Actor,
        1 => SourceKind::Due,
        2 => SourceKind::Schedule,
        3 => SourceKind::Topic,
        other => return Err(damage("a source", format!("it has kind {other}"))),
    };
    Ok(EffectSource { kind, system, name })
}
