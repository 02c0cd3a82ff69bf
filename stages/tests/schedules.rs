//! Schedules in the mesh: what runs, what survives, and what delays nothing. The tests are named after faults of others.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_stages::actor::{Definition, Kind};
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::identity::Identity;
use tidegate_stages::invocation::{
    ActorInvocation, EFFECT_ID, Invocation, SCHEDULE_DUE, SCHEDULE_NAME,
};
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::mesh::{ScheduleAsk, ScheduleTold};
use tidegate_stages::ports::{Clock, DueStore, HostError, ScheduleStore, StateStore, StoreError};
use tidegate_stages::schedules::{
    CatchUp, Expression, Outcome, Overlap, Schedule, ScheduleKey, Spec, When, Zone,
};
use tidegate_stages::state::Timestamp;
use tidegate_stages::topology::Settings;
use tokio::time::sleep;

use support::{
    BoxedHost, World, call, counted, counter, definition, host, id, number, rules, world,
    world_with,
};

const SECOND: Duration = Duration::from_secs(1);

/// The names of the called actors and their metadata, in order.
type Log = Arc<Mutex<Vec<(String, String)>>>;

/// A host that notes a metadatum of each call. `slow` takes a minute and a half less some.
fn noting(key: &'static str) -> (BoxedHost, Log) {
    let log = Log::default();
    let noted = log.clone();
    let host = host(move |invocation: ActorInvocation| {
        let metadatum = invocation.metadata.get(key).cloned().unwrap_or_default();
        noted.lock().push((invocation.actor.name.clone(), metadatum));
        async move {
            if invocation.actor.name.starts_with("slow") {
                sleep(45 * SECOND).await;
            }
            Ok(counted(&invocation))
        }
    });
    (host, log)
}

fn every(world: &World, actor: &str, seconds: u64) -> Spec {
    let first = Timestamp(world.clock.now().0 + seconds * 1_000_000);
    Spec {
        when: When::Every { period: Duration::from_secs(seconds), first },
        overlap: Overlap::Skip,
        catch_up: CatchUp::default(),
        jitter: Duration::ZERO,
        end: None,
        call: call(actor, "add"),
    }
}

fn key(name: &str) -> ScheduleKey {
    ScheduleKey { system: "s".into(), name: name.into() }
}

async fn ask(world: &World, ask: ScheduleAsk) -> Result<Schedule, Error> {
    match world.mesh.ask_schedule(Identity::default(), ask).await? {
        ScheduleTold::One(schedule) => Ok(*schedule),
        told => panic!("{told:?}"),
    }
}

async fn put(world: &World, name: &str, spec: Spec, replaces: bool) -> Result<Schedule, Error> {
    let (name, spec) = (name.to_owned(), Box::new(spec));
    let keeps_first = false;
    ask(world, ScheduleAsk::Put { name, spec, is_paused: false, replaces, keeps_first }).await
}

async fn create(world: &World, name: &str, spec: Spec) -> Schedule {
    put(world, name, spec, false).await.unwrap()
}

async fn get(world: &World, name: &str) -> Schedule {
    ask(world, ScheduleAsk::Get(key(name))).await.unwrap()
}

async fn delete(world: &World, name: &str) {
    let deleted = world.mesh.ask_schedule(Identity::default(), ScheduleAsk::Delete(key(name)));
    assert_eq!(deleted.await.unwrap(), ScheduleTold::Done);
}

async fn list(world: &World, system: &str) -> Vec<Schedule> {
    let (system, after) = (system.to_owned(), String::new());
    let list = ScheduleAsk::List { system, after, limit: 100 };
    match world.mesh.ask_schedule(Identity::default(), list).await.unwrap() {
        ScheduleTold::Many(page) if !page.more => page.items,
        told => panic!("{told:?}"),
    }
}

/// Lets time pass, on both clocks.
async fn pass(world: &World, seconds: u64) {
    for _ in 0..seconds * 10 {
        world.clock.advance(SECOND / 10);
        sleep(SECOND / 10).await;
    }
}

async fn count(world: &World, name: &str) -> u64 {
    world.head(name).await.map_or(0, |head| number(head.content.state.as_ref()))
}

async fn stored(world: &World) -> usize {
    world.memory.due(None, 100_000).await.unwrap().items.len()
}

