//! Last errors: why the last failed call of an actor failed, for those who look at it.
//!
//! There is one for the process, as there is of metrics: calls fail in many places, most of which know no mesh. Only a call that
//! fails pays for it.

use std::collections::VecDeque;
use std::sync::LazyLock;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::actor::ActorRef;
use crate::error::{Error, ErrorKind};

/// Most actors whose last error is known; beyond it the errors that are oldest are forgotten.
const ACTORS: usize = 10_000;
/// How much of a text is kept, in bytes.
const TEXT_BYTES: usize = 256;

/// Why a call of an actor failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When it failed.
    pub at: Instant,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// What its caller was told, or the beginning of it.
    pub text: String,
}

#[derive(Debug, Default)]
struct Known {
    by_actor: HashMap<ActorRef, (u64, LastError)>,
    /// All numbers in order, also those of errors that a later one of their actor has replaced.
    order: VecDeque<(u64, ActorRef)>,
    next: u64,
}

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Notes that a call of an actor has failed.
pub(crate) fn note(actor: &ActorRef, error: &Error) {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    let error = LastError { at: Instant::now(), kind: error.kind(), text };
    // A member of a pool has a mailbox of its own.
    let actor = match actor.name().split_once('\u{1}') {
        Some((pool, _)) => ActorRef::new(actor.system(), pool),
        None => actor.clone(),
    };
    KNOWN.lock().note(actor, error);
}

/// The last error of an actor.
pub(crate) fn of(actor: &ActorRef) -> Option<LastError> {
    KNOWN.lock().by_actor.get(actor).map(|(_, error)| error.clone())
}

impl Known {
    fn note(&mut self, actor: ActorRef, error: LastError) {
        self.next += 1;
        self.order.push_back((self.next, actor.clone()));
        self.by_actor.insert(actor, (self.next, error));
        while self.by_actor.len() > ACTORS || self.order.len() > 2 * ACTORS {
            let Some((number, actor)) = self.order.pop_front() else { return };
            if self.by_actor.get(&actor).is_some_and(|(last, _)| *last == number) {
                self.by_actor.remove(&actor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_each_actor_is_kept_up_to_a_bound() {
        let mut known = Known::default();
        let actor = |number: usize| ActorRef::new("s", &format!("a{number}"));
        let error = |text: &str| LastError {
            at: Instant::now(),
            kind: ErrorKind::Internal,
            text: text.into(),
        };
        for number in 0..ACTORS {
            known.note(actor(number), error("first"));
        }
        known.note(actor(0), error("second"));
        assert_eq!(known.by_actor.len(), ACTORS);
        assert_eq!(known.by_actor[&actor(0)].1.text, "second");
        known.note(actor(ACTORS), error("first"));
        assert_eq!(known.by_actor.len(), ACTORS, "the oldest one is forgotten");
        assert!(known.by_actor.contains_key(&actor(0)) && !known.by_actor.contains_key(&actor(1)));
        for _ in 0..4 * ACTORS {
            known.note(actor(7), error("again and again"));
        }
        assert!(known.order.len() <= 2 * ACTORS, "{}", known.order.len());
        assert!(known.by_actor.contains_key(&actor(7)));
    }
}
