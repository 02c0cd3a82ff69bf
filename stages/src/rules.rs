//! Rules: how a response changes an actor, and when that is written.

use crate::error::Error;
use crate::state::{ActorState, Any, Tags};

/// When a stateful actor's change is durable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// Before the reply that tells of it.
    #[default]
    Acknowledged,
    /// On the snapshot timer and on deactivation, as upstream does.
    Snapshot,
}

/// When the history gets a revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Revisions {
    /// When the snapshot strategy or a checkpoint says so.
    #[default]
    Snapshot,
    /// With every durable change.
    Every,
}

/// What an empty map of tags in a response means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmptyTags {
    /// The actor keeps its tags: several SDKs never send any.
    #[default]
    Keep,
    /// The actor loses its tags, as upstream does.
    Replace,
}

/// The rules by which a response changes an actor.
#[derive(Debug, Clone, Copy)]
pub struct ChangeRules {
    /// When a change is durable.
    pub durability: Durability,
    /// When the history grows.
    pub revisions: Revisions,
    /// What an empty map of tags means.
    pub empty_tags: EmptyTags,
    /// Largest state in bytes, type URL and tags included. A state that is larger already may stay or shrink.
    pub max_state_bytes: usize,
    /// Effects of one actor that are not delivered, from which on it is not called; twice as many for calls that deliver
    /// effects to it.
    pub max_pending_effects: u32,
    /// Sources of effects that a target keeps in mind, beyond which it forgets those that have nothing pending.
    pub max_seen: u32,
}

impl Default for ChangeRules {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            revisions: Revisions::default(),
            empty_tags: EmptyTags::default(),
            max_state_bytes: 4 << 20,
            max_pending_effects: 1024,
            max_seen: 1024,
        }
    }
}

impl ChangeRules {
    /// Tags and state after a response that names these.
    ///
    /// # Errors
    /// When they are larger than a state may be.
    pub(crate) fn new_content(
        &self,
        current: &ActorState,
        state: Option<Any>,
        tags: Tags,
    ) -> Result<ActorState, Error> {
        let tags = if tags.is_empty() && self.empty_tags == EmptyTags::Keep {
            current.tags.clone()
        } else {
            tags
        };
        let state = match state {
            None => current.state.clone(),
            Some(removed) if removed.is_empty() => None,
            state => state,
        };
        let content = ActorState { tags, state };
        let bytes = content.bytes();
        // What is above the limit already, because that was lowered, may stay or shrink.
        if bytes > self.max_state_bytes && bytes > current.bytes() {
            return Err(Error::TooLarge(format!(
                "the new state has {bytes} bytes with its tags, at most {} are allowed (TIDEGATE_MAX_STATE_BYTES); \
                 the action ran, the old state stays",
                self.max_state_bytes
            )));
        }
        Ok(content)
    }
}
