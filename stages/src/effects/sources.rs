//! Sources: the outboxes with something left to do.

use std::sync::Arc;

use hashbrown::HashMap;

use super::source::Source;
use crate::actor::ActorId;
use crate::outbox::EffectSource;

/// By their key. A target knows them by name, and two keys may have the same one for a time.
#[derive(Debug, Default)]
pub(super) struct Sources {
    by_key: HashMap<Arc<ActorId>, Arc<Source>>,
    names: HashMap<Arc<EffectSource>, u32>,
}

impl Sources {
    pub(super) fn get(&self, key: &ActorId) -> Option<&Arc<Source>> {
        self.by_key.get(key)
    }

    /// Whether a source of this name is among them.
    pub(super) fn has_name(&self, name: &EffectSource) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn get_or_add(
        &mut self,
        key: &Arc<ActorId>,
        new: impl FnOnce() -> Source,
    ) -> Arc<Source> {
        if let Some(known) = self.by_key.get(key) {
            return known.clone();
        }
        let source = Arc::new(new());
        *self.names.entry(source.name.clone()).or_default() += 1;
        self.by_key.insert(key.clone(), source.clone());
        source
    }

    pub(super) fn remove(&mut self, key: &ActorId) {
        let Some(source) = self.by_key.remove(key) else { return };
        if let Some(count) = self.names.get_mut(&source.name) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(&source.name);
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Source>> {
        self.by_key.values().cloned().collect()
    }
}
