//! Admission: what becomes of a call for which there is no capacity, or no time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::time::Duration;

use support::*;
use tidegate_pipeline::{Bound, Full};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::Invocation;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::topology::Settings;
use tokio::time::{Instant, sleep};

/// A host whose actions take that long.
fn slow(takes: Duration) -> BoxedHost {
    host(move |invocation| async move {
        sleep(takes).await;
        Ok(counted(&invocation))
    })
}

/// One call at a time is admitted; the next one waits.
fn one_admitted(full: Full) -> Settings {
    let admission = Bound { events: 1, ..Settings::default().admission };
    Settings { admission, full, ..Settings::default() }
}

fn bounded(invocation: Invocation, ms: u64) -> Invocation {
    let metadata = [("request-timeout".to_owned(), ms.to_string())].into();
    Invocation { metadata, ..invocation }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_capacity_is_part_of_a_call_s_time() {
    let settings = one_admitted(Full::Wait(Duration::from_mins(1)));
    let world = world_with(slow(Duration::from_secs(50)), settings, MemoryStore::new()).await;
    world.register(["joe", "jim"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("joe", "add"));
    until_idle().await;
    let began = Instant::now();
    let error = world.mesh.invoke(bounded(call("jim", "add"), 300)).await.unwrap_err();
    assert_eq!(
        (error.kind(), began.elapsed()),
        (ErrorKind::Overloaded, Duration::from_millis(300))
    );
    let began = Instant::now();
    let error = world.add("jim").await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Overloaded, Duration::from_secs(10)));
    let began = Instant::now();
    let error = world.mesh.state("s", "jim").await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Overloaded, Duration::from_secs(10)));
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_capacity_has_the_rest_of_its_time_to_start() {
    let settings = one_admitted(Full::Wait(Duration::from_mins(1)));
    let settings = Settings { worker_demand: 1, ..settings };
    let world = world_with(slow(Duration::from_secs(4)), settings, MemoryStore::new()).await;
    world.register(["joe", "jim"].map(definition).to_vec()).await.unwrap();
    let running = world.start(call("joe", "add"));
    until_idle().await;
    let began = Instant::now();
    // Four of its five seconds are spent waiting; the action takes four.
    let error = world.mesh.invoke(bounded(call("jim", "add"), 5_000)).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer(_)), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    running.await.unwrap().unwrap();
}
