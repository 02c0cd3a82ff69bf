//! What waits for a paused actor, when the mailboxes close.

use tidegate_pipeline::{Bound, Full, KeyedOptions};

use super::*;
use crate::actor::tests::definition;
use crate::registry::directory::Directory;
use crate::registry::entry::Source;

fn mailboxes() -> Mailboxes {
    let bound = Bound { events: 10, bytes: 1_000 };
    let options = KeyedOptions { name: "caller", bound, per_key: 10, full: Full::Shed };
    let placement = Arc::new(OneNode { epoch: 1 });
    Mailboxes::new(KeyedProducer::new(options), placement, Deadlines::default())
}

fn actor() -> Arc<Entry> {
    let directory = Directory::new();
    let definition = Arc::new(definition("joe"));
    let id = Arc::new(definition.id.clone());
    directory.put(id, Source::Defined(directory.hosted(definition).0))
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_paused_actor_is_not_queued_when_the_pauses_end_meanwhile() {
    let (mailboxes, actor) = (mailboxes().with_places_for_paused(1), actor());
    mailboxes.queue.pause(&actor.mailbox).unwrap();
    actor.set_paused(true);
    let place = mailboxes.wait_for_paused(&actor, false, true).unwrap();
    // Before it is queued.
    mailboxes.close();
    let invocation = Invocation { action: "add".into(), ..Invocation::default() };
    let admitted = Admitted {
        entry: actor.clone(),
        invocation: Box::new(invocation),
        timing: Timing::new(Deadlines::default(), None),
        permit: None,
        effect: None,
        delivery: None,
        load: None,
    };
    assert!(matches!(mailboxes.queue_call(admitted, place), Err(Error::Draining)));
    let timing = Timing::new(Deadlines::default(), None);
    let (reply, waiting) = Reply::new(&timing);
    mailboxes.ask(&actor, Task::WarmUp(reply, timing));
    assert!(matches!(waiting.answer().await, Err(Error::Draining)));
    assert_eq!(mailboxes.queue.queued(), 0);
    // What runs no action is queued as before.
    mailboxes.ask(&actor, Task::Snapshot);
    assert_eq!(mailboxes.queue.queued(), 1);
}
