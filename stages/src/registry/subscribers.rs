//! Subscribers: where to look for the actors that a topic reaches.
//!
//! An actor is subscribed to the topics that its definition binds, as long as it is registered. The index here finds candidates;
//! what counts is the definition at the moment of the delivery. So a subscription needs no record of its own: it survives
//! deactivations and restarts as the registration does.

use std::hash::Hash;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::RwLock;
use tidegate_pipeline::randomness::Seeded;
use tokio::sync::watch;

use crate::actor::{ActorRef, Definition};
use crate::registry::entry::{Entry, Source};

const SHARDS: usize = 64;

/// A topic of a system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Topic(ActorRef);

impl Topic {
    pub(crate) fn new(system: &str, topic: &str) -> Self {
        Self(ActorRef::new(system, topic))
    }

    pub(crate) fn system(&self) -> &str {
        self.0.system()
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }
}

type Entries = HashMap<ActorRef, Arc<Entry>, Seeded>;

/// The index; see the [module](self). An entry is in the shard of its name.
#[derive(Debug)]
pub(crate) struct Subscribers {
    shards: Vec<RwLock<Shard>>,
    /// Ascends with each change.
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Definitions that bind a topic.
    definitions: HashMap<Topic, Entries, Seeded>,
    /// Actors that were spawned from a definition that binds a topic, by that definition.
    instances: HashMap<ActorRef, Entries, Seeded>,
}

impl Default for Subscribers {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, generation: watch::Sender::new(0) }
    }
}

impl Subscribers {
    /// How many shards there are.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A number that is a later one after each change.
    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Tells of each change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn changed(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// The topics that definitions bind.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let topics = |shard: &RwLock<Shard>| -> Vec<_> {
            shard.read().definitions.keys().cloned().collect()
        };
        self.shards.iter().flat_map(topics).collect()
    }

    fn shard(&self, actor: &ActorRef) -> &RwLock<Shard> {
        let place = usize::try_from((actor.precomputed_hash() >> 32) % SHARDS as u64)
            .expect("a remainder of 64");
        &self.shards[place]
    }

    /// Notes an entry that is registered, or registered anew in the place of `former`. Returns whether what was spawned from it
    /// has to be [noted](Self::note_instance) too.
    pub(super) fn note(&self, entry: &Arc<Entry>, former: Option<&Source>) -> bool {
        let Source::Defined(now) = entry.source() else {
            self.note_instance(entry);
            return false;
        };
        let was = match former {
            Some(Source::Defined(hosted)) => Some(&*hosted.definition),
            Some(Source::Spawned { parent, .. }) => {
                self.remove_instance(&parent.definition(), &entry.actor);
                None
            }
            None => None,
        };
        let binds = |definition: &Definition| definition.bindings().next().is_some();
        let (bound, binds) = (was.is_some_and(binds), binds(&now.definition));
        if !bound && !binds {
            return false;
        }
        let topic = |topic: &str| Topic::new(entry.actor.system(), topic);
        let mut shard = self.shard(&entry.actor).write();
        for (gone, _) in was.into_iter().flat_map(Definition::bindings) {
            if now.definition.action_on(gone).is_none() {
                remove_from(&mut shard.definitions, &topic(gone), &entry.actor);
            }
        }
        for (bound, _) in now.definition.bindings() {
            let of_topic = shard.definitions.entry(topic(bound)).or_default();
            of_topic.insert(entry.actor.clone(), entry.clone());
        }
        drop(shard);
        if !binds {
            for shard in &self.shards {
                shard.write().instances.remove(&entry.actor);
            }
        }
        self.changed();
        binds && !bound && entry.instances() > 0
    }

    /// Notes a spawned entry whose definition binds a topic.
    pub(super) fn note_instance(&self, entry: &Arc<Entry>) {
        if entry.spec().hosted.definition.bindings().next().is_none() {
            return;
        }
        let definition = entry.definition();
        let mut shard = self.shard(&entry.actor).write();
        let of_definition = shard.instances.entry(definition.clone()).or_default();
        of_definition.insert(entry.actor.clone(), entry.clone());
        drop(shard);
        if entry.is_removed() {
            self.remove_instance(&definition, &entry.actor);
        }
        self.changed();
    }

    /// Notes that an entry is no longer registered.
    pub(super) fn note_removed(&self, entry: &Entry) {
        if let Source::Spawned { parent, .. } = entry.source() {
            self.remove_instance(&parent.definition(), &entry.actor);
        }
    }

    fn remove_instance(&self, definition: &ActorRef, actor: &ActorRef) {
        if remove_from(&mut self.shard(actor).write().instances, definition, actor) {
            self.changed();
        }
    }

    /// The definitions in a shard that may bind a topic.
    pub(crate) fn definitions(&self, shard: usize, topic: &Topic) -> Vec<Arc<Entry>> {
        self.read(shard, |shard| shard.definitions.get(topic).map(in_a_row))
    }

    /// The entries in a shard that may have been spawned from a definition.
    pub(crate) fn instances(&self, shard: usize, definition: &ActorRef) -> Vec<Arc<Entry>> {
        self.read(shard, |shard| shard.instances.get(definition).map(in_a_row))
    }

    fn read(
        &self,
        shard: usize,
        find: impl FnOnce(&Shard) -> Option<Vec<Arc<Entry>>>,
    ) -> Vec<Arc<Entry>> {
        self.shards.get(shard).and_then(|shard| find(&shard.read())).unwrap_or_default()
    }
}

