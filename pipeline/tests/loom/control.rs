//! Pauses and cancels that meet grants.

use super::*;

#[test]
fn a_key_that_is_paused_while_it_is_released_loses_no_event() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        assert!(mailboxes.push(1, 0) && mailboxes.push(1, 1));
        let turn = subscriber.next().unwrap().unwrap();
        let pauser = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || producer.pause(&1).unwrap())
        };
        let releaser = thread::spawn(move || drop(turn));
        pauser.join().unwrap();
        releaser.join().unwrap();
        let mut seen = finish(&mut subscriber);
        assert!(seen.len() <= 1, "granted before the pause");
        assert!(mailboxes.push(1, 2));
        assert!(finish(&mut subscriber).is_empty(), "paused");
        assert!(mailboxes.producer.resume(&1));
        seen.extend(finish(&mut subscriber));
        assert_eq!(seen, [(1, 1), (1, 2)]);
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn an_event_pushed_while_its_key_is_resumed_is_granted() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        mailboxes.producer.pause(&1).unwrap();
        let pusher = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || assert!(mailboxes.push(1, 0)))
        };
        let resumer = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || assert!(producer.resume(&1)))
        };
        pusher.join().unwrap();
        resumer.join().unwrap();
        assert_eq!(finish(&mut subscriber), [(1, 0)]);
        assert!(mailboxes.producer.is_idle());
    });
}

#[test]
fn an_event_that_is_cancelled_while_it_is_granted_is_removed_or_runs() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        assert!(mailboxes.push(1, 0));
        let id = mailboxes.try_push(1, 1).unwrap();
        let turn = subscriber.next().unwrap().unwrap();
        let canceller = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || match producer.cancel(&1, id) {
                Some(Cancelled::Queued(event)) => {
                    assert_eq!(event.number, 1);
                    true
                }
                Some(Cancelled::Running(())) => false,
                None => panic!("its turn cannot be over"),
            })
        };
        let releaser = thread::spawn(move || drop(turn));
        let was_removed = canceller.join().unwrap();
        releaser.join().unwrap();
        assert_eq!(finish(&mut subscriber).len(), usize::from(!was_removed));
        assert!(mailboxes.producer.is_idle());
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}

#[test]
fn a_close_that_meets_a_pause_leaves_no_event_behind() {
    loom::model(|| {
        let mailboxes = Mailboxes::new();
        let mut subscriber = mailboxes.subscriber(2);
        subscriber.open();
        let pauser = {
            let mailboxes = mailboxes.clone();
            thread::spawn(move || {
                let paused = mailboxes.producer.pause(&1).is_ok();
                mailboxes.push(1, 0);
                paused
            })
        };
        let closer = {
            let producer = mailboxes.producer.clone();
            thread::spawn(move || producer.close().len())
        };
        pauser.join().unwrap();
        let left = closer.join().unwrap();
        assert!(left + finish(&mut subscriber).len() <= 1);
        assert!(mailboxes.producer.is_idle(), "the close ended the pause");
        assert_eq!(mailboxes.alive.load(SeqCst), 0);
    });
}
