//! Compares the keyed machine with a simple model, with random steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Waker;

use tokio::time::Instant;

use super::*;
use crate::gate::{Entry, Gate, Gated};

mod places;
mod steps;

pub(super) use steps::{Step, steps};

use places::Places;

/// An event: its key, its number within the run, its class, and whether it may be shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mail {
    key: u8,
    number: u32,
    class: u32,
    gone: bool,
}

const PER_KEY: usize = 4;

/// The machine and its model, which is as simple as possible.
pub(super) struct Model {
    pub(super) machine: Keyed<u8, Mail>,
    pub(super) places: Places,
    /// The queued events of each key, in order, and whether each counts against the bound.
    pub(super) queues: BTreeMap<u8, VecDeque<(Mail, bool)>>,
    limits: BTreeMap<u32, usize>,
    paused: BTreeSet<u8>,
    /// Each subscriber, its maximum demand, and its outstanding demand.
    subscribers: Vec<(SubscriberId, usize, usize)>,
    pub(super) out: Vec<(KeyedGrant<Mail>, u32)>,
    pub(super) parked: Vec<(ParkedKey, Mail)>,
    subscribed: u64,
    /// Every event that was pushed; its number is its index.
    pushed: Vec<(u8, EventId)>,
}

impl Model {
    pub(super) fn new() -> Model {
        let (mut machine, places) = (Keyed::new(PER_KEY), Places::default());
        let gate = Box::new(places.clone());
        machine.set_gate(Gated { gate, waker: Waker::noop().clone() });
        Model {
            machine,
            places,
            queues: BTreeMap::new(),
            limits: BTreeMap::new(),
            paused: BTreeSet::new(),
            subscribers: Vec::new(),
            out: Vec::new(),
            parked: Vec::new(),
            subscribed: 0,
            pushed: Vec::new(),
        }
    }

    fn held(&self) -> BTreeSet<u8> {
        let out = self.out.iter().map(|(grant, _)| grant.event.key);
        out.chain(self.parked.iter().map(|(_, mail)| mail.key)).collect()
    }

    fn in_flight(&self, class: u32) -> usize {
        self.out.iter().filter(|(_, out_class)| *out_class == class).count()
    }

    fn is_full(&self, class: u32) -> bool {
        self.limits.get(&class).is_some_and(|limit| self.in_flight(class) >= *limit)
    }

    /// Whether the class may hold one more. The only class with a limit may hold all of the demand; otherwise a class may hold
    /// as much as is left.
    fn may_share(&self, class: u32) -> bool {
        let limited = |class: &u32| self.limits.get(class).is_some_and(|limit| *limit < usize::MAX);
        let demand: usize = self.subscribers.iter().map(|(.., open)| *open).sum();
        let held = self.in_flight(class) + 1;
        let is_shared = (0..4).filter(limited).count() > 1;
        !is_shared || !limited(&class) || held == 1 || held < demand
    }

    /// The keys whose first event could be granted if there were demand.
    fn runnable(&self) -> BTreeSet<u8> {
        let taken = self.held();
        let is_runnable = |(key, queue): (&u8, &VecDeque<(Mail, bool)>)| {
            let (head, _) = queue.front()?;
            let is_free = !taken.contains(key) && !self.paused.contains(key);
            let enters = !self.places.concerns(head) || self.places.entry(*key) == Entry::Entered;
            let is = is_free && enters && !self.is_full(head.class) && self.may_share(head.class);
            is.then_some(*key)
        };
        self.queues.iter().filter_map(is_runnable).collect()
    }

    fn asked(&mut self, id: SubscriberId, again: usize) {
        match self.subscribers.iter_mut().find(|(other, ..)| *other == id) {
            Some((.., open)) => *open += again,
            None => assert_eq!(again, 0, "a subscriber that has gone asks for nothing"),
        }
    }