fn in_a_row(entries: &Entries) -> Vec<Arc<Entry>> {
    entries.values().cloned().collect()
}

/// Returns whether it was there.
fn remove_from<K: Hash + Eq>(
    map: &mut HashMap<K, Entries, Seeded>,
    key: &K,
    actor: &ActorRef,
) -> bool {
    let Some(entries) = map.get_mut(key) else { return false };
    let removed = entries.remove(actor).is_some();
    if entries.is_empty() {
        map.remove(key);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::definition;
    use crate::actor::{ActorId, Channel};
    use crate::registry::directory::Directory;

    fn binding(name: &str, topics: &[&str]) -> Definition {
        let channel = |topic: &&str| Channel { topic: (*topic).into(), action: "receive".into() };
        Definition { channels: Some(topics.iter().map(channel).collect()), ..definition(name) }
    }

    fn define(directory: &Directory, definition: Definition) -> Arc<Entry> {
        let id = Arc::new(definition.id.clone());
        directory.put(id, Source::Defined(directory.hosted(definition.into()).0))
    }

    fn spawn(directory: &Directory, name: &str, parent: &Arc<Entry>) -> Arc<Entry> {
        let parent_name = parent.actor.name().to_owned();
        let id = ActorId { name: name.into(), system: "s".into(), parent: parent_name };
        directory.put(id.into(), Source::Spawned { parent: parent.clone(), revision: None })
    }

    /// Names of the definitions that may bind a topic, and of what was spawned from them.
    fn found(directory: &Directory, topic: &str) -> Vec<String> {
        let subscribers = &directory.subscribers;
        let topic = Topic::new("s", topic);
        let shards = || 0..subscribers.shards();
        let definitions = shards().flat_map(|shard| subscribers.definitions(shard, &topic));
        let with_instances = definitions.flat_map(|definition| {
            let of = |shard| subscribers.instances(shard, &definition.actor);
            let instances: Vec<_> = shards().flat_map(of).collect();
            [definition].into_iter().chain(instances)
        });
        let mut names: Vec<_> = with_instances.map(|entry| entry.actor.name().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_topic_finds_definitions_and_what_was_spawned_from_them_whatever_came_first() {
        let directory = Directory::new();
        let template = define(&directory, definition("template"));
        let joe = spawn(&directory, "joe", &template);
        let moe = spawn(&directory, "moe", &joe);
        assert!(found(&directory, "news").is_empty());
        define(&directory, binding("template", &["news", "sport"]));
        define(&directory, binding("named", &["news"]));
        spawn(&directory, "zoe", &template);
        assert_eq!(found(&directory, "news"), ["joe", "moe", "named", "template", "zoe"]);
        assert_eq!(found(&directory, "sport"), ["joe", "moe", "template", "zoe"]);
        directory.remove(&moe);
        define(&directory, binding("template", &["sport"]));
        assert_eq!(found(&directory, "news"), ["named"]);
        assert_eq!(found(&directory, "sport"), ["joe", "template", "zoe"]);
        define(&directory, definition("template"));
        define(&directory, definition("named"));
        assert!(found(&directory, "news").is_empty() && found(&directory, "sport").is_empty());
        let empty = |shard: &RwLock<Shard>| {
            let shard = shard.read();
            shard.definitions.is_empty() && shard.instances.is_empty()
        };
        assert!(directory.subscribers.shards.iter().all(empty));
    }
}
