//! Turns of keys.

use super::*;

#[test]
fn an_event_pushed_while_its_key_is_released_is_granted() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let turn = subscriber.next().unwrap().unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(1, 1)))
        };
        let releaser = thread::spawn(move || drop(turn));
        pusher.join().unwrap();
        releaser.join().unwrap();
        assert_eq!(finish(&mut subscriber), [(1, 1)]);
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn events_pushed_while_demand_opens_are_granted_one_of_a_key_at_a_time() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(3);
        let pushers: Vec<_> = (0..2)
            .map(|number| {
                let mailboxes = mailboxes.clone();
                thread::spawn(move || assert!(mailboxes.push(1, number)))
            })
            .collect();
        subscriber.open();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        let mut seen = finish(&mut subscriber);
        seen.sort_unstable();
        assert_eq!(seen, [(1, 0), (1, 1)]);
        assert!(mailboxes.producer.is_idle());
    });
}

#[test]
fn a_parked_key_lends_its_demand_and_comes_back_first() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(1);
        subscriber.open();
        assert!(mailboxes.push(1, 0) && mailboxes.push(1, 1));
        let (event, hold) = subscriber.next().unwrap().unwrap().into_parts();
        let other = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(2, 0)))
        };
        let parked = thread::spawn(move || hold.park().resume(event));
        other.join().unwrap();
        parked.join().unwrap();
        let seen = finish(&mut subscriber);
        let of_one: Vec<_> = seen.iter().filter(|(key, _)| *key == 1).copied().collect();
        assert_eq!(of_one, [(1, 0), (1, 1)], "the resumed event is the head of its key");
        assert_eq!(seen.len(), 3);
        assert!(mailboxes.producer.is_idle());
    });
}

#[test]
fn a_class_that_holds_its_share_leaves_demand_for_another_one() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        for class in [1, 2] {
            mailboxes.producer.set_class_limit(class, 10);
        }
        let mut subscriber = mailboxes.subscriber(4);
        subscriber.open();
        for key in 100..103 {
            assert!(mailboxes.push(key, 0));
        }
        let first = subscriber.next().unwrap().unwrap();
        let mut turns = vec![subscriber.next().unwrap().unwrap()];
        assert!(matches!(subscriber.next(), Ok(None)), "half of the demand");
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(200, 0)))
        };
        let releaser = thread::spawn(move || drop(first));
        pusher.join().unwrap();
        releaser.join().unwrap();
        while let Ok(Some(turn)) = subscriber.next() {
            turns.push(turn);
        }
        assert!(turns.iter().any(|turn| turn.event().key == 200), "it waits for nobody");
        let mut seen = Vec::new();
        while let Some(turn) = turns.pop() {
            seen.push(turn.event().key);
            drop(turn);
            while let Ok(Some(turn)) = subscriber.next() {
                turns.push(turn);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [101, 102, 200]);
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn an_event_pushed_while_the_producer_closes_is_refused_or_served() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || mailboxes.push(1, 0))
        };
        let closer = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || producer.close())
        };
        let admitted = pusher.join().unwrap();
        closer.join().unwrap();
        assert_eq!(finish(&mut subscriber).len(), usize::from(admitted));
        assert!(!mailboxes.push(1, 1));
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn the_end_leaves_no_event_behind() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(1);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let turn = subscriber.next().unwrap().unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || {
                mailboxes.push(1, 1);
            })
        };
        let releaser = thread::spawn(move || drop(turn));
        mailboxes.producer.end();
        pusher.join().unwrap();
        releaser.join().unwrap();
        finish(&mut subscriber);
        assert!(subscriber.next().is_err(), "the subscription has ended");
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn a_consumer_that_leaves_releases_its_turns_and_the_next_one_goes_on() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let first = mailboxes.subscriber(1);
        first.open();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(1, 0)))
        };
        let leaver = thread::spawn(move || drop(first));
        pusher.join().unwrap();
        leaver.join().unwrap();
        // The event went with the first consumer, or waits for the second; its key is free.
        assert!(mailboxes.push(1, 1));
        let mut second = mailboxes.subscriber(2);
        second.open();
        let seen = finish(&mut second);
        assert!(seen == [(1, 1)] || seen == [(1, 0), (1, 1)], "{seen:?}");
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}
