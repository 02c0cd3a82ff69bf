//! Log: how far a durable topic has come, and each of its subscribers.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::Notify;

use crate::actor::ActorRef;
use crate::history::{Page, Position};
use crate::outbox::{EffectId, EffectSource, Seen, SourceKind};
use crate::state::Timestamp;
use crate::topics::rules::{Start, TopicRule};

/// A durable topic; see the [module](self).
#[derive(Debug)]
pub(crate) struct Log {
    /// Its system and its name.
    pub(crate) topic: ActorRef,
    /// Its name at its subscribers.
    pub(crate) source: Arc<EffectSource>,
    pub(crate) rule: TopicRule,
    state: Mutex<State>,
    /// Notified when events or subscribers have come.
    pub(crate) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the newest event that is durable.
    end: u64,
    /// Which subscriptions were looked at last.
    looked: Option<u64>,
    subscribers: HashMap<ActorRef, Subscriber, Seeded>,
    /// Those whose position is in no commit that is known to be durable.
    new: HashSet<ActorRef, Seeded>,
    /// Those whose position has changed since it was stored.
    moved: HashSet<ActorRef, Seeded>,
    /// Those that have left, whose positions are still stored.
    gone: HashSet<Arc<EffectSource>, Seeded>,
    /// Events that subscribers did not get because they were not kept long enough.
    missed: u64,
}

/// An actor that is subscribed: its name, and the number of its entry, which no successor of that name has.
pub(crate) type Subscribed = (ActorRef, u64);

#[derive(Debug)]
struct Subscriber {
    /// The number of its entry; `None`: it was not found yet since the start.
    entry: Option<u64>,
    /// Its name where positions lie.
    name: Arc<EffectSource>,
    /// The last event that it has answered, or that it does not get.
    position: Position,
    /// The newest event when it subscribed, as far as that is known. It does not miss what was dropped up to there.
    since: u64,
    /// The first event with whose commit its position was written, while it is new.
    included: Option<u64>,
}

/// How far one subscriber is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberView {
    /// Its name.
    pub actor: String,
    /// Number of the last event that it has answered.
    pub position: u64,
    /// Events that it has to get.
    pub lag: u64,
}

/// How far a durable topic is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its system.
    pub system: String,
    /// Its name.
    pub topic: String,
    /// Number of its newest event.
    pub newest: u64,
    /// How many actors are subscribed.
    pub subscribers: u64,
    /// Events that the slowest of them has to get.
    pub lag: u64,
    /// Events that subscribers did not get, because they were not kept long enough; since the start.
    pub missed: u64,
}

/// A position as the stores keep it: as the newest effect of a source.
fn id(position: Position) -> EffectId {
    EffectId { epoch: 0, activation: position.at.0, number: position.revision }
}

fn position(id: EffectId) -> Position {
    Position { at: Timestamp(id.activation), revision: id.number }
}

/// The number of an event for its subscribers.
pub(crate) fn event_id(revision: u64) -> EffectId {
    EffectId { number: revision, ..EffectId::default() }
}

impl Log {
    pub(crate) fn new(topic: ActorRef, rule: TopicRule) -> Self {
        let source = Arc::new(named(topic.system(), topic.name()));
        Self { topic, source, rule, state: Mutex::default(), changed: Notify::new() }
    }

    /// Takes what the store has: the number of the newest event, and the positions of subscribers.
    pub(crate) fn load(&self, end: u64, seen: Vec<Seen>) {
        let mut state = self.state.lock();
        state.end = state.end.max(end);
        for seen in seen.into_iter().filter(|seen| seen.source.kind == SourceKind::Topic) {
            let actor = ActorRef::new(&seen.source.system, &seen.source.name);
            let (name, position) = (seen.source, position(seen.id));
            let began_earliest =
                self.rule.start == Start::Earliest && position == Position::default();
            let since = if began_earliest { end } else { position.revision };
            let subscriber = Subscriber { entry: None, name, position, since, included: None };
            state.subscribers.insert(actor, subscriber);
        }
    }

    /// Which subscriptions were [looked](Self::look) at last.
    pub(crate) fn looked(&self) -> Option<u64> {
        self.state.lock().looked
    }