#[tokio::test(start_paused = true)]
async fn a_schedule_calls_its_actor_at_its_times_with_a_stable_number() {
    let (host, log) = noting(EFFECT_ID);
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    create(&world, "nightly", every(&world, "joe", 10)).await;
    pass(&world, 35).await;
    let schedule = get(&world, "nightly").await;
    assert_eq!((schedule.runs, schedule.failed, schedule.skipped, schedule.missed), (3, 0, 0, 0));
    assert_eq!(schedule.past.len(), 3);
    assert!(schedule.past.iter().all(|run| run.outcome == Outcome::Answered));
    assert_eq!(count(&world, "joe").await, 3);
    let ids: Vec<_> = log.lock().iter().map(|(_, id)| id.clone()).collect();
    let numbered = |n: usize| {
        ids[n - 1].starts_with("schedule/s/nightly/") && ids[n - 1].ends_with(&format!(".{n}"))
    };
    assert!((1..=3).all(numbered), "{ids:?}");
    assert_eq!(stored(&world).await, 1, "its next look, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn one_slow_target_does_not_delay_the_schedules_of_others() {
    let (host, log) = noting(SCHEDULE_NAME);
    let world = world(host).await;
    world.register(["slow", "quick"].map(definition).to_vec()).await.unwrap();
    for n in 0..40 {
        let overlap = Overlap::Allow;
        create(&world, &format!("slow-{n}"), Spec { overlap, ..every(&world, "slow", 1) }).await;
    }
    create(&world, "quick", every(&world, "quick", 1)).await;
    pass(&world, 60).await;
    let quick = log.lock().iter().filter(|(_, schedule)| schedule == "quick").count();
    assert!((58..=60).contains(&quick), "{quick}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_overlaps_is_skipped_queued_or_allowed_and_what_is_skipped_is_counted() {
    let (host, log) = noting(SCHEDULE_DUE);
    let world = world(host).await;
    let names = ["slow-skip", "slow-queue", "slow-all"];
    world.register(names.map(definition).to_vec()).await.unwrap();
    let policies = [Overlap::Skip, Overlap::QueueOne, Overlap::Allow];
    for (name, overlap) in names.into_iter().zip(policies) {
        create(&world, name, Spec { overlap, ..every(&world, name, 10) }).await;
    }
    // Each run takes 45 s: the second one ends after 100 s.
    pass(&world, 98).await;
    let found = async |name| {
        let schedule = get(&world, name).await;
        (schedule.past.len(), schedule.open.len(), schedule.skipped)
    };
    assert_eq!(found("slow-skip").await, (1, 1, 7));
    assert_eq!(found("slow-queue").await, (1, 2, 6));
    assert_eq!(found("slow-all").await, (1, 8, 0));
    let all = log
        .lock()
        .iter()
        .filter(|(name, _)| name == "slow-all")
        .map(|(_, due)| due.clone())
        .collect::<Vec<_>>();
    assert!(all.is_sorted() && all.len() == 2, "one at a time, in order: {all:?}");
}

#[tokio::test(start_paused = true)]
async fn schedules_go_on_after_a_restart_and_an_outage_is_caught_up_or_counted() {
    let memory = MemoryStore::new();
    let first = world_with(counter(), Settings::default(), memory.clone()).await;
    first.register(["joe", "moe"].map(definition).to_vec()).await.unwrap();
    create(&first, "joe", every(&first, "joe", 10)).await;
    let all = Spec { catch_up: CatchUp::All, overlap: Overlap::Allow, ..every(&first, "moe", 10) };
    create(&first, "moe", all).await;
    pass(&first, 25).await;
    let down_at = first.clock.now();
    assert!(first.mesh.drain(10 * SECOND).await);
    let second = world_with(counter(), Settings::default(), memory).await;
    second.clock.advance(Duration::from_micros(down_at.0 - second.clock.now().0) + 600 * SECOND);
    pass(&second, 30).await;
    let joe = get(&second, "joe").await;
    assert!(joe.missed >= 52 && joe.skipped >= 5, "{joe:?}");
    assert_eq!(joe.runs + joe.missed + joe.skipped, 65);
    assert_eq!(count(&second, "joe").await, joe.runs);
    let moe = get(&second, "moe").await;
    assert_eq!((moe.missed, moe.skipped, count(&second, "moe").await), (0, 0, moe.runs));
    assert_eq!(moe.runs, 65);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_answer_was_lost_counts_once() {
    let tries = Arc::<Mutex<u32>>::default();
    let attempts = tries.clone();
    let world = world(host(move |invocation: ActorInvocation| {
        let number = {
            let mut tries = attempts.lock();
            *tries += 1;
            *tries
        };
        async move {
            if number % 2 == 1 {
                return Err(HostError::Broken { address: "h".into(), reason: "reset".into() });
            }
            Ok(counted(&invocation))
        }
    }))
    .await;
    world.register(vec![definition("joe")]).await.unwrap();
    create(&world, "joe", every(&world, "joe", 20)).await;
    pass(&world, 70).await;
    let schedule = get(&world, "joe").await;
    assert_eq!((schedule.runs, count(&world, "joe").await, *tries.lock()), (3, 3, 6));
}

#[tokio::test(start_paused = true)]
async fn runs_at_an_actor_that_is_no_pool_count_once_whatever_the_schedule_says() {
    for was_pool in [false, true] {
        let tries = Arc::<Mutex<u32>>::default();
        let attempts = tries.clone();
        let ids = Log::default();
        let noted = ids.clone();
        let world = world(host(move |invocation: ActorInvocation| {
            let number = {
                let mut tries = attempts.lock();
                *tries += 1;
                *tries
            };
            let id = invocation.metadata.get(EFFECT_ID).cloned().unwrap_or_default();
            noted.lock().push((invocation.actor.name.clone(), id));
            async move {
                if number == 1 {
                    return Err(HostError::Broken { address: "h".into(), reason: "reset".into() });
                }
                Ok(counted(&invocation))
            }
        }))
        .await;
        let joe = definition("joe");
        let pool = Definition { kind: Kind::Pooled { min: 1, max: 1 }, ..joe.clone() };
        world.register(vec![if was_pool { pool } else { joe.clone() }]).await.unwrap();
        let call = Invocation { pooled: true, ..call("joe", "add") };
        let spec = Spec { overlap: Overlap::Allow, call, ..every(&world, "joe", 10) };
        create(&world, "n", spec).await;
        assert_eq!(get(&world, "n").await.spec.call.pooled, was_pool);
        world.register(vec![joe]).await.unwrap();
        pass(&world, 25).await;
        assert_eq!((count(&world, "joe").await, *tries.lock()), (2, 3));
        // That a run was answered is kept with the state, so it is recognised. Runs of a parallel schedule are sources of their own.
        let seen = world.memory.seen(&id("joe")).await.unwrap();
        assert_eq!(seen.len(), 1 + usize::from(was_pool));
        let ids = ids.lock().clone();
        assert!(ids[0] == ids[1] && ids[1] != ids[2] && !ids[0].1.is_empty(), "{ids:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_loses_no_schedule() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let spec = Spec { catch_up: CatchUp::All, overlap: Overlap::Allow, ..every(&world, "joe", 10) };
    create(&world, "joe", spec).await;
    pass(&world, 15).await;
    world.store.refuse_saves(Some(StoreError::Unavailable("as the test wants it".into())));
    pass(&world, 100).await;
    world.store.refuse_saves(None);
    pass(&world, 130).await;
    let schedule = get(&world, "joe").await;
    assert_eq!((schedule.runs, schedule.missed, schedule.skipped), (24, 0, 0));
    assert_eq!(count(&world, "joe").await, 24);
}

#[tokio::test(start_paused = true)]
async fn updates_at_a_high_rate_are_not_missed() {
    let (host, log) = noting(SCHEDULE_NAME);
    let world = world(host).await;
    world.register(vec![definition("joe"), definition("moe")]).await.unwrap();
    for n in 0..3_000_u64 {
        let spec = every(&world, "joe", 10_000 + n % 977);
        put(&world, "busy", spec, true).await.unwrap();
    }
    put(&world, "busy", every(&world, "moe", 2), true).await.unwrap();
    assert_eq!(stored(&world).await, 1, "an update leaves nothing behind");
    pass(&world, 5).await;
    assert_eq!(
        *log.lock(),
        [("moe".to_owned(), "busy".to_owned()), ("moe".to_owned(), "busy".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_put_again_and_again_runs_all_the_same() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let put = async |seconds, keeps_first| {
        let (name, is_paused, replaces) = ("n".to_owned(), false, true);
        let spec = Box::new(every(&world, "joe", seconds));
        let put = ScheduleAsk::Put { name, spec, is_paused, replaces, keeps_first };
        ask(&world, put).await.unwrap()
    };
    let first = put(10, true).await;
    for _ in 0..4 {
        pass(&world, 6).await;
        assert_eq!(put(10, true).await.spec, first.spec);
    }
    assert_eq!(count(&world, "joe").await, 2);
    // Another period, and a first time that is given, begin anew.
    assert_ne!(put(20, true).await.spec.when, first.spec.when);
    pass(&world, 6).await;
    let again = put(20, false).await;
    assert_eq!(again.next, Some(Timestamp(world.clock.now().0 + 20_000_000)));
}

#[tokio::test(start_paused = true)]
async fn any_name_works_and_deleting_test_leaves_test_1() {
    let (host, log) = noting(SCHEDULE_NAME);
    let world = world(host).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let longest = "ü".repeat(256);
    let names =
        ["a|b", "a@b", "a b", "test", "test-1", "e\u{301}", "\u{202e}\u{1f980}/..", &longest];
    for name in names {
        create(&world, name, every(&world, "joe", 10)).await;
    }
    pass(&world, 12).await;
    for name in names {
        assert_eq!(get(&world, name).await.past.len(), 1, "{name}");
    }
    delete(&world, "test").await;
    let gone = ask(&world, ScheduleAsk::Get(key("test"))).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
    assert_eq!(list(&world, "s").await.len(), names.len() - 1);
    assert!(list(&world, "other").await.is_empty());
    log.lock().clear();
    pass(&world, 10).await;
    let run = |name: &str| log.lock().iter().filter(|(_, run)| run == name).count();
    assert_eq!((run("test"), run("test-1"), run("a|b")), (0, 1, 1));
    for wrong in ["", "a\nb", &"x".repeat(513)] {
        let error = put(&world, wrong, every(&world, "joe", 1), false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    let twice = put(&world, "test-1", every(&world, "joe", 1), false).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_would_never_run_is_refused_and_costs_nothing() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let put = async |spec| put(&world, "n", spec, false).await.unwrap_err();
    let never = Expression::parse("0 0 30 2 *").unwrap();
    let when = When::Cron(never, Zone::find("UTC").unwrap());
    assert_eq!(put(Spec { when, ..every(&world, "joe", 1) }).await.kind(), ErrorKind::Invalid);
    let past = When::At(world.clock.now());
    assert_eq!(
        put(Spec { when: past, ..every(&world, "joe", 1) }).await.kind(),
        ErrorKind::Invalid
    );
    let ended = Spec { end: Some(world.clock.now()), ..every(&world, "joe", 1) };
    assert_eq!(put(ended).await.kind(), ErrorKind::Invalid);
    assert_eq!(put(every(&world, "nobody", 1)).await.kind(), ErrorKind::ActorNotFound);
    assert_eq!(
        (stored(&world).await, world.memory.schedules(None, 1).await.unwrap().items),
        (0, vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_deleted_meanwhile_fails_its_runs_and_stops_no_other() {
    let world = world(counter()).await;
    world.register(["template", "joe"].map(definition).to_vec()).await.unwrap();
    world.spawn("gone", "template").await.unwrap();
    for name in ["gone", "joe"] {
        create(&world, name, every(&world, name, 10)).await;
    }
    pass(&world, 12).await;
    world.mesh.delete("s", "gone").await.unwrap();
    pass(&world, 20).await;
    let gone = get(&world, "gone").await;
    assert_eq!((gone.runs, gone.failed), (3, 2));
    let Outcome::Failed(why) = &gone.past[0].outcome else { panic!("{gone:?}") };
    assert!(why.contains("not found"), "{why}");
    assert_eq!(get(&world, "joe").await.failed, 0);
    // It is there again.
    world.spawn("gone", "template").await.unwrap();
    pass(&world, 10).await;
    assert_eq!(get(&world, "gone").await.past[0].outcome, Outcome::Answered);
}

#[tokio::test(start_paused = true)]
async fn a_new_schedule_of_a_former_name_runs_from_its_first_time_on() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    for round in 1..=3 {
        create(&world, "again", every(&world, "joe", 5)).await;
        pass(&world, 11).await;
        assert_eq!(count(&world, "joe").await, round * 2, "not taken for a run of before");
        delete(&world, "again").await;
    }
    pass(&world, 20).await;
    assert_eq!((count(&world, "joe").await, stored(&world).await), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_schedule_is_paused_resumed_and_run_by_hand() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    create(&world, "n", every(&world, "joe", 10)).await;
    let change = async |change| ask(&world, change).await.unwrap();
    assert!(change(ScheduleAsk::Pause(key("n"))).await.is_paused);
    pass(&world, 35).await;
    assert_eq!((count(&world, "joe").await, stored(&world).await), (0, 0));
    change(ScheduleAsk::Run(key("n"))).await;
    pass(&world, 1).await;
    assert_eq!(count(&world, "joe").await, 1);
    let resumed = change(ScheduleAsk::Resume(key("n"))).await;
    assert_eq!((resumed.missed, resumed.skipped), (0, 0));
    pass(&world, 10).await;
    assert_eq!(count(&world, "joe").await, 2);
}

#[tokio::test(start_paused = true)]
async fn schedules_are_refused_where_delayed_calls_are_switched_off() {
    let settings = Settings { delayed_calls: false, ..Settings::default() };
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let refused = put(&world, "n", every(&world, "joe", 1), false).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_lost_entry_is_found_and_written_again() {
    let world = world(counter()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let memory = world.memory.clone();
    create(&world, "n", Spec { catch_up: CatchUp::All, ..every(&world, "joe", 3_600) }).await;
    assert!(world.mesh.drain(10 * SECOND).await);
    let lost = memory.due(None, 10).await.unwrap().items;
    memory.remove_due(lost.into_iter().map(|entry| entry.key).collect()).await.unwrap();
    let again = world_with(counter(), Settings::default(), memory).await;
    again.clock.advance(Duration::from_hours(2));
    pass(&again, 610).await;
    assert_eq!(count(&again, "joe").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_end_was_lost_in_a_crash_is_made_again_and_counts_once() {
    let calls = Arc::<Mutex<u32>>::default();
    let counted_calls = calls.clone();
    let host = host(move |invocation: ActorInvocation| {
        *counted_calls.lock() += 1;
        async move {
            sleep(5 * SECOND).await;
            Ok(counted(&invocation))
        }
    });
    let memory = MemoryStore::new();
    let first = world_with(host.clone(), Settings::default(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    create(&first, "n", every(&first, "joe", 100)).await;
    pass(&first, 102).await;
    let during = memory.schedule(&key("n")).await.unwrap().unwrap();
    let entries = memory.due(None, 10).await.unwrap().items;
    pass(&first, 5).await;
    assert_eq!((count(&first, "joe").await, *calls.lock()), (1, 1));
    let now = first.clock.now();
    assert!(first.mesh.drain(10 * SECOND).await);
    // As if the proxy had been killed after the commit of the actor.
    memory.put_schedule(during).await.unwrap();
    memory.put_due(entries).await.unwrap();
    let second = world_with(host, Settings::default(), memory).await;
    second.clock.advance(Duration::from_micros(now.0 - second.clock.now().0));
    pass(&second, 10).await;
    let schedule = get(&second, "n").await;
    assert_eq!((schedule.runs, schedule.past.len(), schedule.failed), (1, 1, 0));
    assert_eq!(count(&second, "joe").await, 1, "recognised; made {} times", *calls.lock());
}

#[tokio::test(start_paused = true)]
async fn a_target_forgets_schedules_that_will_not_run_again() {
    let settings = rules(|rules| rules.max_seen = 4);
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    // All schedules are looked through once: a former start may have left runs.
    sleep(660 * SECOND).await;
    for run in 1..=12 {
        let at = Timestamp(world.clock.now().0 + 1_000_000);
        let once = Spec { when: When::At(at), ..every(&world, "joe", 1) };
        create(&world, &format!("once-{run:02}"), once).await;
        pass(&world, 3).await;
        assert_eq!(count(&world, "joe").await, run);
        let seen = world.memory.seen(&id("joe")).await.unwrap().len();
        assert!(seen <= 5, "{seen} after {run} runs");
    }
}
