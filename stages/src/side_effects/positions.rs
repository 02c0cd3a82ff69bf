//! Positions: where new subscribers of a durable topic begin.

use super::Planner;
use crate::history::Position;
use crate::outbox::EffectRows;
use crate::ports::Save;
use crate::registry::entry::CheckedOut;
use crate::topics::subscribed::look;

impl Planner {
    /// The commit of an event has the positions of new subscribers in it. So a subscriber that was registered before its turn gets the
    /// event, whatever crashes.
    pub(super) fn with_positions(&self, actor: &CheckedOut, save: Option<Save>) -> Option<Save> {
        let Some(log) = &actor.entry.topic else { return save };
        let mut save = save?;
        if let Some(head) = save.head.as_ref().filter(|_| save.append) {
            let before = Position { at: head.at, revision: head.revision.saturating_sub(1) };
            look(&self.directory, log, before);
            let seen = log.of_new(head.revision);
            if !seen.is_empty() {
                let rows = EffectRows { seen, ..EffectRows::default() };
                match &mut save.rows {
                    Some(earlier) => earlier.merge(&rows),
                    none => *none = Some(rows.into()),
                }
            }
        }
        Some(save)
    }
}
