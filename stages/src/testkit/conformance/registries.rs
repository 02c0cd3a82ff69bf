//! Checks of registrations.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::sync::Arc;

use bytes::Bytes;

use super::Subject;
use super::states::id;
use crate::actor::{ActorId, Definition, Encoding, HostAddress, HostSet, Kind};
use crate::ports::{Registered, RegisteredEntry, Registry, RegistryChange};
use crate::state::Tags;

/// Decodes a definition from the bytes `name` or `name:parent`; the suite uses this format instead of the protocol's message.
///
/// # Errors
/// When the bytes are not UTF-8. A store that keeps only the bytes decodes them with this function.
#[expect(clippy::needless_pass_by_value, reason = "has the shape of a store's decoder")]
pub fn plain_definition(raw: Bytes, hosts: HostSet, system: &str) -> Result<Definition, String> {
    let text = std::str::from_utf8(&raw).map_err(|error| error.to_string())?;
    let (name, parent) = text.split_once(':').unwrap_or((text, ""));
    Ok(Definition {
        id: ActorId { name: name.into(), system: system.into(), parent: parent.into() },
        hosts,
        kind: Kind::Named,
        stateful: true,
        snapshot_every: None,
        deactivate_after: None,
        actions: Vec::new(),
        timers: Vec::new(),
        channels: None,
        initial_state: None,
        initial_tags: Tags::new(),
        retired: false,
        encoding: Encoding::Protobuf,
        raw: raw.clone(),
    })
}

fn definition(system: &str, raw: &'static str, host: &str) -> Registered {
    of_hosts(system, raw, [host])
}

fn of_hosts<const N: usize>(system: &str, raw: &'static str, hosts: [&str; N]) -> Registered {
    let hosts = HostSet::new(hosts.map(HostAddress::new)).expect("some hosts");
    let definition = plain_definition(raw.into(), hosts, system);
    Registered::definition(Arc::new(definition.expect("plain text")))
}

fn retired(registered: Registered) -> Registered {
    match registered.entry {
        RegisteredEntry::Definition(definition) => {
            Registered::definition(Arc::new(definition.retire()))
        }
        RegisteredEntry::Spawned { .. } | RegisteredEntry::Deleted(_) => registered,
    }
}

fn spawned(system: &str, name: &str, parent: &str, revision: Option<u64>) -> Registered {
    Registered::spawned(id(system, name, parent), revision)
}

async fn loaded(registry: &Arc<dyn Registry>) -> Vec<Registered> {
    let mut all = registry.load().await.expect("a healthy registry loads");
    all.sort_by(|a, b| (&a.id().system, &a.id().name).cmp(&(&b.id().system, &b.id().name)));
    all
}

async fn put(registry: &Arc<dyn Registry>, entries: &[Registered]) {
    let changes = entries.iter().cloned().map(RegistryChange::Put).collect();
    registry.apply(changes).await.expect("a healthy registry keeps");
}

pub async fn an_empty_registry_has_nothing(subject: impl Subject) {
    let registry = subject.registry();
    registry.apply(Vec::new()).await.expect("nothing to do");
    let gone = vec![RegistryChange::Remove(id("s", "a", ""))];
    registry.apply(gone).await.expect("removing what is not there is no error");
    assert!(loaded(&registry).await.is_empty());
}

pub async fn what_was_put_is_loaded_whole(subject: impl Subject) {
    let registry = subject.registry();
    let entries = [
        definition("s", "a", "127.0.0.1:8090"),
        retired(definition("s", "aa", "127.0.0.1:8090")),
        spawned("s", "b", "a", None),
        spawned("s", "c", "a", Some(0)),
        spawned("s", "d", "a", Some(u64::MAX)),
        // Their parents have changed since their states were first written.
        Registered { key: id("s", "e", ""), ..spawned("s", "e", "a", None) },
        Registered { key: id("s", "f", "a"), ..definition("s", "f", "127.0.0.1:8090") },
        Registered::deleted(id("s", "g", "a")),
    ];
    put(&registry, &entries).await;
    assert_eq!(loaded(&registry).await, entries);
}

pub async fn an_entry_replaces_the_one_of_its_name(subject: impl Subject) {
    let registry = subject.registry();
    put(&registry, &[definition("s", "a", "old:1"), spawned("s", "b", "a", Some(1))]).await;
    let entries = [definition("s", "a:parent", "new:2"), spawned("s", "b", "other", None)];
    put(&registry, &entries).await;
    assert_eq!(loaded(&registry).await, entries);
    // An instance replaces a definition of the same system and name, and the reverse.
    put(&registry, &[spawned("s", "a", "p", None)]).await;
    assert_eq!(loaded(&registry).await[0], spawned("s", "a", "p", None));
}

pub async fn changes_apply_in_order(subject: impl Subject) {
    let registry = subject.registry();
    let changes = vec![
        RegistryChange::Put(spawned("s", "a", "p", Some(1))),
        RegistryChange::Remove(id("s", "a", "")),
        RegistryChange::Put(spawned("s", "b", "p", None)),
        RegistryChange::Put(spawned("s", "a", "p", Some(2))),
        RegistryChange::Remove(id("s", "b", "another parent is the same name")),
    ];
    registry.apply(changes).await.expect("applies");
    assert_eq!(loaded(&registry).await, [spawned("s", "a", "p", Some(2))]);
}

pub async fn systems_are_apart(subject: impl Subject) {
    let registry = subject.registry();
    let entries =
        [definition("a", "bc", "h:1"), definition("ab", "c", "h:1"), spawned("b", "bc", "", None)];
    put(&registry, &entries).await;
    assert_eq!(loaded(&registry).await, entries);
    let remove = vec![RegistryChange::Remove(id("ab", "c", ""))];
    registry.apply(remove).await.expect("applies");
    assert_eq!(loaded(&registry).await, [entries[0].clone(), entries[2].clone()]);
}

pub async fn a_registry_is_there_after_reopening(subject: impl Subject) {
    let entries = [definition("s", "a", "127.0.0.1:1"), spawned("s", "b", "a", Some(7))];
    put(&subject.registry(), &entries).await;
    assert_eq!(loaded(&subject.reopen().await.registry()).await, entries);
}
