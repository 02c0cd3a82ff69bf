//! Activation: an actor's memory while the actor is active, and the commits made from it.

pub(crate) mod incarnation;
pub(crate) mod seen;

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::actor::{ActorId, Definition};
use crate::outbox::{EffectId, EffectSource, Seen};
use crate::ports::Save;
use crate::state::{ActorState, Checkpoint, Head, Revision, Status, Timestamp};
use incarnation::Incarnation;
use seen::SeenEffects;

/// What an active actor takes beside its tags and its state: this memory, its incarnation, its timers.
const FIXED_BYTES: usize = 1_024;

/// About what one source takes whose effects it has seen.
const SEEN_BYTES: usize = 192;

/// An active actor's memory; the call in flight takes it.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) incarnation: Arc<Incarnation>,
    /// Whether it was read from the store, though there may have been nothing.
    was_read: bool,
    /// Tags and state for the next action.
    pub(crate) content: ActorState,
    /// Whether the init action has run.
    pub(crate) initialised: bool,
    version: u64,
    revision: u64,
    /// Status in the newest head; `None` when there is no head yet.
    status: Option<Status>,
    /// Whether `content` is newer than the newest head.
    dirty: bool,
    /// Fingerprint of the newest revision's content.
    revised: Option<u128>,
    /// Time of the newest revision, if that revision was loaded.
    revised_at: Option<Timestamp>,
    /// The newest effect of each source that it has seen; most actors have seen none.
    seen: Option<Box<SeenEffects>>,
}

impl Live {
    /// Creates the memory of an actor that was never stored.
    pub(crate) fn fresh(
        incarnation: Arc<Incarnation>,
        definition: &Definition,
        was_read: bool,
    ) -> Self {
        let content = ActorState {
            tags: definition.initial_tags.clone(),
            state: definition.initial_state.clone(),
        };
        Self {
            incarnation,
            was_read,
            content,
            initialised: false,
            version: 0,
            revision: 0,
            status: None,
            dirty: false,
            revised: None,
            revised_at: None,
            seen: None,
        }
    }

    /// Creates the memory from a head. `newest` is the revision with the head's revision number; it shows whether the head's
    /// content is already in the history.
    pub(crate) fn loaded(
        incarnation: Arc<Incarnation>,
        head: Head,
        newest: Option<&Revision>,
    ) -> Self {
        let revised = match (head.status, newest) {
            // An orderly deactivation has appended the content to the history.
            (Status::Deactivated, _) => Some(fingerprint(&head.content)),
            (_, newest) => newest.map(|revision| fingerprint(&revision.content)),
        };
        Self {
            incarnation,
            was_read: true,
            content: head.content,
            initialised: false,
            version: head.version,
            revision: head.revision,
            status: Some(head.status),
            dirty: false,
            revised,
            revised_at: newest.map(|revision| revision.at),
            seen: None,
        }
    }

    /// Whether an effect was answered already: it is not run again.
    pub(crate) fn has_seen(&self, source: &EffectSource, id: EffectId) -> bool {
        #[cfg(any(test, feature = "testkit"))]
        if crate::testkit::recognition::is_off() {
            return false;
        }
        self.seen.as_ref().is_some_and(|seen| seen.has(source, id))
    }

    /// Notes that an effect is answered. The caller has it written with the state.
    pub(crate) fn see(&mut self, seen: Seen) {
        self.seen.get_or_insert_default().see(seen);
    }

    /// Forgets sources that it has seen effects of, when there are more than `most`. Returns them; the caller has that written
    /// with the state.
    pub(crate) fn forget(
        &mut self,
        most: usize,
        has_nothing_pending: impl Fn(&EffectSource) -> bool,
    ) -> Vec<Arc<EffectSource>> {
        self.seen.as_mut().map(|seen| seen.forget(most, has_nothing_pending)).unwrap_or_default()
    }

    /// Whether this memory fits the actor as it is registered now. The changes of a stateful actor overwrite its head, so the
    /// head must have been read.
    pub(crate) fn fits(&self, definition: &Definition) -> bool {
        !definition.stateful || self.was_read
    }

    /// Whether the store has a state of the actor, or gets one: it is not only what was registered.
    pub(crate) fn is_stored(&self) -> bool {
        self.status.is_some()
    }

    /// Makes the content of an older revision the current content: a change like any other.
    pub(crate) fn restore(&mut self, revision: Revision) {
        self.change(revision.content);
    }

    /// Replaces the content. Returns whether the content is different.
    pub(crate) fn change(&mut self, content: ActorState) -> bool {
        let changed = self.content != content;
        if changed {
            self.content = content;
            self.dirty = true;
        }
        changed
    }

    /// Undoes [`save`](Self::save) for the content: it must be written again.
    pub(crate) fn unsaved(&mut self) {
        self.dirty = true;
        self.revised = None;
    }

    /// How much memory it takes: tags, state and what every active actor takes.
    pub(crate) fn bytes(&self) -> usize {
        let seen = self.seen.as_ref().map_or(0, |seen| seen.len());
        FIXED_BYTES + self.content.bytes() + seen * SEEN_BYTES
    }

