//! Coalesce: which saves of one activation have to be written.
//!
//! A head that a later one overwrites in the same batch need not be written, unless a revision is appended from it. Its
//! rows of effects are written with the later one.

use crate::ports::{Save, StoreError};

/// Most bytes of effects in one save, besides those of its first turn. A store is checked at its start to take this much
/// beside the largest state (decision 16).
const EFFECT_BYTES: usize = 1 << 20;

/// The outcome of one save.
pub(super) type Outcome = Result<(), StoreError>;

/// Adds the saves of one activation that have to be written to `saves`. Returns for each turn the index of the save
/// that covers it; `None` for a turn before the first save.
pub(super) fn coalesce<'a>(
    turns: impl Iterator<Item = Option<&'a Save>>,
    saves: &mut Vec<Save>,
) -> Vec<Option<usize>> {
    let mut newest: Option<usize> = None;
    turns
        .map(|save| {
            if let Some(save) = save {
                match newest.and_then(|index| saves.get_mut(index)) {
                    Some(older) if can_join(older, save) => join(older, save),
                    _ => {
                        newest = Some(saves.len());
                        saves.push(save.clone());
                    }
                }
            }
            newest
        })
        .collect()
}

/// Whether one save can replace both.
fn can_join(older: &Save, newer: &Save) -> bool {
    let rows = |save: &Save| save.rows.as_ref().map_or(0, |rows| rows.bytes());
    let keeps_heads = !older.append || newer.head.is_none();
    keeps_heads && (newer.rows.is_none() || rows(older) + rows(newer) <= EFFECT_BYTES)
}

/// Adds a later save to an earlier one.
fn join(older: &mut Save, newer: &Save) {
    if newer.head.is_some() {
        (older.head, older.append) = (newer.head.clone(), newer.append);
    }
    older.epoch = newer.epoch;
    match (&mut older.rows, &newer.rows) {
        (Some(older), Some(newer)) => older.merge(newer),
        (older @ None, Some(newer)) => *older = Some(newer.clone()),
        (_, None) => {}
    }
}

/// The outcome of a turn: that of the save that covers it. A turn without one has nothing to wait for.
pub(super) fn outcome_of(covered_by: Option<usize>, outcomes: &[Outcome]) -> &Outcome {
    covered_by.and_then(|index| outcomes.get(index)).unwrap_or(&Ok(()))
}

/// The index of the newest of these saves that was, or may have been, written.
pub(super) fn reached(covered_by: &[Option<usize>], outcomes: &[Outcome]) -> Option<usize> {
    let mut written =
        covered_by.iter().rev().flatten().filter(|index| match outcomes.get(**index) {
            Some(Ok(())) => true,
            Some(Err(error)) => error.may_have_happened(),
            None => false,
        });
    written.next().copied()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outbox::{EffectId, EffectRows, EffectSource, OutboxKey, OutboxRow, Seen};
    use crate::state::Head;

    fn save(version: u64, append: bool) -> Save {
        Save::of_head(Arc::default(), Head { version, epoch: 1, ..Head::default() }, append)
    }

    fn row(place: u64, bytes: usize) -> OutboxRow {
        let (key, id) = (OutboxKey { epoch: 1, place }, EffectId::default());
        OutboxRow { key, id, record: vec![0; bytes].into() }
    }

    /// The effects of turn `number`: appends its row, removes that of the turn before, and has seen one effect.
    fn rows(number: u64) -> EffectRows {
        let id = EffectId { number, ..EffectId::default() };
        EffectRows {
            appends: vec![row(number, 0)],
            acknowledged: vec![row(number - 1, 0).key],
            seen: vec![Seen { source: Arc::new(EffectSource::default()), id }],
            forgotten: Vec::new(),
        }
    }

    fn with(save: Save, rows: EffectRows) -> Save {
        Save { rows: Some(rows.into()), ..save }
    }

    fn coalesced(turns: &[Save]) -> (Vec<Save>, Vec<Option<usize>>) {
        let mut saves = Vec::new();
        let covered_by = coalesce(turns.iter().map(Some), &mut saves);
        (saves, covered_by)
    }

    fn versions(saves: &[Save]) -> Vec<Option<u64>> {
        saves.iter().map(|save| save.head.as_ref().map(|head| head.version)).collect()
    }

    #[test]
    fn an_overwritten_head_is_not_written_and_an_appended_one_is() {
        let turns = [save(1, false), save(2, true), save(3, false), save(4, false)];
        let (saves, covered_by) = coalesced(&turns);
        assert_eq!(versions(&saves), [Some(2), Some(4)]);
        assert_eq!(covered_by, [Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn an_overwritten_head_leaves_its_effects() {
        let turns = [1, 2, 3].map(|number| with(save(number, false), rows(number)));
        let (saves, covered_by) = coalesced(&turns);
        assert_eq!(versions(&saves), [Some(3)]);
        assert_eq!(covered_by, [Some(0); 3]);
        let written = saves[0].rows.as_deref().unwrap();
        assert_eq!(written.appends, [row(3, 0)], "the others are acknowledged already");
        assert_eq!(written.acknowledged, [row(0, 0).key, row(1, 0).key, row(2, 0).key]);
        assert_eq!(written.seen, rows(3).seen, "only the newest of a source");
    }

    #[test]
    fn rows_alone_keep_the_head_before_them_and_a_head_alone_keeps_the_rows() {
        let alone = |number| Save::of_rows(Arc::default(), 1, rows(number));
        let (saves, _) = coalesced(&[save(1, true), alone(1), alone(2)]);
        assert_eq!(versions(&saves), [Some(1)]);
        assert!(saves[0].append);
        assert_eq!(saves[0].rows.as_deref().unwrap().appends, [row(2, 0)]);
        let (saves, _) = coalesced(&[alone(1), save(1, true), save(2, false)]);
        assert_eq!(versions(&saves), [Some(1), Some(2)]);
        assert_eq!(saves[0].rows.as_deref(), Some(&rows(1)));
        assert_eq!(saves[1].rows, None);
        assert!(saves[0].append && !saves[1].append);
    }

    #[test]
    fn one_save_does_not_grow_beyond_what_a_store_takes() {
        let large = || EffectRows { appends: vec![row(1, EFFECT_BYTES / 2)], ..rows(1) };
        let turns = [1, 2, 3].map(|version| with(save(version, false), large()));
        let (saves, covered_by) = coalesced(&turns);
        assert_eq!(versions(&saves), [Some(1), Some(2), Some(3)]);
        assert_eq!(covered_by, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_turn_that_changed_nothing_waits_for_the_save_before_it() {
        let first = save(1, false);
        let mut saves = Vec::new();
        assert_eq!(
            coalesce([None, Some(&first), None].into_iter(), &mut saves),
            [None, Some(0), Some(0)]
        );
    }
}
