//! The members of a pool have mailboxes of their own, and one name.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_pipeline::{Bound, Full, KeyedOptions};

use super::*;
use crate::actor::tests::definition;
use crate::registry::directory::Directory;
use crate::registry::entry::Source;

/// Sends the calls of every actor to its two members in turn.
#[derive(Debug, Default)]
struct TwoMembers(AtomicUsize);

fn member(actor: &ActorRef, number: usize) -> ActorRef {
    ActorRef::new(actor.system(), &format!("{}#{number}", actor.name()))
}

impl Placement for TwoMembers {
    fn locate(&self, _: &ActorRef) -> Location {
        Location::Here
    }

    fn member(&self, actor: &ActorRef) -> ActorRef {
        member(actor, self.0.fetch_add(1, Ordering::SeqCst) % 2)
    }

    fn owner_epoch(&self, _: &ActorRef) -> u64 {
        1
    }
}

fn mailboxes(placement: Arc<dyn Placement>) -> Mailboxes {
    let bound = Bound { events: 10, bytes: 1_000 };
    let options = KeyedOptions { name: "caller", bound, per_key: 10, full: Full::Shed };
    Mailboxes::new(KeyedProducer::new(options), placement, Deadlines::default())
}

fn pool() -> Arc<Entry> {
    let directory = Directory::new();
    let definition = Arc::new(definition("pool"));
    let id = Arc::new(definition.id.clone());
    directory.put(id, Source::Defined(directory.hosted(definition).0))
}

#[tokio::test(start_paused = true)]
async fn each_member_has_a_mailbox_of_its_own_and_the_turn_keeps_the_actor_s_name() {
    let (mailboxes, pool) = (mailboxes(Arc::new(TwoMembers::default())), pool());
    let queued = |actor: &ActorRef| mailboxes.queue.look(actor, 0).queued;
    for _ in 0..3 {
        mailboxes.ask(&pool, Task::Snapshot);
    }
    let (first, second) = (member(&pool.actor, 0), member(&pool.actor, 1));
    assert_eq!((queued(&first), queued(&second), queued(&pool.actor)), (2, 1, 0));
    let pending = mailboxes.ask_for(&pool, Task::State).await.unwrap();
    assert_eq!(queued(&second), 2);
    drop(pending);
    assert_eq!(queued(&second), 1, "who leaves is removed from the mailbox of that member");
    let id = mailboxes.queue.look(&second, 1).first[0].id;
    let placed = mailboxes.queue.remove(&second, id).unwrap();
    assert_eq!((&placed.member, &placed.entry.actor), (&second, &pool.actor));
    mailboxes.route(placed);
    assert_eq!((queued(&first), queued(&second)), (3, 0), "a routed call is placed anew");
}

#[tokio::test(start_paused = true)]
async fn on_one_node_the_member_is_the_actor() {
    let (mailboxes, actor) = (mailboxes(Arc::new(OneNode { epoch: 1 })), pool());
    mailboxes.ask(&actor, Task::Snapshot);
    assert_eq!(mailboxes.queue.look(&actor.actor, 0).queued, 1);
}

/// Closes the mailboxes when the member of an actor is asked for.
#[derive(Debug, Default)]
struct Closes(OnceLock<Mailboxes>);

impl Placement for Closes {
    fn locate(&self, _: &ActorRef) -> Location {
        Location::Here
    }

    fn member(&self, actor: &ActorRef) -> ActorRef {
        if let Some(mailboxes) = self.0.get() {
            mailboxes.close();
        }
        actor.clone()
    }

    fn owner_epoch(&self, _: &ActorRef) -> u64 {
        1
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_paused_actor_is_not_queued_when_the_pauses_end_meanwhile() {
    let (placement, actor) = (Arc::new(Closes::default()), pool());
    let mailboxes = mailboxes(placement.clone()).with_places_for_paused(1);
    mailboxes.queue.pause(&actor.mailbox).unwrap();
    actor.set_paused(true);
    placement.0.set(mailboxes.clone()).unwrap();
    // It may wait for its actor when it comes, and the mailboxes close before it is queued.
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
    assert!(matches!(mailboxes.place(admitted), Err(Error::Draining)));
    let (reply, waiting) = Reply::new(&Timing::new(Deadlines::default(), None));
    mailboxes.ask(&actor, Task::WarmUp(reply));
    assert!(matches!(waiting.answer().await, Err(Error::Draining)));
    assert_eq!(mailboxes.queue.queued(), 0);
    // What runs no action is queued as before.
    mailboxes.ask(&actor, Task::Snapshot);
    assert_eq!(mailboxes.queue.queued(), 1);
}
