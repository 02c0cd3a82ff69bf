//! Effect: what administrators see of outboxes, as JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_stages::outbox::view::{DeadLettersChanged, EffectView};

use super::history::json;
use crate::moment;

/// An effect that is not delivered, as JSON shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Its name: source and number, as in metadata `tidegate-effect-id`.
    pub id: String,
    /// The actor that asked for it, as `SYSTEM/ACTOR`.
    pub source: String,
    /// The actor that it calls, as `SYSTEM/ACTOR`.
    pub target: String,
    /// The action that it runs.
    pub action: String,
    /// `pending` or `dead`.
    pub state: String,
    /// When it was asked for, as RFC 3339.
    pub emitted_at: String,
    /// Size of its row.
    pub bytes: u64,
    /// How often it was tried, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When it became a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died_at: Option<String>,
    /// Why it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<EffectView> for Effect {
    fn from(effect: EffectView) -> Self {
        let (source, target) = (effect.source_name(), effect.target_name());
        let EffectView { id, action, at, bytes, attempts, dead, .. } = effect;
        let state = if dead.is_some() { "dead" } else { "pending" };
        let tried = dead.as_ref().map(|dead| dead.attempts).filter(|attempts| *attempts > 0);
        let died = dead.map(|dead| (moment::show(dead.at), dead.reason));
        let (died_at, reason) = died.unzip();
        Self {
            id: format!("{source}/{id}"),
            source,
            target,
            action,
            state: state.into(),
            emitted_at: moment::show(at),
            bytes,
            attempts: tried.or(attempts),
            died_at,
            reason,
        }
    }
}

/// A page of effects, as JSON shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectListing {
    /// What was found; there may be more though these are few, or none.
    pub effects: Vec<Effect>,
    /// The `next` parameter for the following ones; `None`: there are none.
    pub next: Option<String>,
}

/// What a change of dead letters came to, as JSON shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LettersChanged {
    /// Dead letters that were meant.
    pub matched: u64,
    /// Those that are changed.
    pub done: u64,
    /// Those that stay, because their source has too many undelivered effects.
    pub full: u64,
    /// Those that stay, because their source is not registered.
    pub unregistered: u64,
    /// The `next` parameter for the following ones; `None`: there are none.
    pub next: Option<String>,
}

impl LettersChanged {
    /// Of what was changed; `next` is encoded.
    pub fn new(changed: &DeadLettersChanged, next: Option<String>) -> Self {
        let DeadLettersChanged { matched, done, full, unregistered, next: _ } = *changed;
        Self { matched, done, full, unregistered, next }
    }

    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        json(self)
    }
}

impl EffectListing {
    /// Encodes the page.
    pub fn encode(&self) -> Bytes {
        json(self)
    }
}

impl Effect {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        json(self)
    }
}
