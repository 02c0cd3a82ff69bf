//! Subscribed: who is subscribed to a durable topic.

use std::sync::Arc;

use crate::actor::Kind;
use crate::history::Position;
use crate::registry::directory::Directory;
use crate::registry::entry::Entry;
use crate::registry::subscribers::Topic;
use crate::topics::log::Log;

/// The actors that are subscribed to a topic.
pub(crate) fn subscribed(directory: &Directory, topic: &Topic) -> Vec<Arc<Entry>> {
    let subscribers = &directory.subscribers;
    let mut found = Vec::new();
    let is_meant = |entry: &Arc<Entry>| {
        let binds = |action: Option<&str>| action.is_some();
        !entry.is_removed()
            && entry.with_hosted(|hosted| binds(hosted.definition.action_on(topic.name())))
    };
    for shard in 0..subscribers.shards() {
        for definition in subscribers.definitions(shard, topic) {
            if definition.with_hosted(|hosted| hosted.definition.kind != Kind::Unnamed) {
                found.extend(Some(definition.clone()).filter(is_meant));
            }
            if definition.instances() == 0 {
                continue;
            }
            for shard in 0..subscribers.shards() {
                let of = subscribers.instances(shard, &definition.actor).into_iter();
                found.extend(
                    of.filter(|entry| entry.definition() == definition.actor).filter(is_meant),
                );
            }
        }
    }
    found
}

/// Whether definitions bind a topic, though nobody may be subscribed to it.
pub(crate) fn is_bound(directory: &Directory, system: &str, name: &str) -> bool {
    let (subscribers, topic) = (&directory.subscribers, Topic::new(system, name));
    (0..subscribers.shards()).any(|shard| !subscribers.definitions(shard, &topic).is_empty())
}

/// Has a topic take its subscribers, if they may have changed since it last did. New ones begin after `newest`.
pub(crate) fn look(directory: &Directory, log: &Log, newest: Position) {
    let generation = directory.subscribers.generation();
    if log.looked() == Some(generation) {
        return;
    }
    let topic = Topic::new(log.topic.system(), log.topic.name());
    let found: Vec<_> =
        subscribed(directory, &topic).iter().map(|entry| entry.subscribed()).collect();
    log.look(generation, &found, newest);
}