    pub(super) fn apply(&mut self, step: Step) {
        match step {
            Step::Push { key, class, exempt, gone } => self.push(key, class, exempt, gone),
            Step::Remove { number } => self.remove(number),
            Step::ShedLate { key, class, most } => {
                let shed = self.machine.shed_late(&key, class, most, |_, mail| mail.gone);
                assert!(shed.len() <= most);
                for mail in shed {
                    assert!(mail.gone);
                    let queue = self.queues.get_mut(&mail.key).expect("it was queued");
                    let (last, _) = queue.pop_back().expect("it was queued");
                    assert_eq!(mail, last, "from behind");
                }
            }
            Step::Take { class, to } => self.take(class, to),
            Step::Limit { class, limit } => {
                self.machine.set_class_limit(class, limit);
                self.limits.insert(class, limit);
            }
            Step::Subscribe { max, min } => {
                let id = SubscriberId(self.subscribed);
                self.subscribed += 1;
                self.machine.subscribe(id, Account::new(max, min, true));
                assert_eq!(self.machine.open(id), max);
                self.subscribers.push((id, max, max));
            }
            Step::Cancel { which } if !self.subscribers.is_empty() => {
                let (id, ..) = self.subscribers.remove(which % self.subscribers.len());
                assert!(self.machine.cancel(id));
            }
            Step::Grant => self.grant(),
            Step::Release { which } if !self.out.is_empty() => {
                let (grant, _) = self.out.remove(which % self.out.len());
                let again = self.machine.release(grant.held);
                self.asked(grant.to, again);
            }
            Step::Park { which } if !self.out.is_empty() => {
                let (grant, _) = self.out.remove(which % self.out.len());
                let (parked, again) = self.machine.park(grant.held);
                self.asked(grant.to, again);
                self.parked.push((parked, grant.event));
            }
            Step::Resume { which, class } if !self.parked.is_empty() => {
                let (parked, mail) = self.parked.remove(which % self.parked.len());
                let mail = Mail { class, ..mail };
                self.machine.resume(parked, mail, class);
                self.queues.entry(mail.key).or_default().push_front((mail, false));
            }
            Step::Forget { which } if !self.parked.is_empty() => {
                let (parked, _) = self.parked.remove(which % self.parked.len());
                self.machine.release_parked(parked);
            }
            Step::Free { which } => {
                let mut held = self.places.0.lock();
                let at = which.checked_rem(held.len());
                let freed = at.map(|at| held.swap_remove(at));
                drop(held);
                if freed.is_some() {
                    self.machine.reopen();
                }
            }
            Step::Pause { key } => {
                assert!(self.machine.pause(&key, Instant::now()));
                self.paused.insert(key);
            }
            Step::ResumeKey { key } => {
                assert_eq!(self.machine.resume_key(&key), self.paused.remove(&key));
            }
            Step::EndPauses => self.end_pauses(),
            _ => {}
        }
        self.check();
    }

    /// Takes the events of a class whose callers have left, and moves the others to another class.
    fn take(&mut self, class: u32, to: u32) {
        let mut taken = self.machine.take(|mail| {
            if mail.class == class {
                mail.class = to;
                return (!mail.gone).then_some(to);
            }
            Some(mail.class)
        });
        let mut expected = Vec::new();
        for queue in self.queues.values_mut() {
            for (mail, _) in queue.iter_mut().filter(|(mail, _)| mail.class == class) {
                mail.class = to;
                if mail.gone {
                    expected.push(*mail);
                }
            }
            queue.retain(|(mail, _)| !expected.contains(mail));
        }
        taken.sort_unstable();
        expected.sort_unstable();
        assert_eq!(taken, expected);
    }

    fn push(&mut self, key: u8, class: u32, exempt: bool, gone: bool) {
        let number = u32::try_from(self.pushed.len()).unwrap();
        let mail = Mail { key, number, class, gone };
        let queue = self.queues.entry(key).or_default();
        let counted = queue.iter().filter(|(_, counts)| *counts).count();
        let fits = exempt || counted < PER_KEY;
        let pushed = self.machine.push(&key, mail, class, exempt);
        assert_eq!(pushed.is_ok(), fits, "the bound of a key, in the machine and in the model");
        if let Ok(id) = pushed {
            queue.push_back((mail, !exempt));
            self.pushed.push((key, id));
        }
    }

