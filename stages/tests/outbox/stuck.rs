//! Stuck: targets that do not answer keep no effect of another target waiting.

use std::future::pending;
use std::sync::atomic::AtomicBool;

use super::*;

/// What a source asks for with its next action: for each target, how many effects.
type Plan = Arc<Mutex<Vec<(String, u64)>>>;

/// Counts its calls. `away` breaks off, `hung` does not answer, `slow` takes 20 s, as long as they are told to.
fn hindered(plan: &Plan, runs: &Runs, hindered: &Arc<AtomicBool>) -> BoxedHost {
    let (plan, runs, hindered) = (plan.clone(), runs.clone(), hindered.clone());
    host(move |invocation| {
        let (plan, runs) = (plan.clone(), runs.clone());
        let hinders = if hindered.load(Ordering::SeqCst) {
            invocation.actor.name.clone()
        } else {
            String::new()
        };
        async move {
            match hinders.as_str() {
                "away" | "stateless" => return Err(broken()),
                "hung" => pending::<()>().await,
                "slow" => sleep(Duration::from_secs(20)).await,
                _ => {}
            }
            let mut response = emit(&runs, &[], &invocation);
            if invocation.actor.name.starts_with("source") {
                for (target, count) in plan.lock().drain(..) {
                    let effect =
                        |n| Invocation { payload: Payload::Value(any(n)), ..call(&target, "add") };
                    response.workflow.effects.extend((1..=count).map(effect));
                }
            }
            Ok(response)
        }
    })
}

struct Hindered {
    world: World,
    plan: Plan,
    runs: Runs,
    is_on: Arc<AtomicBool>,
}

impl Hindered {
    async fn new(settings: Settings, sources: usize) -> Self {
        let (plan, runs) = (Plan::default(), Runs::default());
        let is_on = Arc::new(AtomicBool::new(true));
        let host = hindered(&plan, &runs, &is_on);
        let world = world_with(host, settings, MemoryStore::new()).await;
        registered(&world, &["away", "hung", "slow", "paused", "good"]).await;
        let stateless = Definition { stateful: false, ..definition("stateless") };
        world.register(vec![stateless]).await.unwrap();
        let sources: Vec<_> = (0..sources).map(|n| definition(&format!("source{n}"))).collect();
        world.register(sources).await.unwrap();
        Self { world, plan, runs, is_on }
    }

    async fn emit(&self, source: usize, effects: &[(&str, u64)]) {
        let effects = effects.iter().map(|(target, count)| ((*target).to_owned(), *count));
        self.plan.lock().extend(effects);
        self.world.add(&format!("source{source}")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn many_effects_for_one_target_keep_none_of_their_source_s_other_targets_waiting() {
    // What is delivered twice to a stateless target runs twice.
    for target in ["away", "hung", "slow", "paused", "stateless"] {
        let hindered = Hindered::new(Settings::default(), 1).await;
        hindered.world.mesh.pause("s", "paused", "a test").await.unwrap();
        for _ in 0..3 {
            hindered.emit(0, &[(target, 100), ("good", 1)]).await;
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(hindered.runs.of("good"), [1, 1, 1], "{target}");
        // One more while they are stuck, and those of the stuck target when it is back: in order, each once.
        hindered.emit(0, &[(target, 1), ("good", 1)]).await;
        sleep(Duration::from_secs(2)).await;
        assert_eq!(hindered.runs.of("good"), [1, 1, 1, 1], "{target}");
        hindered.is_on.store(false, Ordering::SeqCst);
        hindered.world.mesh.resume("s", "paused").await.unwrap();
        sleep(Duration::from_mins(5)).await;
        let all: Vec<u64> = (1..=100).chain(1..=100).chain(1..=100).chain(1..=1).collect();
        assert_eq!(hindered.runs.of(target), all, "{target}");
        if target != "stateless" {
            assert_eq!(count(&hindered.world, target).await, 301);
        }
        assert!(rows(&hindered.world, "source0").await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn many_sources_with_effects_for_one_target_keep_no_other_source_s_waiting() {
    for target in ["away", "hung", "slow", "paused"] {
        let bound = tidegate_pipeline::Bound { events: 64, bytes: 1 << 20 };
        let settings = Settings { effects: bound, ..Settings::default() };
        let hindered = Hindered::new(settings, 101).await;
        hindered.world.mesh.pause("s", "paused", "a test").await.unwrap();
        for source in 0..100 {
            hindered.emit(source, &[(target, 30)]).await;
        }
        for round in 1..=20 {
            hindered.emit(100, &[("good", 1)]).await;
            sleep(Duration::from_secs(10)).await;
            assert_eq!(hindered.runs.of("good").len(), round, "{target}");
        }
        hindered.is_on.store(false, Ordering::SeqCst);
        hindered.world.mesh.resume("s", "paused").await.unwrap();
        sleep(Duration::from_mins(10)).await;
        assert_eq!(count(&hindered.world, target).await, 3_000, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_back_gets_its_effects_though_others_are_still_away() {
    let bound = tidegate_pipeline::Bound { events: 64, bytes: 1 << 20 };
    let settings = Settings { effects: bound, ..Settings::default() };
    let hindered = Hindered::new(settings, 61).await;
    hindered.world.mesh.pause("s", "paused", "a test").await.unwrap();
    for source in 0..60 {
        hindered.emit(source, &[("away", 10), ("paused", 10)]).await;
    }
    sleep(Duration::from_mins(5)).await;
    hindered.world.mesh.resume("s", "paused").await.unwrap();
    sleep(Duration::from_mins(3)).await;
    assert_eq!(count(&hindered.world, "paused").await, 600);
    assert!(hindered.runs.of("away").is_empty());
    hindered.is_on.store(false, Ordering::SeqCst);
    sleep(Duration::from_mins(5)).await;
    assert_eq!(count(&hindered.world, "away").await, 600);
}
