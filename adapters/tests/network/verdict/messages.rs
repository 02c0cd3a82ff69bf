//! Messages: what must hold for broadcasts and publications.

use std::collections::BTreeSet;

use crate::actors::{SOURCE, SUBSCRIBERS, broadcasts};
use crate::call::{CallId, Kind};
use crate::facts::{Known, Outcome};

/// Each subscriber gets each message at most once, and exactly once when nothing failed. A message of an actor counts only when the
/// actor's state is kept. Messages that both subscribers get come in the same order.
pub(super) fn complaints(known: &Known, found: &mut Vec<String>) {
    let got: Vec<Vec<CallId>> = SUBSCRIBERS.iter().map(|name| of_subscriber(known, name)).collect();
    let kept: BTreeSet<_> = known
        .states
        .iter()
        .filter(|(name, _)| name.starts_with(SOURCE))
        .flat_map(|(_, state)| state.iter().copied().filter(|id| broadcasts(*id)))
        .collect();
    let is_published = |id: &CallId| known.calls[id].kind == Kind::Publication;
    for (name, got) in SUBSCRIBERS.iter().zip(&got) {
        for id in got.iter().filter(|id| !kept.contains(id) && !is_published(id)) {
            found.push(format!("{name} got a message of {id:?}, which is in no state"));
        }
        for id in certain(known, &kept).iter().filter(|id| !got.contains(id)) {
            found.push(format!("{name} got no message of {id:?} though nothing failed"));
        }
    }
    if let [first, second] = &got[..] {
        let of_both = |got: &[CallId], other: &[CallId]| -> Vec<CallId> {
            got.iter().copied().filter(|id| other.contains(id)).collect()
        };
        let (one, other) = (of_both(first, second), of_both(second, first));
        if one != other {
            found.push(format!("messages came in two orders: {one:?} and {other:?}"));
        }
    }
    for (id, facts) in &known.calls {
        if let Some(Outcome::Published(subscribers)) = facts.outcomes.first()
            && *subscribers != SUBSCRIBERS.len() as u64
        {
            found.push(format!("{id:?} was published to {subscribers} subscribers"));
        }
        if id.kind() == Kind::Message && facts.executions > 1 {
            found.push(format!("{id:?} ran {} times", facts.executions));
        }
    }
}

/// The causes of the messages that a subscriber tells of.
fn of_subscriber(known: &Known, name: &str) -> Vec<CallId> {
    let state = known.states.get(name).map_or(&[][..], |state| state);
    state.iter().filter(|id| id.kind() == Kind::Message).map(|id| id.cause()).collect()
}

/// The causes of messages that all subscribers must have got.
fn certain(known: &Known, kept: &BTreeSet<CallId>) -> Vec<CallId> {
    let mut certain = known.certain.clone();
    if known.nothing_fails {
        certain.extend(kept);
        let calls = known.calls.iter();
        let published = calls
            .filter(|(_, facts)| matches!(facts.outcomes.first(), Some(Outcome::Published(_))));
        certain.extend(published.map(|(id, _)| *id));
    }
    certain
}
