//! Due work of targets that never answer: it takes neither the places nor the memory of other due work.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::invocation::{ActorInvocation, Invocation, Payload};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::state::Any;
use tidegate_stages::topology::Settings;

use support::{BoxedHost, counted, definition, host, later, pass, world, world_with};

const SECOND: Duration = Duration::from_secs(1);

/// The names of the called actors.
type Called = Arc<Mutex<BTreeSet<String>>>;

/// A host that never answers actors whose names begin with `slow`.
fn hanging() -> (BoxedHost, Called) {
    let called = Called::default();
    let noted = called.clone();
    let host = host(move |invocation: ActorInvocation| {
        noted.lock().insert(invocation.actor.name.clone());
        async move {
            if invocation.actor.name.starts_with("slow") {
                std::future::pending::<()>().await;
            }
            Ok(counted(&invocation))
        }
    });
    (host, called)
}

#[tokio::test(start_paused = true)]
async fn a_hundred_targets_that_never_answer_delay_no_other() {
    let (host, called) = hanging();
    let world = world(host).await;
    let slow: Vec<_> = (0..100).map(|number| format!("slow{number}")).collect();
    let names = slow.iter().map(String::as_str).chain(["quick", "later"]);
    world.register(names.map(definition).collect()).await.unwrap();
    for name in slow.iter().cycle().take(300) {
        world.mesh.invoke(later(&world, name, 1)).await.unwrap();
    }
    world.mesh.invoke(later(&world, "quick", 2)).await.unwrap();
    world.mesh.invoke(later(&world, "later", 20)).await.unwrap();
    pass(&world, 10).await;
    assert!(called.lock().contains("quick"), "{} are called", called.lock().len());
    assert!(!called.lock().contains("later"));
    // Those that hang are found out by now.
    pass(&world, 11).await;
    assert!(called.lock().contains("later"), "{} are called", called.lock().len());
}

#[tokio::test(start_paused = true)]
async fn targets_that_never_answer_leave_memory_to_the_due_work_of_others() {
    let (host, called) = hanging();
    // More entries, and more bytes, than are kept in memory.
    for (targets, each, bytes) in [(20, 1_500, 0), (3, 500, 64 << 10)] {
        let memory = MemoryStore::new();
        let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
        let slow: Vec<_> = (0..targets).map(|number| format!("slow{number}")).collect();
        let names = slow.iter().map(String::as_str).chain(["quick"]);
        first.register(names.map(definition).collect()).await.unwrap();
        for name in slow.iter().cycle().take(targets * each) {
            let any = Any { type_url: "t".into(), value: vec![0; bytes].into() };
            let invocation = Invocation { payload: Payload::Value(any), ..later(&first, name, 1) };
            first.mesh.invoke(invocation).await.unwrap();
        }
        first.mesh.invoke(later(&first, "quick", 2)).await.unwrap();
        assert!(first.mesh.drain(10 * SECOND).await);
        called.lock().clear();
        let second = world_with(host.clone(), Settings::default(), memory).await;
        pass(&second, 20).await;
        assert!(called.lock().contains("quick"), "{} are called", called.lock().len());
    }
}

#[tokio::test(start_paused = true)]
async fn targets_that_hang_again_and_again_delay_no_other_once_they_are_known() {
    let quick = Arc::<Mutex<u64>>::default();
    let calls = quick.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let is_slow = invocation.actor.name.starts_with("slow");
        *calls.lock() += u64::from(!is_slow);
        async move {
            if is_slow {
                std::future::pending::<()>().await;
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    let slow: Vec<_> = (0..300).map(|number| format!("slow{number}")).collect();
    let names = slow.iter().map(String::as_str).chain(["quick"]);
    world.register(names.map(definition).collect()).await.unwrap();
    for name in &slow {
        world.mesh.invoke(later(&world, name, 1)).await.unwrap();
    }
    for second in 1..=180 {
        world.mesh.invoke(later(&world, "quick", second)).await.unwrap();
    }
    for second in 1..=180 {
        pass(&world, 1).await;
        let made = *quick.lock();
        assert!(second < 60 || made + 2 >= second, "{made} of {second}");
    }
}
