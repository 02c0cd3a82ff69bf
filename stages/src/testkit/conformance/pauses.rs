//! Checks of the table of pauses.
#![allow(missing_docs, reason = "each check is told by its name")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Subject;
use crate::actor::ActorRef;
use crate::ports::{Pause, StateStore};
use crate::state::Timestamp;

fn pause(system: &str, name: &str, since: u64) -> Pause {
    let actor = ActorRef::new(system, name);
    Pause { actor, since: Timestamp(since), by: "somebody \u{202e}".into(), ended: None }
}

async fn all(store: &Arc<dyn StateStore>) -> BTreeMap<(String, String), Pause> {
    let all = store.pauses().await.expect("a healthy store reads");
    let name = |pause: &Pause| (pause.actor.system().to_owned(), pause.actor.name().to_owned());
    let (count, all) = (all.len(), all.into_iter().map(|pause| (name(&pause), pause)));
    let all: BTreeMap<_, _> = all.collect();
    assert_eq!(all.len(), count, "one pause per actor");
    all
}

pub async fn a_pause_is_read_back_replaced_and_removed(subject: impl Subject) {
    let store = subject.states();
    assert_eq!(all(&store).await.len(), 0);
    store.put_pauses(Vec::new()).await.expect("nothing is no error");
    let (joe, moe) = (pause("s", "joe", 1), pause("s", "moe", 2));
    store.put_pauses(vec![joe.clone(), moe.clone()]).await.expect("a healthy store writes");
    let ended = Pause { ended: Some(Timestamp(7)), ..joe.clone() };
    store.put_pauses(vec![ended.clone()]).await.expect("a healthy store writes");
    let found = all(&store).await;
    assert_eq!(found.values().cloned().collect::<Vec<_>>(), [ended, moe.clone()]);
    let names = vec![joe.actor, ActorRef::new("s", "nobody")];
    store.remove_pauses(names).await.expect("what is gone is no error");
    assert_eq!(all(&store).await.into_values().collect::<Vec<_>>(), [moe]);
}

pub async fn names_of_pauses_never_mix(subject: impl Subject) {
    let store = subject.states();
    let names =
        [("a", "b:c"), ("a:b", "c"), ("", "abc"), ("ab", "c"), ("t", "test"), ("t", "test-1")];
    let pauses: Vec<_> = names.iter().map(|(system, name)| pause(system, name, 3)).collect();
    store.put_pauses(pauses.clone()).await.expect("a healthy store writes");
    store.remove_pauses(vec![pauses[4].actor.clone()]).await.expect("a healthy store removes");
    let found = all(&store).await;
    assert_eq!(found.len(), names.len() - 1);
    assert!(found.contains_key(&("t".into(), "test-1".into())));
}

pub async fn many_pauses_are_there_after_reopening(subject: impl Subject) {
    let many: Vec<_> = (0..2_500).map(|n| pause("s", &format!("a{n}"), n)).collect();
    for some in many.chunks(256) {
        subject.states().put_pauses(some.to_vec()).await.expect("a healthy store writes");
    }
    let found = all(&subject.reopen().await.states()).await;
    assert_eq!(found.len(), many.len());
    assert!(many.iter().all(|one| {
        let name = (one.actor.system().to_owned(), one.actor.name().to_owned());
        found.get(&name) == Some(one)
    }));
}