    /// Removes an event by its number, wherever it is now.
    fn remove(&mut self, number: u32) {
        let Some((key, id)) = self.pushed.get(number as usize) else { return };
        let queue = self.queues.entry(*key).or_default();
        let expected = queue.iter().position(|(mail, _)| mail.number == number);
        let expected = expected.and_then(|at| queue.remove(at)).map(|(mail, _)| mail);
        assert_eq!(self.machine.remove(key, *id), expected, "removed if it is queued");
    }

    fn end_pauses(&mut self) {
        let paused = std::mem::take(&mut self.paused);
        let mut expected: Vec<Mail> = Vec::new();
        for key in &paused {
            let queue = std::mem::take(self.queues.entry(*key).or_default());
            expected.extend(queue.into_iter().map(|(mail, _)| mail));
        }
        let mut ended = self.machine.end_pauses();
        ended.sort();
        expected.sort();
        assert_eq!(ended, expected, "what is queued for the paused keys");
    }

    fn grant(&mut self) {
        let runnable = self.runnable();
        let largest = self.subscribers.iter().map(|(.., open)| *open).max().unwrap_or(0);
        let promised = self.machine.has_grant();
        let Some(grant) = self.machine.grant() else {
            assert!(largest == 0 || runnable.is_empty(), "starved: {runnable:?} could run");
            assert!(!self.machine.has_grant(), "all that could be asked for was refused");
            return;
        };
        assert!(promised);
        assert!(runnable.contains(&grant.event.key), "{grant:?} is held, or its class is full");
        let queue = self.queues.get_mut(&grant.event.key).expect("it was queued");
        let (head, _) = queue.pop_front().expect("it was queued");
        assert_eq!(grant.event, head, "first in, first out per key");
        let subscriber = self.subscribers.iter_mut().find(|(id, ..)| *id == grant.to);
        let (.., open) = subscriber.expect("granted to a subscriber");
        assert_eq!(*open, largest, "the largest demand first");
        *open -= 1;
        self.out.push((grant, head.class));
    }

    fn check(&self) {
        let queued: usize = self.queues.values().map(VecDeque::len).sum();
        assert_eq!(self.machine.queued(), queued);
        assert_eq!(self.machine.in_flight(), self.out.len());
        let is_idle = queued == 0 && self.out.is_empty() && self.parked.is_empty();
        assert_eq!(self.machine.is_idle(), is_idle);
        assert_eq!(self.machine.paused, self.paused.len());
        let mut keys = self.held();
        keys.extend(&self.paused);
        keys.extend(self.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(key, _)| *key));
        assert_eq!(self.machine.table.len(), keys.len(), "idle keys are removed");
        assert_eq!(self.machine.slots.occupied().len(), keys.len());
        for key in 0..6 {
            self.check_look(key, keys.contains(&key));
        }
        for (id, max, open) in &self.subscribers {
            let out = self.out.iter().filter(|(grant, _)| grant.to == *id).count();
            assert!(open + out <= *max, "I1");
        }
    }

    /// A look at a key shows what the model knows.
    fn check_look(&self, key: u8, is_known: bool) {
        let look = self.machine.look(&key);
        assert_eq!(look.is_some(), is_known);
        let Some(look) = look else { return };
        let queue = self.queues.get(&key).into_iter().flatten();
        let seen: Vec<Mail> = look.waiting.iter().map(|queued| queued.event).collect();
        assert_eq!(seen, queue.map(|(mail, _)| *mail).collect::<Vec<_>>());
        assert_eq!(look.paused.is_some(), self.paused.contains(&key));
        let has_demand = self.subscribers.iter().any(|(.., open)| *open > 0);
        let waits_for = seen.first().map(|first| {
            if self.held().contains(&key) {
                WaitsFor::Turn
            } else if self.paused.contains(&key) {
                WaitsFor::Resume
            } else if look.waits_for == Some(WaitsFor::Gate) {
                let is_refused = self.places.entry(key) != Entry::Entered;
                assert!(self.places.concerns(first));
                assert!(is_refused || self.machine.line.may_move(), "nobody tells it");
                WaitsFor::Gate
            } else if self.is_full(first.class) || has_demand && !self.may_share(first.class) {
                WaitsFor::Class
            } else {
                WaitsFor::Demand
            }
        });
        assert_eq!(look.waits_for, waits_for);
    }
}