    /// Takes the subscribers as of `generation`. New ones begin after `newest`, or with the earliest event. Those that are
    /// missing have left, and so have those of whose name there is another one.
    pub(crate) fn look(&self, generation: u64, found: &[Subscribed], newest: Position) {
        let mut state = self.state.lock();
        if state.looked.is_some_and(|looked| looked > generation) {
            return;
        }
        state.looked = Some(generation);
        let State { subscribers, new, moved, gone, .. } = &mut *state;
        let still: HashMap<_, _, Seeded> =
            found.iter().map(|(actor, entry)| (actor, *entry)).collect();
        subscribers.retain(|actor, subscriber| {
            let is_there = still
                .get(actor)
                .is_some_and(|entry| *subscriber.entry.get_or_insert(*entry) == *entry);
            if !is_there {
                new.remove(actor);
                moved.remove(actor);
                gone.insert(subscriber.name.clone());
            }
            is_there
        });
        for (actor, entry) in found {
            if subscribers.contains_key(actor) {
                continue;
            }
            let name = Arc::new(named(actor.system(), actor.name()));
            gone.remove(&name);
            let position = match self.rule.start {
                Start::Now => newest,
                Start::Earliest => Position::default(),
            };
            let (entry, since) = (Some(*entry), newest.revision);
            new.insert(actor.clone());
            let subscriber = Subscriber { entry, name, position, since, included: None };
            subscribers.insert(actor.clone(), subscriber);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// The positions of new subscribers, to be written with the commit of event `number`: it is one of theirs only if they are
    /// known to be new no more.
    pub(crate) fn of_new(&self, number: u64) -> Vec<Seen> {
        let mut state = self.state.lock();
        let State { subscribers, new, .. } = &mut *state;
        let mut seen = Vec::with_capacity(new.len());
        for actor in new.iter() {
            let Some(subscriber) = subscribers.get_mut(actor) else { continue };
            subscriber.included.get_or_insert(number);
            seen.push(Seen { source: subscriber.name.clone(), id: id(subscriber.position) });
        }
        seen
    }

    /// Event `number` is durable, and those before it.
    pub(crate) fn appended(&self, number: u64) {
        let mut state = self.state.lock();
        state.end = state.end.max(number);
        let State { subscribers, new, .. } = &mut *state;
        if !new.is_empty() {
            let included = |actor: &ActorRef| subscribers.get(actor).and_then(|of| of.included);
            new.retain(|actor| included(actor).is_none_or(|first| first > number));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Number of the newest event that is durable.
    pub(crate) fn end(&self) -> u64 {
        self.state.lock().end
    }

    /// How many subscribers there are.
    pub(crate) fn subscribers(&self) -> u64 {
        self.state.lock().subscribers.len() as u64
    }

    /// The position of a subscriber, if it has events to get.
    pub(crate) fn behind(&self, actor: &ActorRef) -> Option<Position> {
        let state = self.state.lock();
        let position = state.subscribers.get(actor)?.position;
        (position.revision < state.end).then_some(position)
    }

    /// The position of a subscriber; `None` when it has left.
    pub(crate) fn position(&self, (actor, entry): &Subscribed) -> Option<Position> {
        let state = self.state.lock();
        let subscriber = state.subscribers.get(actor).filter(|of| of.entry == Some(*entry))?;
        Some(subscriber.position)
    }

    /// A subscriber is done with the events up to this one. Nothing changes when it has left.
    pub(crate) fn advance(&self, (actor, entry): &Subscribed, to: Position) {
        let mut state = self.state.lock();
        let State { subscribers, moved, .. } = &mut *state;
        if let Some(subscriber) = subscribers.get_mut(actor)
            && subscriber.entry == Some(*entry)
            && subscriber.position < to
        {
            subscriber.position = to;
            moved.insert(actor.clone());
        }
    }

    /// A subscriber does not get what is left of the events up to this one: they are not kept. Returns how many it misses; `None` when
    /// nothing was left, or it has left.
    pub(crate) fn skip(&self, (actor, entry): &Subscribed, to: Position) -> Option<u64> {
        let mut state = self.state.lock();
        let State { subscribers, moved, missed, .. } = &mut *state;
        let subscriber = subscribers.get_mut(actor).filter(|of| of.entry == Some(*entry))?;
        if to.revision <= subscriber.position.revision {
            return None;
        }
        let after = subscriber.position.revision.max(subscriber.since);
        let skipped = to.revision.saturating_sub(after);
        subscriber.position = to;
        moved.insert(actor.clone());
        *missed += skipped;
        Some(skipped)
    }

    /// Whether positions are to be stored.
    pub(crate) fn is_to_store(&self) -> bool {
        let state = self.state.lock();
        !state.moved.is_empty() || !state.new.is_empty() || !state.gone.is_empty()
    }

    /// Takes positions to be stored, at most so many, and who has left.
    pub(crate) fn to_store(&self, most: usize) -> (Vec<Seen>, Vec<Arc<EffectSource>>) {
        let mut state = self.state.lock();
        let State { subscribers, new, moved, gone, .. } = &mut *state;
        let all: HashSet<&ActorRef, Seeded> = new.iter().chain(moved.iter()).collect();
        let chosen: Vec<_> = all.into_iter().take(most).cloned().collect();
        let of = |actor: &ActorRef| {
            let Subscriber { name, position, .. } = subscribers.get(actor)?;
            Some(Seen { source: name.clone(), id: id(*position) })
        };
        let seen = chosen.iter().filter_map(of).collect();
        for actor in &chosen {
            moved.remove(actor);
        }
        let forgotten: Vec<_> = gone.iter().take(most).cloned().collect();
        for name in &forgotten {
            gone.remove(name);
        }
        (seen, forgotten)
    }

    /// What [`to_store`](Self::to_store) returned is stored, or is to be stored again.
    pub(crate) fn stored(&self, seen: &[Seen], forgotten: Vec<Arc<EffectSource>>, is_stored: bool) {
        let mut state = self.state.lock();
        let State { subscribers, new, moved, gone, .. } = &mut *state;
        for Seen { source, id: stored } in seen {
            let actor = ActorRef::new(&source.system, &source.name);
            if is_stored {
                // One that came back meanwhile has another position.
                let is_its_own =
                    subscribers.get(&actor).is_none_or(|of| id(of.position) == *stored);
                if is_its_own || moved.contains(&actor) {
                    new.remove(&actor);
                }
            } else if subscribers.contains_key(&actor) {
                moved.insert(actor);
            }
        }
        if !is_stored {
            let left = |name: &Arc<EffectSource>| {
                !subscribers.contains_key(&ActorRef::new(&name.system, &name.name))
            };
            gone.extend(forgotten.into_iter().filter(left));
        }
    }

    /// How far it is.
    pub(crate) fn view(&self) -> TopicView {
        let state = self.state.lock();
        let lag = |of: &Subscriber| state.end.saturating_sub(of.position.revision);
        let (system, topic) = (self.topic.system().to_owned(), self.topic.name().to_owned());
        TopicView {
            system,
            topic,
            newest: state.end,
            subscribers: state.subscribers.len() as u64,
            lag: state.subscribers.values().map(lag).max().unwrap_or_default(),
            missed: state.missed,
        }
    }

    /// How far its subscribers are, by name: a page of at most `limit`, after a name.
    pub(crate) fn subscriber_views(&self, after: &str, limit: usize) -> Page<SubscriberView> {
        let state = self.state.lock();
        let mut first = BTreeMap::new();
        for (actor, of) in state.subscribers.iter().filter(|(actor, _)| actor.name() > after) {
            first.insert(actor.name(), of.position.revision);
            if first.len() > limit + 1 {
                first.pop_last();
            }
        }
        let more = first.len() > limit;
        let view = |(actor, position): (&str, u64)| SubscriberView {
            actor: actor.to_owned(),
            position,
            lag: state.end.saturating_sub(position),
        };
        Page { items: first.into_iter().take(limit).map(view).collect(), more }
    }
}

fn named(system: &str, name: &str) -> EffectSource {
    EffectSource { kind: SourceKind::Topic, system: system.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(name: &str) -> ActorRef {
        ActorRef::new("s", name)
    }

    /// The first actor of this name, and the second one.
    fn first(name: &str) -> Subscribed {
        (actor(name), 1)
    }

    fn second(name: &str) -> Subscribed {
        (actor(name), 2)
    }

    fn at(revision: u64) -> Position {
        Position { at: Timestamp(100 + revision), revision }
    }

    fn log(start: Start) -> Log {
        Log::new(actor("news"), TopicRule { start, ..TopicRule::default() })
    }

    #[test]
    fn a_new_subscriber_begins_now_or_with_the_earliest_event() {
        for (start, behind) in [(Start::Now, at(3)), (Start::Earliest, Position::default())] {
            let log = log(start);
            log.load(3, Vec::new());
            log.look(1, &[first("joe")], at(3));
            log.appended(4);
            assert_eq!(log.behind(&actor("joe")), Some(behind), "{start:?}");
        }
    }

    #[test]
    fn the_position_of_a_new_subscriber_is_in_each_commit_until_one_is_durable() {
        let log = log(Start::Now);
        log.look(1, &[first("joe")], at(0));
        assert_eq!(log.of_new(1).len(), 1);
        assert_eq!(log.of_new(2).len(), 1);
        log.appended(1);
        assert!(log.of_new(3).is_empty() && !log.is_to_store());
        log.look(2, &[first("joe"), first("moe")], at(3));
        let (seen, _) = log.to_store(10);
        log.stored(&seen, Vec::new(), false);
        assert_eq!(log.of_new(4).len(), 1, "it was not stored");
        let (seen, _) = log.to_store(10);
        log.stored(&seen, Vec::new(), true);
        assert!(log.of_new(5).is_empty());
    }

    #[test]
    fn what_has_moved_is_stored_once_and_who_has_left_is_forgotten() {
        let log = log(Start::Now);
        let seen = Seen { source: named("s", "joe").into(), id: id(at(2)) };
        log.load(5, vec![seen]);
        log.look(1, &[first("joe")], at(5));
        assert!(!log.is_to_store(), "it is known");
        log.advance(&first("joe"), at(4));
        let (seen, gone) = log.to_store(10);
        assert_eq!(seen.iter().map(|seen| position(seen.id)).collect::<Vec<_>>(), [at(4)]);
        assert!(gone.is_empty() && !log.is_to_store());
        log.stored(&seen, gone, false);
        assert!(log.is_to_store());
        log.look(2, &[], at(5));
        let (seen, gone) = log.to_store(10);
        assert!(seen.is_empty());
        assert_eq!(gone, [Arc::new(named("s", "joe"))]);
        log.stored(&seen, gone, true);
        assert!(!log.is_to_store());
        log.look(1, &[first("joe")], at(5));
        assert_eq!(log.subscribers(), 0, "an older look changes nothing");
    }

    #[test]
    fn what_is_dropped_is_missed_by_who_had_subscribed_before_it_came() {
        for start in [Start::Now, Start::Earliest] {
            let log = log(start);
            // One is there before the first event, the other one after the third.
            log.look(1, &[first("joe")], Position::default());
            log.appended(3);
            log.look(2, &[first("joe"), first("moe")], at(3));
            log.appended(9);
            let skip = |name, to| log.skip(&first(name), at(to));
            assert_eq!([skip("joe", 8), skip("moe", 8)], [Some(8), Some(5)], "{start:?}");
            assert_eq!([skip("joe", 8), skip("moe", 3)], [None, None], "{start:?}");
            assert_eq!(log.behind(&actor("joe")), Some(at(8)));
            assert_eq!(log.view().missed, 13, "{start:?}");
        }
        let log = log(Start::Earliest);
        let unread = Seen { source: named("s", "joe").into(), id: EffectId::default() };
        log.load(5, vec![unread]);
        log.look(1, &[first("joe")], at(5));
        log.appended(9);
        assert_eq!(log.skip(&first("joe"), at(8)), Some(3), "as far as it is known");
    }

    #[test]
    fn one_that_comes_back_under_its_name_is_new_and_what_its_predecessor_does_is_not_its() {
        for (start, begins) in [(Start::Now, at(5)), (Start::Earliest, Position::default())] {
            let log = log(start);
            let seen = Seen { source: named("s", "joe").into(), id: id(at(2)) };
            log.load(5, vec![seen]);
            log.look(1, &[first("joe")], at(5));
            assert_eq!(log.behind(&actor("joe")), Some(at(2)), "it was there before the start");
            log.advance(&first("joe"), at(3));
            let (former, gone) = log.to_store(10);
            log.look(2, &[second("joe")], at(5));
            let positions = [first("joe"), second("joe")].map(|of| log.position(&of));
            assert_eq!(positions, [None, Some(begins)]);
            log.advance(&first("joe"), at(4));
            assert_eq!(log.skip(&first("joe"), at(4)), None);
            log.stored(&former, gone, true);
            let (seen, gone) = log.to_store(10);
            assert_eq!(seen.iter().map(|seen| position(seen.id)).collect::<Vec<_>>(), [begins]);
            assert!(gone.is_empty());
            log.stored(&seen, gone, true);
            assert!(!log.is_to_store());
        }
    }
}
