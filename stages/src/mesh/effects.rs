//! Effects: what administrators see of outboxes, and do with dead letters.

use crate::error::Error;
use crate::mesh::Mesh;
use crate::outbox::EffectId;
use crate::outbox::view::{
    DeadLetterChange, DeadLettersChanged, EffectCursor, EffectFilter, EffectPage, EffectView,
};

impl Mesh {
    /// Looks at pending effects and dead letters, ordered by source and position, after `after`: `limit` of them at most. A part
    /// of the look reads a bounded number of sources and rows, so it may find fewer, or none, and still say where to go on.
    ///
    /// # Errors
    /// When the store fails or the mesh is draining.
    pub async fn effects(
        &self,
        filter: &EffectFilter,
        after: Option<EffectCursor>,
        limit: usize,
    ) -> Result<EffectPage, Error> {
        self.refuse_while_closed()?;
        self.letters.look(filter, after, limit).await
    }

    /// Shows one effect of a source.
    ///
    /// # Errors
    /// When the source has no such effect: it may have been delivered. Else as [`effects`](Self::effects).
    pub async fn effect(
        &self,
        system: &str,
        source: &str,
        id: EffectId,
    ) -> Result<EffectView, Error> {
        let filter = EffectFilter::of(system, source, id);
        let mut after = None;
        loop {
            let EffectPage { effects, next } = self.effects(&filter, after, 1).await?;
            if let Some(effect) = effects.into_iter().next() {
                return Ok(effect);
            }
            let Some(next) = next else {
                let text = format!("{system}/{source} has no effect {id} in its outbox");
                return Err(Error::NotFound(text));
            };
            after = Some(next);
        }
    }

    /// Delivers the dead letters again that a filter means, or drops them, after `after`: a bounded number of them, those of a
    /// source in turns of its own. Dead letters that came since the look began stay as they are. With `is_dry_run` it only
    /// counts.
    ///
    /// # Errors
    /// When the store fails, a source does not get its turn, or the mesh is draining. What was changed before stays changed.
    pub async fn change_dead_letters(
        &self,
        change: DeadLetterChange,
        filter: EffectFilter,
        after: Option<EffectCursor>,
        is_dry_run: bool,
    ) -> Result<DeadLettersChanged, Error> {
        self.refuse_while_closed()?;
        self.letters.change(change, filter, after, is_dry_run).await
    }
}