    /// Whether the content is newer than the newest head.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether the content differs from that of the newest revision. Unchanged content is not appended.
    pub(crate) fn is_unrevised(&self) -> bool {
        let empty = self.content.state.is_none() && self.content.tags.is_empty();
        if self.revised.is_none() && empty {
            return false;
        }
        self.revised != Some(fingerprint(&self.content))
    }

    /// Returns the number of the newest revision when only its number is known.
    pub(crate) fn unseen_revision(&self) -> Option<u64> {
        let is_unseen = self.revised.is_some() && self.revised_at.is_none();
        is_unseen.then_some(self.revision)
    }

    /// Takes the history's entry under the newest number. `None`: the content must be appended again.
    pub(crate) fn see_revision(&mut self, newest: Option<&Revision>) {
        self.revised = newest.map(|revision| fingerprint(&revision.content));
        self.revised_at = newest.map(|revision| revision.at);
    }

    /// Returns the newest revision of the history once all returned saves are written.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let (revision, at) = (self.revision, self.revised_at);
        Checkpoint { revision, at, content: self.content.clone() }
    }

    /// Whether a head was stored, but its content is not yet in the history.
    pub(crate) fn is_behind(&self) -> bool {
        self.status.is_some() && self.is_unrevised()
    }

    /// Whether an orderly deactivation must write a save.
    pub(crate) fn needs_final_save(&self) -> bool {
        self.is_unkept() || self.status == Some(Status::Activated)
    }

    /// Whether the content is not yet in the newest head, or not yet in the history.
    pub(crate) fn is_unkept(&self) -> bool {
        self.dirty || self.is_unrevised()
    }

    /// Returns the commit that makes the current content durable, as the next version. With `append` the content also becomes the
    /// next revision. Version and revision never go back (I4).
    pub(crate) fn save(
        &mut self,
        id: &Arc<ActorId>,
        status: Status,
        append: bool,
        at: Timestamp,
    ) -> Save {
        self.version += 1;
        if append {
            self.revision += 1;
            self.revised = Some(fingerprint(&self.content));
            self.revised_at = Some(at);
        }
        self.status = Some(status);
        self.dirty = false;
        let head = Head {
            version: self.version,
            revision: self.revision,
            incarnation: self.incarnation.number,
            epoch: self.incarnation.epoch,
            status,
            at,
            content: self.content.clone(),
        };
        Save::of_head(id.clone(), head, append)
    }
}

/// Returns a 128-bit fingerprint of tags and state. Equal contents have equal fingerprints.
fn fingerprint(content: &ActorState) -> u128 {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(bytes);
    };
    // Separates the hash of a state from the hash of a tag.
    part(&[u8::from(content.state.is_some())]);
    if let Some(state) = &content.state {
        part(state.type_url.as_bytes());
        part(&state.value);
    }
    for (key, value) in &content.tags {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::definition;
    use crate::state::{Any, Tags};

    fn content(text: &'static str) -> ActorState {
        let state = Any { type_url: "t".into(), value: text.as_bytes().into() };
        ActorState { tags: [("k".to_owned(), "v".to_owned())].into(), state: Some(state) }
    }

    fn incarnation() -> Arc<Incarnation> {
        Arc::new(Incarnation::new(1, 1))
    }

    #[test]
    fn the_same_content_again_is_no_change() {
        let mut live = Live::fresh(incarnation(), &definition("a"), false);
        assert!(live.change(content("1")));
        assert!(!live.change(content("1")));
    }

    #[test]
    fn an_orderly_end_leaves_nothing_to_append() {
        let head = Head {
            status: Status::Deactivated,
            content: content("1"),
            version: 4,
            revision: 2,
            ..Head::default()
        };
        let live = Live::loaded(incarnation(), head, None);
        assert!(!live.is_unrevised() && !live.needs_final_save());
    }

    #[test]
    fn a_head_newer_than_its_revision_is_appended_later() {
        let head = Head { content: content("2"), version: 4, revision: 2, ..Head::default() };
        let newest = Revision { content: content("1"), revision: 2, ..Revision::default() };
        assert!(Live::loaded(incarnation(), head.clone(), Some(&newest)).is_unrevised());
        let same = Revision { content: content("2"), revision: 2, ..Revision::default() };
        assert!(!Live::loaded(incarnation(), head, Some(&same)).is_unrevised());
    }

    #[test]
    fn a_state_and_a_tag_of_the_same_bytes_differ() {
        let tag = ActorState { tags: [("t".to_owned(), "1".to_owned())].into(), state: None };
        let state = Any { type_url: "t".into(), value: "1".into() };
        let state = ActorState { tags: Tags::new(), state: Some(state) };
        assert_ne!(fingerprint(&tag), fingerprint(&state));
    }

    #[test]
    fn an_actor_without_state_has_nothing_to_append() {
        assert!(!Live::fresh(incarnation(), &definition("a"), false).is_unrevised());
    }
}
