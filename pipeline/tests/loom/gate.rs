//! Events that need something of a gate.

use std::task::Waker;

use super::*;

/// One place, and who waits for it. The lock is loom's.
#[derive(Clone)]
struct OnePlace(Arc<loom::sync::Mutex<(bool, Option<Waker>)>>);

impl OnePlace {
    fn free(&self) {
        let waker = {
            let mut held = self.0.lock().unwrap();
            held.0 = false;
            held.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Gate<Event> for OnePlace {
    fn concerns(&self, event: &Event) -> bool {
        event.key != 0
    }

    fn enter(&self, _: &mut Event, waker: &Waker) -> Entry {
        let mut held = self.0.lock().unwrap();
        if held.0 {
            held.1 = Some(waker.clone());
            return Entry::Full;
        }
        held.0 = true;
        Entry::Entered
    }
}

fn gated() -> (OnePlace, Mailboxes) {
    let place = OnePlace(Arc::new(loom::sync::Mutex::new((false, None))));
    let producer = KeyedProducer::gated(options(), place.clone());
    (place, Mailboxes { producer, alive: Arc::default() })
}

#[test]
fn a_place_freed_while_an_event_is_refused_is_not_missed() {
    loom::model(|| {
        let (place, mailboxes) = gated();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let turn = subscriber.next().unwrap().unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(2, 0)))
        };
        let committer = {
            let place = place.clone();
            thread::spawn(move || {
                // The turn is over before its place is free.
                drop(turn);
                place.free();
            })
        };
        pusher.join().unwrap();
        committer.join().unwrap();
        assert_eq!(finish(&mut subscriber), [(2, 0)]);
        assert!(mailboxes.push(3, 0) && mailboxes.push(0, 0));
        assert_eq!(finish(&mut subscriber), [(0, 0)], "the place is taken still");
        place.free();
        assert_eq!(finish(&mut subscriber), [(3, 0)]);
        assert!(mailboxes.producer.is_idle());
    });
}

#[test]
fn a_key_in_line_that_is_paused_while_a_place_is_freed_leaves_it_to_the_next() {
    loom::model(|| {
        let (place, mailboxes) = gated();
        let mut subscriber = mailboxes.subscriber(3);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        drop(subscriber.next().unwrap().unwrap());
        assert!(mailboxes.push(2, 0) && mailboxes.push(3, 0));
        let pauser = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || producer.pause(&2).unwrap())
        };
        let committer = {
            let place = place.clone();
            thread::spawn(move || place.free())
        };
        pauser.join().unwrap();
        committer.join().unwrap();
        let mut seen = finish(&mut subscriber);
        if seen == [(2, 0)] {
            place.free();
            seen.extend(finish(&mut subscriber));
            assert_eq!(seen, [(2, 0), (3, 0)], "granted before the pause");
            assert!(mailboxes.producer.resume(&2));
        } else {
            assert_eq!(seen, [(3, 0)], "the paused key takes no place");
            assert!(mailboxes.producer.resume(&2));
            assert!(finish(&mut subscriber).is_empty(), "the place is taken still");
            place.free();
            assert_eq!(finish(&mut subscriber), [(2, 0)]);
        }
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}
