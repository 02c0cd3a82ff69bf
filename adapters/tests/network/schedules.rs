//! Schedules: a client that makes some, and what must hold for them in the end.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;
use tidegate_stages::memory::MemoryStore;
use tidegate_stages::ports::ScheduleStore;
use tidegate_stages::schedules::{Schedule, ScheduleKey, When};
use tokio::time::sleep;

use crate::call::{CallId, Kind, payload};
use crate::caller::Caller;
use crate::facts::{Facts, Known};
use crate::millis;
use crate::scene::Scene;
use crate::support::counter::{ADD, SYSTEM};

/// The actor that all of them call.
pub(crate) const SCHEDULED: &str = "scheduled";
/// Their names, which are their overlap policies.
const SCHEDULES: [&str; 3] = ["skip", "queue_one", "allow"];
const PERIOD: Duration = Duration::from_secs(1);
const PATH: &str = "/api/v1/system/counting/schedules";

/// Adds a client that makes the schedules, and begins a run of each besides those of its times.
pub(crate) fn operator(scene: &mut Scene, random: &mut StdRng) {
    let facts = scene.facts().clone();
    for (which, name) in SCHEDULES.into_iter().enumerate() {
        let [first, lasts, takes, run] =
            [(700..1_500, 1), (2_000..4_000, 1), (3..150, 2), (100..2_000, 1)]
                .map(|(range, times)| millis(random.random_range(range) * times));
        let (facts, mut caller) = (facts.clone(), Caller::new(&facts));
        scene.machine(&format!("operator-{name}"), async move {
            create(&mut caller, (which, name), (first, lasts, takes)).await;
            sleep(run).await;
            let answer = caller.post_json(&format!("{PATH}/{name}/run"), "").await;
            facts.note(&format!("a run of {name} is begun: {answer:?}"));
            facts.learn(|known| {
                let begun = known.begun.entry(which).or_default();
                match answer {
                    Some(200) => begun.0 += 1,
                    // There is one already: nothing was done.
                    Some(409) => {}
                    _ => begun.1 += 1,
                }
            });
        });
    }
}

/// Creates a schedule; again, until it is there.
async fn create(
    caller: &mut Caller,
    (which, name): (usize, &str),
    (first, lasts, takes): (Duration, Duration, Duration),
) {
    let first = turmoil::since_epoch().expect("inside the simulation") + first;
    let call = payload(CallId::of(Kind::Run, which, 0), takes);
    let spec = json!({
        "name": name, "actor": SCHEDULED, "action": ADD, "overlap": name, "catch_up": "all",
        "payload": { "type_url": call.type_url, "value": STANDARD.encode(&call.value) },
        "every_ms": PERIOD.as_millis(),
        "first": first.as_millis().to_string(), "end": (first + lasts).as_millis().to_string(),
    });
    while !matches!(caller.post_json(PATH, &spec.to_string()).await, Some(200 | 409)) {
        sleep(millis(50)).await;
    }
}

/// What is wrong with the schedules that a store has, once all is over.
pub(crate) fn complaints(disk: &MemoryStore, facts: &Facts) -> Vec<String> {
    facts.read(|known| {
        let begun = known.begun.iter();
        begun.flat_map(|(which, begun)| of_schedule(disk, known, *which, *begun)).collect()
    })
}

/// Each of its times came to one run or is counted, and each run counts once, in order.
fn of_schedule(
    disk: &MemoryStore,
    known: &Known,
    which: usize,
    (begun, unknown): (u64, u64),
) -> Vec<String> {
    let name = SCHEDULES[which];
    let key = ScheduleKey { system: SYSTEM.into(), name: name.into() };
    let row = disk.schedule(&key).now_or_never().expect("in memory").expect("it is read");
    let Some(schedule) = row.and_then(Schedule::decode) else {
        return vec![format!("schedule {name} is lost")];
    };
    let mut found = Vec::new();
    let times = times(&schedule);
    let counted = schedule.runs + schedule.skipped + schedule.missed;
    if !(times + begun..=times + begun + unknown).contains(&counted) {
        found.push(format!("{name}: {times} times and {begun} to {unknown} more: {schedule:?}"));
    }
    if schedule.failed > 0 || !schedule.open.is_empty() || schedule.wake.is_some() {
        found.push(format!("{name}: it has not ended well: {schedule:?}"));
    }
    let state = known.states.get(SCHEDULED).map_or(&[][..], |state| state);
    let is_own = |id: &&CallId| id.kind() == Kind::Run && id.which() == which;
    let runs: Vec<_> = state.iter().filter(is_own).map(|id| u64::from(id.number())).collect();
    if runs != (1..=schedule.runs).collect::<Vec<_>>() {
        found.push(format!("{SCHEDULED} counted runs {runs:?} of {}, {name}", schedule.runs));
    }
    if known.nothing_fails && schedule.missed > 0 {
        found.push(format!("{name}: {} missed though nothing failed", schedule.missed));
    }
    found
}

/// How many times it has.
fn times(schedule: &Schedule) -> u64 {
    let When::Every { first, .. } = schedule.spec.when else { panic!("all have a period") };
    let end = schedule.spec.end.expect("all have an end");
    let period = usize::try_from(PERIOD.as_micros()).expect("short");
    let times = (first.0..=end.0).step_by(period);
    times.filter(|at| *at > schedule.created_at.0).count().try_into().expect("few")
}
