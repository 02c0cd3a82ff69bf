//! The members of a pool have mailboxes of their own, and one name.

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
