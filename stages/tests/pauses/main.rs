//! What a pause holds back, for how long, and what goes on meanwhile.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

#[path = "../support/mod.rs"]
mod support;

mod pools;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use support::*;
use tidegate_pipeline::Bound;
use tidegate_stages::actor::{Channel, Definition, Kind, Timer};
use tidegate_stages::blocked_on::Turns;
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::invocation::{
    ActorInvocation, Broadcast, Invocation, Payload, Routing, Workflow,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::outbox::record::Record;
use tidegate_stages::ports::{Clock, DueStore, HostError, PauseStore, StateStore, StoreError};
use tidegate_stages::state::Status;
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_hours(1);

/// A counter that notes whom it is called for. `source` has `sink` called; `broken` actors break off as long as it is told.
#[derive(Debug, Clone, Default)]
struct Counter {
    log: Arc<Mutex<Vec<String>>>,
    breaks: Arc<AtomicBool>,
}

impl Counter {
    fn host(&self) -> BoxedHost {
        let this = self.clone();
        host(move |invocation: ActorInvocation| {
            let name = invocation.actor.name.clone();
            let mut response = counted(&invocation);
            if name == "source" {
                response.workflow.effects = vec![call("sink", "add")];
            }
            let breaks = name == "sink" && this.breaks.load(Ordering::SeqCst);
            this.log.lock().push(name);
            async move {
                if breaks {
                    let (address, reason) = ("h".into(), "reset".into());
                    return Err(HostError::Broken { address, reason });
                }
                Ok(response)
            }
        })
    }

    fn calls(&self, name: &str) -> usize {
        self.log.lock().iter().filter(|called| *called == name).count()
    }
}

async fn world_of(names: &[&str], settings: Settings) -> (Counter, World) {
    let counter = Counter::default();
    let world = world_with(counter.host(), settings, MemoryStore::new()).await;
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    (counter, world)
}

async fn pause(world: &World, name: &str) {
    assert!(world.mesh.pause("s", name, "a test").await.unwrap());
}

async fn resume(world: &World, name: &str) {
    assert!(world.mesh.resume("s", name).await.unwrap());
}

/// Lets time pass, on both clocks.
async fn pass(world: &World, time: Duration) {
    for _ in 0..20 {
        world.clock.advance(time / 20);
        sleep(time / 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_kept_over_restarts_until_it_ends() {
    let (_, first) = world_of(&["joe", "ann"], Settings::default()).await;
    first.add("joe").await.unwrap();
    pause(&first, "joe").await;
    assert!(first.mesh.drain(Duration::from_secs(25)).await);
    let counter = Counter::default();
    let second = world_with(counter.host(), Settings::default(), first.memory.clone()).await;
    assert!(second.mesh.queue("s", "joe").unwrap().paused.is_some());
    assert_eq!(second.add("ann").await.unwrap(), 1);
    let error = second.add("joe").await.unwrap_err();
    assert!(matches!(error, Error::NotStarted(..)), "{error}");
    assert!(error.to_string().ends_with(": the actor is paused"), "{error}");
    assert_eq!(counter.calls("joe"), 0);
    resume(&second, "joe").await;
    assert_eq!(second.add("joe").await.unwrap(), 2);
    assert!(second.mesh.drain(Duration::from_secs(25)).await);
    let third = world_with(counter.host(), Settings::default(), first.memory.clone()).await;
    assert_eq!(third.add("joe").await.unwrap(), 3);
    // When it ended is forgotten after a day.
    third.clock.advance(25 * HOUR);
    pause(&third, "ann").await;
    resume(&third, "ann").await;
    let left = third.memory.pauses().await.unwrap();
    assert_eq!(left.iter().map(|pause| pause.actor.name()).collect::<Vec<_>>(), ["ann"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_store_does_not_keep_does_not_begin_or_end() {
    let (_, world) = world_of(&["joe"], Settings::default()).await;
    let failing = || Some(StoreError::Unavailable("as the test wants it".into()));
    world.store.refuse_saves(failing());
    let error = world.mesh.pause("s", "joe", "a test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    world.store.refuse_saves(None);
    assert_eq!(world.add("joe").await.unwrap(), 1);
    pause(&world, "joe").await;
    assert!(!world.mesh.pause("s", "joe", "a test").await.unwrap(), "it is paused already");
    world.store.refuse_saves(failing());
    world.mesh.resume("s", "joe").await.unwrap_err();
    assert!(world.mesh.queue("s", "joe").unwrap().paused.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_pause_or_its_end_in_doubt_undoes_nothing_that_is_acknowledged_after_it() {
    let (_, world) = world_of(&["joe"], Settings::default()).await;
    let stored = async || {
        let all = world.memory.pauses().await.unwrap();
        all.iter().filter(|pause| pause.ended.is_none()).count()
    };
    let in_doubt = || {
        let unknown = StoreError::Unknown("no answer".into());
        world.store.fail_next_write(SaveFault::WriteAndFail(unknown));
    };
    in_doubt();
    world.mesh.pause("s", "joe", "a test").await.unwrap_err();
    assert_eq!(stored().await, 1, "it is stored all the same");
    assert!(!world.mesh.resume("s", "joe").await.unwrap(), "it is not paused");
    assert_eq!(stored().await, 0);

    pause(&world, "joe").await;
    in_doubt();
    world.mesh.resume("s", "joe").await.unwrap_err();
    assert_eq!(stored().await, 0);
    assert!(!world.mesh.pause("s", "joe", "a test").await.unwrap(), "it is paused already");
    assert_eq!(stored().await, 1);

    // Nobody asks for another change.
    in_doubt();
    world.mesh.resume("s", "joe").await.unwrap_err();
    assert_eq!(stored().await, 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(stored().await, 1);
}

#[tokio::test(start_paused = true)]
async fn effects_for_a_paused_actor_wait_count_for_their_source_and_do_not_grow_old() {
    let settings = rules(|rules| rules.max_pending_effects = 3);
    let (counter, world) = world_of(&["source", "sink"], settings).await;
    pause(&world, "sink").await;
    for count in 1..=3 {
        assert_eq!(world.add("source").await.unwrap(), count);
    }
    assert_eq!(world.add("source").await.unwrap_err().kind(), ErrorKind::Overloaded);
    pass(&world, 30 * HOUR).await;
    assert_eq!(counter.calls("sink"), 0);
    // The first try after the pause fails, and is not the last one.
    counter.breaks.store(true, Ordering::SeqCst);
    resume(&world, "sink").await;
    wait_until(|| counter.calls("sink") > 1).await;
    let rows = || async { world.memory.outbox(&id("source"), None, 9).await.unwrap().items };
    assert!(
        rows()
            .await
            .iter()
            .all(|row| { Record::decode(row.record.clone()).unwrap().dead.is_none() })
    );
    counter.breaks.store(false, Ordering::SeqCst);
    sleep(Duration::from_mins(1)).await;
    assert_eq!(rows().await.len(), 0);
    assert_eq!(number(world.head("sink").await.unwrap().content.state.as_ref()), 3);
    assert_eq!(world.add("source").await.unwrap(), 4, "the source may emit again");
}

#[tokio::test(start_paused = true)]
async fn side_effects_of_paused_sources_keep_no_others_from_being_delivered() {
    // More than are taken over at once.
    const PAUSED: usize = 70;
    let sources: Vec<String> = (0..PAUSED).map(|n| format!("a{n:02}")).collect();
    let memory = MemoryStore::new();
    let hears = Arc::new(AtomicBool::new(false));
    let host = {
        let hears = hears.clone();
        move |invocation: ActorInvocation| {
            let mut response = counted(&invocation);
            let is_sink = invocation.actor.name == "sink";
            if !is_sink && invocation.action == "add" {
                response.workflow.effects = vec![call("sink", "add")];
            }
            let breaks = is_sink && !hears.load(Ordering::SeqCst);
            async move {
                let (address, reason) = ("h".into(), "reset".into());
                if breaks { Err(HostError::Broken { address, reason }) } else { Ok(response) }
            }
        }
    };
    let first =
        world_with(self::support::host(host.clone()), Settings::default(), memory.clone()).await;
    let names = sources.iter().map(String::as_str).chain(["z", "sink"]);
    first.register(names.map(definition).collect()).await.unwrap();
    for name in sources.iter().map(String::as_str).chain(["z"]) {
        first.add(name).await.unwrap();
    }
    for name in &sources {
        pause(&first, name).await;
    }
    assert!(first.mesh.drain(Duration::from_secs(25)).await);
    hears.store(true, Ordering::SeqCst);
    let second = world_with(self::support::host(host), Settings::default(), memory).await;
    let sunk = || async {
        second.head("sink").await.map_or(0, |head| number(head.content.state.as_ref()))
    };
    sleep(Duration::from_secs(10)).await;
    assert_eq!(sunk().await, 1, "that of the source that is not paused");
    for name in &sources {
        resume(&second, name).await;
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(sunk().await, 1 + PAUSED as u64);
}

#[tokio::test(start_paused = true)]
async fn due_work_for_paused_actors_waits_and_crowds_out_no_other() {
    const PAUSED: usize = 40;
    let names: Vec<String> = (0..PAUSED).map(|n| format!("p{n}")).collect();
    let (counter, world) = world_of(&["joe"], Settings::default()).await;
    world.register(names.iter().map(|name| definition(name)).collect()).await.unwrap();
    let later = |name: &str, after_ms: u64| {
        let at_ms = world.clock.now().0 / 1_000 + after_ms;
        Invocation { scheduled_to: i64::try_from(at_ms).unwrap(), ..call(name, "add") }
    };
    for name in &names {
        pause(&world, name).await;
        for number in 0..300 {
            world.mesh.invoke(later(name, 1_000 + number)).await.unwrap();
        }
    }
    // More than the window holds are due before this one.
    world.mesh.invoke(later("joe", 2_000)).await.unwrap();
    pass(&world, Duration::from_secs(20)).await;
    assert_eq!(counter.calls("joe"), 1);
    world.clock.advance(30 * HOUR);
    pass(&world, Duration::from_mins(2)).await;
    assert_eq!(counter.log.lock().len(), 1, "the others wait");
    resume(&world, "p7").await;
    wait_until(|| counter.calls("p7") == 300).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(counter.log.lock().len(), 301);
    let left = world.memory.due(None, 100_000).await.unwrap().items.len();
    assert_eq!(left, (PAUSED - 1) * 300);
}

#[tokio::test(start_paused = true)]
async fn a_due_call_that_a_pause_finds_in_the_mailbox_leaves_it_and_is_made_afterwards() {
    let slow = host(|invocation: ActorInvocation| async move {
        sleep(Duration::from_secs(5)).await;
        Ok(counted(&invocation))
    });
    let world = world_with(slow, Settings::default(), MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.mesh.invoke(Invocation { asynchronous: true, ..call("joe", "add") }).await.unwrap();
    let scheduled_to = i64::try_from(world.clock.now().0 / 1_000 + 1_000).unwrap();
    world.mesh.invoke(Invocation { scheduled_to, ..call("joe", "add") }).await.unwrap();
    pass(&world, Duration::from_secs(3)).await;
    pause(&world, "joe").await;
    let queued = || world.mesh.queue("s", "joe").unwrap().queued;
    assert_eq!(queued(), 1);
    pass(&world, Duration::from_secs(30)).await;
    assert_eq!((queued(), world.memory.due(None, 10).await.unwrap().items.len()), (0, 1));
    resume(&world, "joe").await;
    pass(&world, Duration::from_secs(30)).await;
    let head = world.head("joe").await.unwrap();
    assert_eq!(number(head.content.state.as_ref()), 2);
    assert!(world.memory.due(None, 10).await.unwrap().items.is_empty());
}

#[tokio::test(start_paused = true)]
async fn timers_of_a_paused_actor_skip_and_go_on_afterwards() {
    let (counter, world) = world_of(&[], Settings::default()).await;
    let timers = vec![Timer { action: "add".into(), period: Duration::from_secs(1) }];
    world.register(vec![Definition { timers, ..warmed("joe") }]).await.unwrap();
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(counter.calls("joe"), 2);
    pause(&world, "joe").await;
    sleep(HOUR).await;
    assert_eq!(counter.calls("joe"), 2);
    assert_eq!(world.mesh.queue("s", "joe").unwrap().queued, 0, "no tick waits");
    resume(&world, "joe").await;
    sleep(Duration::from_millis(2_500)).await;
    assert!((4..=5).contains(&counter.calls("joe")), "{}", counter.calls("joe"));
}

#[tokio::test(start_paused = true)]
async fn an_actor_that_was_paused_at_its_registration_is_warmed_up_when_the_pause_ends() {
    let (counter, world) = world_of(&["joe"], Settings::default()).await;
    pause(&world, "joe").await;
    let actions = ["add", "init"].map(String::from).to_vec();
    for _ in 0..3 {
        let actions = actions.clone();
        world.register(vec![Definition { actions, ..warmed("joe") }]).await.unwrap();
        sleep(HOUR).await;
    }
    assert_eq!(counter.calls("joe"), 0);
    resume(&world, "joe").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(counter.calls("joe"), 1, "its init action");
    pause(&world, "joe").await;
    world.register(vec![Definition { actions, ..warmed("joe") }]).await.unwrap();
    until_idle().await;
    assert!(world.mesh.drain(Duration::from_secs(5)).await, "a warm-up that waits keeps nothing");
}

#[tokio::test(start_paused = true)]
async fn broadcasts_wait_for_a_paused_subscriber_within_their_bound() {
    let counter = Counter::default();
    let broadcasts = Bound { events: 8, bytes: 1 << 20 };
    let settings = Settings { broadcasts, ..Settings::default() };
    let world = world_with(counter.host(), settings, MemoryStore::new()).await;
    let bound = |name: &str| {
        let channel = Channel { topic: "news".into(), action: "add".into() };
        Definition { channels: Some(vec![channel]), ..definition(name) }
    };
    world.register(vec![bound("joe"), bound("ann")]).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    pause(&world, "joe").await;
    for _ in 0..20 {
        let client = tidegate_stages::identity::Identity::default();
        let announced = world.mesh.announce(&client, "s").unwrap();
        let news = Broadcast { channel: "news".into(), payload: Payload::Noop };
        let sent = world.mesh.publish(client, "s", news, String::new(), announced).await;
        assert!(sent.unwrap().subscribers >= 1);
        until_idle().await;
    }
    assert_eq!((counter.calls("ann"), counter.calls("joe")), (20, 0), "it delays no other");
    resume(&world, "joe").await;
    until_idle().await;
    assert!((1..=8).contains(&counter.calls("joe")), "{}", counter.calls("joe"));
}

#[tokio::test(start_paused = true)]
async fn calls_for_paused_actors_take_their_places_only_and_asynchronous_ones_none() {
    let admission = Bound { events: 32, bytes: 1 << 20 };
    let settings = Settings { admission, for_paused: 4, ..Settings::default() };
    let (_, world) = world_of(&["p0", "p1", "p2", "joe"], settings).await;
    for name in ["p0", "p1", "p2"] {
        pause(&world, name).await;
    }
    let asynchronous = Invocation { asynchronous: true, ..call("p0", "add") };
    let error = world.mesh.invoke(asynchronous).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Overloaded && error.is_retryable(), "{error}");
    let waiting: Vec<_> =
        (0..4).map(|number| world.start(call(["p0", "p1"][number % 2], "add"))).collect();
    until_idle().await;
    for name in ["p0", "p2"] {
        let error = world.add(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert!(error.to_string().contains("paused"), "{error}");
    }
    assert_eq!(world.mesh.state("s", "p2").await.unwrap_err().kind(), ErrorKind::Overloaded);
    for count in 1..=40 {
        assert_eq!(world.add("joe").await.unwrap(), count);
    }
    for name in ["p0", "p1"] {
        resume(&world, name).await;
    }
    for call in waiting {
        call.await.unwrap().unwrap();
    }
    let waits = world.start(call("p2", "add"));
    until_idle().await;
    resume(&world, "p2").await;
    assert_eq!(answered(waits.await.unwrap().unwrap()), 1, "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_runs_nothing_of_a_paused_actor_and_does_not_wait_for_it() {
    let free = Arc::new(Semaphore::new(0));
    let (counter, gate) = (Counter::default(), free.clone());
    let log = counter.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let (gate, log) = (gate.clone(), log.clone());
        let mut response = counted(&invocation);
        let name = invocation.actor.name.clone();
        log.log.lock().push(name.clone());
        async move {
            if name == "ann" {
                gate.acquire().await.unwrap().forget();
                let routing = Routing::Pipe { actor: "sink".into(), action: "add".into() };
                let routing = Some(routing);
                response.workflow =
                    Workflow { routing, effects: vec![call("sink", "add")], broadcast: None };
            }
            Ok(response)
        }
    }))
    .await;
    world.register(vec![definition("ann"), definition("sink")]).await.unwrap();
    assert_eq!(world.add("sink").await.unwrap(), 1);
    pause(&world, "sink").await;
    let (piped, waits) = (world.start(call("ann", "add")), world.start(call("sink", "add")));
    wait_until(|| counter.calls("ann") == 1).await;
    let (mesh, began) = (world.mesh.clone(), Instant::now());
    let drained = tokio::task::spawn(async move { mesh.drain(Duration::from_secs(25)).await });
    until_idle().await;
    free.add_permits(1);
    assert!(drained.await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(waits.await.unwrap(), Err(Error::Draining)));
    let error = piped.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("has run"), "{error}");
    assert_eq!(counter.calls("sink"), 1);
    let head = world.head("sink").await.unwrap();
    assert_eq!(head.status, Status::Deactivated, "it is unloaded all the same");
    let next = world_with(counter.host(), Settings::default(), world.memory.clone()).await;
    sleep(HOUR).await;
    assert_eq!(counter.calls("sink"), 1, "the effect still waits");
    resume(&next, "sink").await;
    wait_until(|| counter.calls("sink") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_actor_is_deactivated_on_request_also_while_it_is_paused() {
    let free = Arc::new(Semaphore::new(0));
    let gate = free.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let gate = gate.clone();
        async move {
            if invocation.action == "slow" {
                gate.acquire().await.unwrap().forget();
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    let status = || async { world.head("joe").await.unwrap().status };
    world.add("joe").await.unwrap();
    assert_eq!(status().await, Status::Activated);
    world.mesh.deactivate("s", "joe").await.unwrap();
    assert_eq!(status().await, Status::Deactivated);
    assert_eq!(world.add("joe").await.unwrap(), 2);
    let running = world.start(call("joe", "slow"));
    until_idle().await;
    pause(&world, "joe").await;
    let error = world.mesh.deactivate("s", "joe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    free.add_permits(1);
    running.await.unwrap().unwrap();
    let waits = world.start(call("joe", "add"));
    until_idle().await;
    world.mesh.deactivate("s", "joe").await.unwrap();
    assert_eq!((status().await, waits.is_finished()), (Status::Deactivated, false));
    resume(&world, "joe").await;
    assert_eq!(answered(waits.await.unwrap().unwrap()), 4);
    world.mesh.deactivate("s", "nobody").await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn an_end_whose_write_gets_no_answer_is_not_told_as_not_started() {
    let (_, world) = world_of(&["joe"], Settings::default()).await;
    world.add("joe").await.unwrap();
    pause(&world, "joe").await;
    world.store.hold_saves();
    let error = world.mesh.deactivate("s", "joe").await.unwrap_err();
    assert!(matches!(error, Error::Store(StoreError::Unknown(_))), "{error}");
    world.store.release_saves();
}
