//! Compares the dispatchers with simple models, with random steps.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Push { partition: u32, place: Option<u32> },
    Subscribe { partition: u32 },
    Cancel { which: usize },
    Ask { which: usize, events: usize },
    Dispatch,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u32..PARTITIONS, prop::option::of(0u32..100))
            .prop_map(|(partition, place)| Step::Push { partition, place }),
        1 => (0u32..PARTITIONS).prop_map(|partition| Step::Subscribe { partition }),
        1 => (0usize..50).prop_map(|which| Step::Cancel { which }),
        4 => (0usize..50, 1usize..12).prop_map(|(which, events)| Step::Ask { which, events }),
        4 => Just(Step::Dispatch),
    ];
    prop::collection::vec(step, 0..200)
}

const PARTITIONS: u32 = 3;

/// Which dispatcher is modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Demand,
    Broadcast,
    Partition,
}

struct Subscriber {
    id: SubscriberId,
    partition: u32,
    open: usize,
    got: Vec<u64>,
}

/// A dispatcher and its model.
struct Model<D> {
    kind: Kind,
    dispatcher: D,
    /// Waiting events with their partitions, in order.
    waiting: VecDeque<(u64, u32, Option<u32>)>,
    subscribers: Vec<Subscriber>,
    gone: Vec<Subscriber>,
    pushed: u64,
    subscribed: u64,
    places: Places,
}

impl<D: Dispatcher<u64>> Model<D> {
    fn new(kind: Kind, dispatcher: D) -> Model<D> {
        Model {
            kind,
            dispatcher,
            waiting: VecDeque::new(),
            subscribers: Vec::new(),
            gone: Vec::new(),
            pushed: 0,
            subscribed: 0,
            places: Places::default(),
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Push { partition, place } => {
                let (event, place) = (self.pushed, place);
                self.pushed += 1;
                self.dispatcher.push(Entry { event, partition, place, since: Instant::now() });
                self.waiting.push_back((event, partition, place));
                self.places.add(place);
            }
            Step::Subscribe { partition } => {
                let id = SubscriberId(self.subscribed);
                self.subscribed += 1;
                let is_taken = self.kind == Kind::Partition
                    && self.subscribers.iter().any(|other| other.partition == partition);
                let outcome = self.dispatcher.subscribe(id, Some(partition));
                assert_eq!(outcome.is_err(), is_taken);
                if !is_taken {
                    self.subscribers.push(Subscriber { id, partition, open: 0, got: Vec::new() });
                }
            }
            Step::Cancel { which } if !self.subscribers.is_empty() => {
                let gone = self.subscribers.remove(which % self.subscribers.len());
                assert!(self.dispatcher.cancel(gone.id));
                assert!(!self.dispatcher.cancel(gone.id));
                self.gone.push(gone);
            }
            Step::Ask { which, events } if !self.subscribers.is_empty() => {
                let which = which % self.subscribers.len();
                let subscriber = &mut self.subscribers[which];
                self.dispatcher.ask(subscriber.id, events);
                subscriber.open += events;
            }
            Step::Dispatch => self.dispatch(),
            Step::Cancel { .. } | Step::Ask { .. } => {}
        }
        assert_eq!(self.dispatcher.queued(), self.waiting.len());
        assert_eq!(self.dispatcher.wanted(), self.open().saturating_sub(self.waiting.len()));
    }

    fn open(&self) -> usize {
        let open = self.subscribers.iter().map(|subscriber| subscriber.open);
        if self.kind == Kind::Broadcast { open.min().unwrap_or(0) } else { open.sum() }
    }

