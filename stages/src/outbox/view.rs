//! View: effects of outboxes as administrators see and choose them.

use std::str::FromStr;
use std::sync::Arc;

use super::record::Dead;
use super::{EffectId, OutboxKey};
use crate::access::Pattern;
use crate::actor::ActorId;
use crate::state::Timestamp;

/// An effect that is not delivered, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectView {
    /// The key of its source.
    pub source: Arc<ActorId>,
    /// Its row.
    pub key: OutboxKey,
    /// Its number.
    pub id: EffectId,
    /// The actor that it calls.
    pub target: ActorId,
    /// The action that it runs.
    pub action: String,
    /// When it was emitted.
    pub at: Timestamp,
    /// Size of its row.
    pub bytes: u64,
    /// Tries of one that is pending, since the start; `None`: it is not in memory.
    pub attempts: Option<u32>,
    /// Why it is a dead letter; `None`: it is pending.
    pub dead: Option<Dead>,
}

impl EffectView {
    /// Its source as `SYSTEM/NAME`. A member of a pool has the name of its pool.
    pub fn source_name(&self) -> String {
        source_name(&self.source)
    }

    /// Its target as `SYSTEM/NAME`.
    pub fn target_name(&self) -> String {
        format!("{}/{}", self.target.system, self.target.name)
    }
}

/// `SYSTEM/NAME` of the key of a source.
pub(crate) fn source_name(key: &ActorId) -> String {
    // The key of a member of a pool has a name that no actor can have.
    let name = key.name.split('\u{1}').next().unwrap_or_default();
    format!("{}/{name}", key.system)
}

/// Which effects are meant; an empty one means all.
#[derive(Debug, Clone, Default)]
pub struct EffectFilter {
    /// Only dead letters, or only pending effects.
    pub dead: Option<bool>,
    /// The source, as `SYSTEM/NAME`.
    pub source: Option<Pattern>,
    /// The target, as `SYSTEM/NAME`.
    pub target: Option<Pattern>,
    /// The action.
    pub action: Option<String>,
    /// A part of the reason why it is dead.
    pub reason: Option<String>,
    /// The number.
    pub id: Option<EffectId>,
    /// Dead since this time or longer; emitted by then, if pending.
    pub before: Option<Timestamp>,
}

impl EffectFilter {
    /// One effect.
    pub fn of(system: &str, source: &str, id: EffectId) -> Self {
        let source = Some(Pattern::Exact(format!("{system}/{source}").into()));
        Self { source, id: Some(id), ..Self::default() }
    }

    /// Whether it means all effects, or all dead letters.
    pub fn is_empty(&self) -> bool {
        let Self { dead: _, source, target, action, reason, id, before } = self;
        let names = source.is_none() && target.is_none() && action.is_none();
        names && reason.is_none() && id.is_none() && before.is_none()
    }

    /// Whether it may mean effects of this source.
    pub(crate) fn has_source(&self, key: &ActorId) -> bool {
        self.source.as_ref().is_none_or(|source| source.matches(&source_name(key)))
    }

    /// Whether it means this effect, whose source it has.
    pub(crate) fn has(&self, effect: &EffectView) -> bool {
        let Self { dead, source: _, target, action, reason, id, before } = self;
        let since = effect.dead.as_ref().map_or(effect.at, |dead| dead.at);
        dead.is_none_or(|dead| dead == effect.dead.is_some())
            && id.is_none_or(|id| id == effect.id)
            && before.is_none_or(|before| since <= before)
            && action.as_ref().is_none_or(|action| *action == effect.action)
            && target.as_ref().is_none_or(|target| target.matches(&effect.target_name()))
            && reason.as_ref().is_none_or(|part| {
                effect.dead.as_ref().is_some_and(|dead| dead.reason.contains(part))
            })
    }
}

/// How far a look at all effects has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectCursor {
    /// When it began. What became a dead letter later is left out of changes.
    pub began: Timestamp,
    /// The last source.
    pub source: Arc<ActorId>,
    /// The last row of it; `None`: it is done.
    pub row: Option<OutboxKey>,
}

/// A part of a look at all effects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectPage {
    /// What was found, ordered by source and position.
    pub effects: Vec<EffectView>,
    /// Where to go on; `None`: at the end.
    pub next: Option<EffectCursor>,
}

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterChange {
    /// Each is delivered again, as a new effect of its source.
    Retry,
    /// Each is removed.
    Drop,
}

/// What a change of dead letters came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLettersChanged {
    /// Dead letters that were meant.
    pub matched: u64,
    /// Those that are changed, durably.
    pub done: u64,
    /// Those that stay, because their source has too many undelivered effects.
    pub full: u64,
    /// Those that stay, because their source is not registered.
    pub unregistered: u64,
    /// Where to go on; `None`: at the end.
    pub next: Option<EffectCursor>,
}

impl FromStr for EffectId {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok());
        let mut parts = given.split('.');
        let (epoch, activation) = (number(parts.next()), number(parts.next()));
        match (epoch, activation, number(parts.next()), parts.next()) {
            (Some(epoch), Some(activation), Some(number), None) => {
                Ok(Self { epoch, activation, number })
            }
            _ => Err(format!("an effect has a number such as 3.17.2048, not {given:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect() -> EffectView {
        let target = ActorId { system: "s".into(), name: "moe".into(), parent: String::new() };
        EffectView {
            source: Arc::new(ActorId { system: "s".into(), name: "joe".into(), ..target.clone() }),
            key: OutboxKey::default(),
            id: EffectId { epoch: 1, activation: 2, number: 3 },
            target,
            action: "add".into(),
            at: Timestamp(5),
            bytes: 1,
            attempts: None,
            dead: Some(Dead { at: Timestamp(9), attempts: 1, reason: "not found".into() }),
        }
    }

    #[test]
    fn a_filter_means_what_all_its_parts_mean() {
        let effect = effect();
        let source =
            |text: &str| EffectFilter { source: Pattern::parse(text), ..Default::default() };
        assert!(source("s/j*").has_source(&effect.source));
        assert!(!source("t/j*").has_source(&effect.source));
        let target =
            |text: &str| EffectFilter { target: Pattern::parse(text), ..Default::default() };
        assert!(target("*/moe").has(&effect) && !target("moe").has(&effect));
        let reason = |text: &str| EffectFilter { reason: Some(text.into()), ..Default::default() };
        assert!(reason("found").has(&effect) && !reason("denied").has(&effect));
        let before = |at| EffectFilter { before: Some(Timestamp(at)), ..Default::default() };
        assert!(before(9).has(&effect) && !before(8).has(&effect), "since it is dead");
        let is_dead = |dead| EffectFilter { dead: Some(dead), ..Default::default() };
        assert!(is_dead(true).has(&effect) && !is_dead(false).has(&effect));
        let pending = EffectView { dead: None, ..effect.clone() };
        assert!(before(5).has(&pending) && !before(4).has(&pending) && !reason("").has(&pending));
        assert!(EffectFilter::of("s", "joe", effect.id).has(&effect));
        assert!(is_dead(true).is_empty() && !before(1).is_empty());
    }

    #[test]
    fn a_number_is_read_as_it_is_shown() {
        let id = effect().id;
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "1.2", "1.2.3.4", "1.2.x", "1.2.-3"] {
            assert!(wrong.parse::<EffectId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_member_of_a_pool_has_the_name_of_its_pool() {
        let (system, name) = ("s".into(), "pool\u{1}3".into());
        assert_eq!(source_name(&ActorId { system, name, parent: "pool-3".into() }), "s/pool");
    }
}
