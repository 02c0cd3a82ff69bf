//! Registrations that are larger than one write, and registrations that fail half way.

use std::sync::Arc;
use std::time::Duration;

use tidegate::store::CqlOptions;
use tidegate_stages::ports::{Registered, Registry, RegistryChange};
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::states::id;

use crate::wire::{BATCH, EXECUTE, Wire};
use crate::{open, open_with};

fn put(name: &str) -> RegistryChange {
    RegistryChange::Put(Registered::spawned(id("s", name, "p"), None))
}

async fn names(registry: &impl Registry) -> Vec<String> {
    let all = registry.load().await.unwrap();
    let mut names: Vec<_> = all.iter().map(|one| one.id().name.clone()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_registration_may_be_larger_than_a_write() {
    let subject = open().await;
    let name = |number: u32| format!("{number:06}{}", "n".repeat(500));
    // The server takes 8 MiB in one write.
    let all: Vec<_> = (0..20_000).map(name).collect();
    subject.store.apply(all.iter().map(|name| put(name)).collect()).await.unwrap();
    assert!(names(&subject.store).await == all);
    let (gone, left) = all.split_at(19_990);
    let changes = gone.iter().map(|name| RegistryChange::Remove(id("s", name, "p"))).collect();
    subject.store.apply(changes).await.unwrap();
    let subject = subject.reopen().await;
    assert!(names(&subject.store).await == left);
    let session = crate::server::session().await;
    let query = format!("SELECT name FROM {}.registrations", subject.name());
    let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    assert_eq!(rows.rows_num(), left.len(), "what was removed takes no space");
}

#[tokio::test]
async fn what_a_failed_registration_wrote_never_counts() {
    let (subject, wire) = (open().await, Wire::new().await);
    let through = CqlOptions {
        hosts: vec![wire.address.clone()],
        request_time: Duration::from_secs(3),
        ..subject.options()
    };
    let store = open_with(&through).await.unwrap();
    store.apply(vec![put("first")]).await.unwrap();
    for kind in [EXECUTE, BATCH] {
        wire.hold(kind, "late");
    }
    let changes = (0..20).map(|number| put(&format!("part {number}")));
    let failed = store.apply(changes.chain([put("late")]).collect()).await;
    assert!(failed.is_err_and(|error| !error.may_have_happened()));
    let wrote = || async {
        let query = format!("SELECT name FROM {}.registrations", subject.name());
        let rows = crate::server::session().await.query_unpaged(query, ()).await.unwrap();
        rows.into_rows_result().unwrap().rows_num()
    };
    assert!(wrote().await > 1, "a part of it is written");
    assert_eq!(names(&store).await, ["first"]);
    wire.release().await;
    store.apply(vec![put("second")]).await.unwrap();
    let registry: Arc<dyn Registry> = subject.registry();
    for registry in [registry, Arc::new(store.clone())] {
        let all = registry.load().await.unwrap();
        let mut names: Vec<_> = all.iter().map(|one| one.id().name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["first", "second"]);
    }
    assert_eq!(wrote().await, 2, "what it wrote is gone");
    store.close().await.unwrap();
}
