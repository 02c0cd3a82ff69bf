//! Coalesce: which saves of one activation have to be written.
//!
//! A head that a later one overwrites in the same batch need not be written, unless a revision is appended from it.

use crate::ports::{Save, StoreError};

/// What the store says of one save.
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
                    Some(older) if !older.append => *older = save.clone(),
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
    use crate::state::Head;

    fn save(version: u64, append: bool) -> Save {
        Save { actor: Arc::default(), head: Head { version, ..Head::default() }, append }
    }

    #[test]
    fn an_overwritten_head_is_not_written_and_an_appended_one_is() {
        let turns = [save(1, false), save(2, true), save(3, false), save(4, false)];
        let mut saves = Vec::new();
        let covered_by = coalesce(turns.iter().map(Some), &mut saves);
        let versions: Vec<_> = saves.iter().map(|save| save.head.version).collect();
        assert_eq!(versions, [2, 4]);
        assert_eq!(covered_by, [Some(0), Some(0), Some(1), Some(1)]);
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
