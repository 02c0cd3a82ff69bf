//! Requested checkpoints and restores: durable before they return, in the order of the mailbox, under a new number.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test; it awaits its tasks")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use support::*;
use tidegate_stages::actor::Definition;
use tidegate_stages::error::{Error, ErrorKind};
use tidegate_stages::history::Interval;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::{HostError, StateStore, StoreError};
use tidegate_stages::reply::Deadlines;
use tidegate_stages::rules::{Durability, Revisions};
use tidegate_stages::state::{Checkpoint, Status, Timestamp};
use tidegate_stages::testkit::faulty::SaveFault;
use tidegate_stages::topology::Settings;
use tokio::task::JoinHandle;
use tokio::time::sleep;

fn every() -> Settings {
    rules(|rules| rules.revisions = Revisions::Every)
}

async fn counting(settings: Settings) -> World {
    let world = world_with(counter(), settings, MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world
}

async fn joe(world: &World) -> u64 {
    answered(world.mesh.invoke(call("joe", "get")).await.unwrap())
}

fn kept(checkpoint: &Checkpoint) -> (u64, u64) {
    (checkpoint.revision, number(checkpoint.content.state.as_ref()))
}

fn restore(world: &World, revision: u64) -> JoinHandle<Result<Checkpoint, Error>> {
    let mesh = world.mesh.clone();
    tokio::task::spawn(async move { mesh.restore("s", "joe", revision).await })
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_appends_what_the_history_lacks_and_only_that() {
    let world = counting(Settings::default()).await;
    let empty = world.mesh.checkpoint("s", "joe").await.unwrap();
    assert_eq!((empty.revision, empty.at, empty.content.state), (0, None, None));
    assert_eq!(world.store.saves(), 0);
    world.add("joe").await.unwrap();
    let first = world.mesh.checkpoint("s", "joe").await.unwrap();
    assert_eq!(kept(&first), (1, 1));
    let saves = world.store.saves();
    assert_eq!(world.mesh.checkpoint("s", "joe").await.unwrap(), first, "nothing has changed");
    assert_eq!(world.store.saves(), saves);
    world.add("joe").await.unwrap();
    assert_eq!(kept(&world.mesh.checkpoint("s", "joe").await.unwrap()), (2, 2));
    assert_eq!(history(&world, "joe").await, [1, 2]);
    let stored = world.mesh.revision("s", "joe", 1).await.unwrap();
    assert_eq!((Some(stored.at), stored.content), (first.at, first.content));
}

#[tokio::test(start_paused = true)]
async fn the_memory_s_revision_advances_with_a_checkpoint() {
    let timed = Definition { snapshot_every: Some(Duration::from_secs(1)), ..definition("joe") };
    let world = world(counter()).await;
    world.register(vec![timed]).await.unwrap();
    world.add("joe").await.unwrap();
    assert_eq!(kept(&world.mesh.checkpoint("s", "joe").await.unwrap()), (1, 1));
    world.add("joe").await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(history(&world, "joe").await, [1, 2], "the snapshot took the next number");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_after_an_orderly_end_tells_of_the_revision_that_is_there() {
    let memory = MemoryStore::new();
    let first = world_with(counter(), every(), memory.clone()).await;
    first.register(vec![definition("joe")]).await.unwrap();
    first.add("joe").await.unwrap();
    first.clock.set(Timestamp(2_000_000_000_000));
    assert!(first.mesh.drain(Duration::from_secs(5)).await);
    let written = first.memory.load_revision(&id("joe"), 1).await.unwrap().unwrap();
    let world = world_with(counter(), every(), memory).await;
    let told = world.mesh.checkpoint("s", "joe").await.unwrap();
    assert_eq!((kept(&told), told.at), ((1, 1), Some(written.at)));
    assert!(world.head("joe").await.unwrap().at > written.at);
}

#[tokio::test(start_paused = true)]
async fn a_restore_is_a_new_revision_that_later_calls_see() {
    let world = counting(every()).await;
    for n in 1..=3 {
        assert_eq!(world.add("joe").await.unwrap(), n);
    }
    let restored = world.mesh.restore("s", "joe", 1).await.unwrap();
    assert_eq!(kept(&restored), (4, 1));
    let head = world.head("joe").await.unwrap();
    assert_eq!((head.revision, number(head.content.state.as_ref())), (4, 1));
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(history(&world, "joe").await, [1, 2, 3, 1, 2]);
    // A restore of the current content also appends a revision.
    assert_eq!(kept(&world.mesh.restore("s", "joe", 5).await.unwrap()), (6, 2));
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    let again = world_with(counter(), every(), world.memory).await;
    assert_eq!(again.add("joe").await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_restored_is_refused_and_changes_nothing() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    let stateless = Definition { stateful: false, ..definition("moe") };
    world.register(vec![definition("joe"), stateless]).await.unwrap();
    let saves = world.store.saves();
    let kind = |refused: Result<Checkpoint, Error>| refused.unwrap_err().kind();
    assert_eq!(kind(world.mesh.restore("s", "joe", 7).await), ErrorKind::NotFound);
    assert_eq!(kind(world.mesh.restore("s", "nobody", 1).await), ErrorKind::ActorNotFound);
    assert_eq!(kind(world.mesh.checkpoint("s", "nobody").await), ErrorKind::ActorNotFound);
    assert_eq!(kind(world.mesh.restore("s", "moe", 1).await), ErrorKind::Conflict);
    assert_eq!(kind(world.mesh.checkpoint("s", "moe").await), ErrorKind::Conflict);
    assert_eq!((world.store.saves(), joe(&world).await), (saves, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_is_lost_leaves_the_old_state_and_takes_no_number() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    world.add("joe").await.unwrap();
    let lost = StoreError::Unavailable("as the test wants it".into());
    world.store.fail_next_save(SaveFault::Lose(lost));
    let error = world.mesh.restore("s", "joe", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StoreUnavailable);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(joe(&world).await, 2);
    assert_eq!(history(&world, "joe").await, [1, 2]);
    assert_eq!(kept(&world.mesh.restore("s", "joe", 1).await.unwrap()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_restore_in_doubt_fences_the_actor_and_answers_when_it_is_durable() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    world.add("joe").await.unwrap();
    for _ in 0..3 {
        let unknown = StoreError::Unknown("as the test wants it".into());
        world.store.fail_next_save(SaveFault::WriteAndFail(unknown));
    }
    let in_doubt = restore(&world, 1);
    until_idle().await;
    assert!(!in_doubt.is_finished());
    assert_eq!(world.add("joe").await.unwrap_err().kind(), ErrorKind::Overloaded);
    let refused = world.mesh.restore("s", "joe", 2).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    assert_eq!(world.mesh.checkpoint("s", "joe").await.unwrap_err().kind(), ErrorKind::Overloaded);
    assert_eq!(kept(&in_doubt.await.unwrap().unwrap()), (3, 1));
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(history(&world, "joe").await, [1, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_under_a_later_owner_says_where_to_go() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    world.store.fail_next_save(SaveFault::Lose(StoreError::Fenced(7)));
    let error = world.mesh.restore("s", "joe", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("runs elsewhere, under epoch 7"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_restore_has_its_turn_among_the_calls() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    world.store.hold_saves();
    let before = world.start(call("joe", "add"));
    until_idle().await;
    let restoring = restore(&world, 1);
    until_idle().await;
    let behind = world.start(call("joe", "add"));
    until_idle().await;
    assert!(!restoring.is_finished(), "it is not durable yet");
    world.store.release_saves();
    assert_eq!(answered(before.await.unwrap().unwrap()), 2);
    assert_eq!(kept(&restoring.await.unwrap().unwrap()), (3, 1));
    assert_eq!(answered(behind.await.unwrap().unwrap()), 2, "it ran on what was restored");
    assert_eq!(history(&world, "joe").await, [1, 2, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_nobody_waits_for_any_more_is_not_started() {
    let slow = host(|invocation| async move {
        if invocation.action == "slow" {
            sleep(Duration::from_secs(20)).await;
        }
        Ok(counted(&invocation))
    });
    let world = world_with(slow, every(), MemoryStore::new()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    world.add("joe").await.unwrap();
    let running = world.start(call("joe", "slow"));
    until_idle().await;
    let late = world.mesh.restore("s", "joe", 1).await.unwrap_err();
    assert!(matches!(late, Error::NotStarted(..)), "{late}");
    let gone = restore(&world, 1);
    until_idle().await;
    gone.abort();
    running.await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(history(&world, "joe").await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_needs_no_host_and_the_init_action_runs_before_the_first_call() {
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_up = up.clone();
    let flaky = host(move |invocation| {
        let is_up = is_up.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            if !is_up {
                return Err(HostError::Connect { address: "h".into(), reason: "refused".into() });
            }
            Ok(counted(&invocation))
        }
    });
    let memory = MemoryStore::new();
    let with_init =
        || Definition { actions: vec!["init".into(), "add".into()], ..definition("joe") };
    let first = world_with(flaky.clone(), every(), memory.clone()).await;
    first.register(vec![with_init()]).await.unwrap();
    assert_eq!(first.add("joe").await.unwrap(), 2, "one of them was its init action's");
    assert!(first.mesh.drain(Duration::from_secs(5)).await);
    up.store(false, std::sync::atomic::Ordering::SeqCst);
    let world = world_with(flaky, every(), memory).await;
    assert_eq!(kept(&world.mesh.restore("s", "joe", 1).await.unwrap()), (3, 1));
    assert_eq!(kept(&world.mesh.checkpoint("s", "joe").await.unwrap()), (3, 1));
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.add("joe").await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn with_snapshots_only_a_checkpoint_is_durable_when_it_answers() {
    let world = counting(rules(|rules| rules.durability = Durability::Snapshot)).await;
    world.add("joe").await.unwrap();
    assert_eq!(world.head("joe").await, None);
    assert_eq!(kept(&world.mesh.checkpoint("s", "joe").await.unwrap()), (1, 1));
    assert_eq!(world.head("joe").await.unwrap().revision, 1);
    world.add("joe").await.unwrap();
    assert_eq!(kept(&world.mesh.restore("s", "joe", 1).await.unwrap()), (2, 1));
    assert_eq!(world.head("joe").await.unwrap().revision, 2);
}

#[tokio::test(start_paused = true)]
async fn the_past_is_read_without_waking_the_actor() {
    let world = counting(every()).await;
    for n in 1..=3 {
        world.clock.set(Timestamp(n * 1_000_000_000_000));
        world.add("joe").await.unwrap();
    }
    assert!(world.mesh.drain(Duration::from_secs(5)).await);
    let again = world_with(counter(), every(), world.memory).await;
    again.clock.set(Timestamp(9_000_000_000_000));
    let mesh = &again.mesh;
    let page = mesh.revisions("s", "joe", Interval::ALL, 2).await.unwrap();
    assert_eq!((page.items.len(), page.more), (2, true));
    let then = mesh.state_at("s", "joe", page.items[1].at).await.unwrap();
    assert_eq!((then.revision, then.exact), (page.items[1].clone(), true));
    let latest = mesh.latest("s", "joe").await.unwrap();
    assert_eq!((latest.revision, latest.status), (3, Status::Deactivated));
    for missing in [
        mesh.revision("s", "joe", 4).await.unwrap_err(),
        mesh.state_at("s", "joe", Timestamp(1)).await.unwrap_err(),
    ] {
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");
    }
    for missing in [
        mesh.revision("s", "nobody", 1).await.unwrap_err(),
        mesh.latest("s", "nobody").await.unwrap_err(),
        mesh.revisions("s", "nobody", Interval::ALL, 1).await.unwrap_err(),
    ] {
        assert_eq!(missing.kind(), ErrorKind::ActorNotFound, "{missing}");
    }
    assert_eq!((again.store.loads(), again.store.saves()), (1, 0), "latest alone loads the head");
}

#[tokio::test(start_paused = true)]
async fn while_a_write_is_under_way_the_newest_is_not_exact() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    let now = Timestamp(2_000_000_000_000);
    world.clock.set(now);
    let asked = Timestamp(now.0 - 1);
    assert!(world.mesh.state_at("s", "joe", asked).await.unwrap().exact);
    world.store.hold_saves();
    let running = world.start(call("joe", "add"));
    until_idle().await;
    assert!(!world.mesh.state_at("s", "joe", asked).await.unwrap().exact);
    world.store.release_saves();
    running.await.unwrap().unwrap();
    assert!(world.mesh.state_at("s", "joe", asked).await.unwrap().exact);
}

#[tokio::test(start_paused = true)]
async fn a_history_that_cannot_be_read_ends_the_question_and_holds_no_actor() {
    let world = counting(every()).await;
    world.add("joe").await.unwrap();
    world.store.hang_loads(true);
    let restoring = world.mesh.restore("s", "joe", 1).await.unwrap_err();
    assert!(matches!(restoring, Error::NotStarted(..)), "{restoring}");
    let asking = world.mesh.revision("s", "joe", 1).await.unwrap_err();
    assert_eq!(asking.kind(), ErrorKind::StoreUnavailable);
    world.store.hang_loads(false);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(world.add("joe").await.unwrap(), 2);
    assert_eq!(history(&world, "joe").await, [1, 2], "what was given up is not done later");
}

#[tokio::test(start_paused = true)]
async fn a_restore_given_up_while_the_history_was_read_is_not_started() {
    let deadlines = Deadlines { start: Duration::from_secs(30), ..Deadlines::default() };
    let world = counting(Settings { deadlines, ..every() }).await;
    world.add("joe").await.unwrap();
    world.store.hang_loads(true);
    let gone = restore(&world, 1);
    until_idle().await;
    gone.abort();
    world.store.hang_loads(false);
    // The hanging read ends after ten seconds; its retry succeeds.
    sleep(Duration::from_secs(40)).await;
    assert_eq!(history(&world, "joe").await, [1]);
    assert_eq!(world.add("joe").await.unwrap(), 2);
}

/// What happens to an actor.
#[derive(Debug, Clone, Copy)]
enum Step {
    Add,
    Checkpoint,
    Restore(u64),
    Lose,
    Doubt,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Add),
        2 => Just(Step::Checkpoint),
        3 => (1..8u64).prop_map(Step::Restore),
        2 => Just(Step::Lose),
        2 => Just(Step::Doubt),
        1 => Just(Step::Restart),
    ]
}

/// Checks acknowledged numbers and times, and the content under each number.
async fn run(steps: Vec<Step>) {
    let memory = MemoryStore::new();
    let mut world = world_with(counter(), every(), memory.clone()).await;
    world.register(vec![definition("joe")]).await.unwrap();
    let (mut state, mut newest) = (0, 0);
    let mut told = std::collections::BTreeMap::new();
    for step in steps {
        // After a lost commit the store breaker refuses calls for a while.
        sleep(Duration::from_secs(5)).await;
        let before = newest;
        let answer = match step {
            Step::Add => {
                if let Ok(added) = world.add("joe").await {
                    assert_eq!(added, state + 1);
                    state = added;
                    newest = world.head("joe").await.unwrap().revision;
                    told.insert(newest, state);
                }
                continue;
            }
            Step::Checkpoint => world.mesh.checkpoint("s", "joe").await,
            Step::Restore(number) => world.mesh.restore("s", "joe", number).await,
            Step::Lose => {
                let lost = StoreError::Unavailable("as the test wants it".into());
                world.store.fail_next_save(SaveFault::Lose(lost));
                continue;
            }
            Step::Doubt => {
                let unknown = StoreError::Unknown("as the test wants it".into());
                world.store.fail_next_save(SaveFault::WriteAndFail(unknown));
                continue;
            }
            Step::Restart => {
                world = world_with(counter(), every(), memory.clone()).await;
                continue;
            }
        };
        let Ok(checkpoint) = answer else { continue };
        let (revision, count) = kept(&checkpoint);
        if let Step::Restore(number) = step {
            assert!(revision > before, "{revision} after {before}");
            assert_eq!(Some(&count), told.get(&number));
        } else {
            assert!(revision >= before);
            assert_eq!(count, state);
        }
        (state, newest) = (count, revision);
        if revision > 0 {
            assert_eq!(*told.entry(revision).or_insert(count), count, "one number, two contents");
        }
    }
    let all = memory.load_by_interval(&id("joe"), Interval::ALL, 1000).await.unwrap().items;
    assert!(all.windows(2).all(|two| two[0].revision < two[1].revision && two[0].at < two[1].at));
    for revision in all {
        let count = number(revision.content.state.as_ref());
        if let Some(told) = told.get(&revision.revision) {
            assert_eq!(count, *told, "revision {}", revision.revision);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn numbers_never_repeat_or_go_back(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}