    fn dispatch(&mut self) {
        let largest = self.subscribers.iter().map(|subscriber| subscriber.open).max();
        let mut is_first = true;
        while let Some(grant) = self.dispatcher.grant(&mut |_| {}) {
            let index = self.subscribers.iter().position(|subscriber| subscriber.id == grant.to);
            let subscriber = &mut self.subscribers[index.expect("granted to a subscriber")];
            assert!(grant.events.len() <= subscriber.open, "I1: more granted than asked");
            if is_first && self.kind == Kind::Demand {
                assert_eq!(Some(subscriber.open), largest, "the largest demand first");
            }
            is_first = false;
            subscriber.open -= grant.events.len();
            self.places.events -= grant.places.events;
            self.places.bytes -= grant.places.bytes;
            for event in grant.events {
                assert!(subscriber.got.last().is_none_or(|last| *last < event), "in order, once");
                subscriber.got.push(event);
                if self.kind == Kind::Partition {
                    let waiting = self.waiting.iter();
                    let mut own = waiting.filter(|(_, other, _)| *other == subscriber.partition);
                    assert_eq!(own.next().map(|(first, ..)| *first), Some(event), "its first");
                }
                self.waiting.retain(|(other, ..)| *other != event);
            }
        }
        assert!(self.waiting.is_empty() || !self.could_grant(), "nobody starves");
    }

    fn could_grant(&self) -> bool {
        match self.kind {
            Kind::Demand | Kind::Broadcast => self.open() > 0,
            Kind::Partition => self.subscribers.iter().any(|subscriber| {
                let is_its_own =
                    |(_, other, _): &(u64, u32, Option<u32>)| *other == subscriber.partition;
                subscriber.open > 0 && self.waiting.iter().any(is_its_own)
            }),
        }
    }

    fn finish(mut self) {
        self.dispatch();
        let left: Vec<u64> = self.dispatcher.clear().iter().map(|entry| entry.event).collect();
        assert_eq!(left.len(), self.waiting.len());
        for (_, _, place) in &self.waiting {
            if let Some(bytes) = place {
                self.places.events -= 1;
                self.places.bytes -= *bytes as usize;
            }
        }
        assert_eq!(self.places, Places::default(), "every place is given back once");
        let mut times: BTreeMap<u64, usize> = BTreeMap::new();
        let everybody = self.subscribers.iter().chain(&self.gone);
        for event in everybody.flat_map(|subscriber| &subscriber.got).chain(&left) {
            *times.entry(*event).or_default() += 1;
        }
        assert_eq!(times.len() as u64, self.pushed, "nothing is lost");
        if self.kind != Kind::Broadcast {
            assert!(times.values().all(|times| *times == 1), "nothing comes twice");
        }
        if self.kind == Kind::Broadcast {
            for subscriber in self.subscribers.iter().chain(&self.gone) {
                let is_run = subscriber.got.windows(2).all(|pair| pair[1] == pair[0] + 1);
                assert!(is_run, "a subscriber gets everything while it is one");
            }
        }
    }
}

fn run<D: Dispatcher<u64>>(kind: Kind, dispatcher: D, steps: &[Step]) {
    let mut model = Model::new(kind, dispatcher);
    for step in steps {
        model.apply(step);
    }
    model.finish();
}

proptest! {
    #[test]
    fn demand_grants_each_event_once_in_order_to_the_largest_demand(steps in steps()) {
        run(Kind::Demand, Demand::new(), &steps);
    }

    #[test]
    fn broadcast_grants_each_event_to_all_at_the_pace_of_the_slowest(steps in steps()) {
        run(Kind::Broadcast, Broadcast::new(), &steps);
    }

    #[test]
    fn partition_grants_each_event_once_in_order_to_its_partition(steps in steps()) {
        run(Kind::Partition, Partition::new(PARTITIONS, |event| *event), &steps);
    }

    #[test]
    fn a_key_is_always_of_the_same_partition(keys in prop::collection::vec(any::<u64>(), 1..50)) {
        let partition: Partition<u64> = Partition::by(7, |event| *event);
        let router = partition.router().expect("a partition routes");
        for key in keys {
            prop_assert!(router(&key) < 7);
            prop_assert_eq!(router(&key), router(&key));
        }
    }
}
