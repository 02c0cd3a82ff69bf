//! Simulation: hundreds of seeds, each of which decides calls, effects, due work, and faults of the network, the machines and
//! the store. Each seed runs twice, in processes of their own, and both must write the same trace, byte by byte.
//!
//! What no seed reaches is taken out: [`FIXED_RANDOM`] gives the process random numbers that are the same each time, and so
//! does tokio's choice between ready branches and the jitter of retries.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_stages::testkit::recognition;
use tokio::time::sleep;

use crate::actors::{LATER, SUBSCRIBERS, TARGET, TICKING};
use crate::caller::Caller;
use crate::faults;
use crate::millis;
use crate::sabotage;
use crate::scene::Scene;
use crate::schedules::{self, SCHEDULED};

/// Seeds that are run unless [`SEEDS`] says how many.
const FEW: u64 = 300;
/// How many seeds, from 0 on.
const SEEDS: &str = "TIDEGATE_SIMULATION_SEEDS";
/// One seed, alone.
const SEED: &str = "TIDEGATE_SIMULATION_SEED";
/// Whether a run shows the proxy's log.
const SEED_LOG: &str = "TIDEGATE_SIMULATION_LOG";
/// Where a run writes its trace.
const TRACE: &str = "TIDEGATE_SIMULATION_TRACE";
/// What is made wrong, so that a run has to fail.
const PLANTED: &str = "TIDEGATE_SIMULATION_PLANTED";

const FIXED_RANDOM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/fixed_random.c");

const SOURCES: [&str; 3] = ["source-a", "source-b", "source-brief"];
const ACTORS: [&str; 9] = [
    "source-a",
    "source-b",
    "source-brief",
    TARGET,
    LATER,
    SUBSCRIBERS[0],
    SUBSCRIBERS[1],
    TICKING,
    SCHEDULED,
];
/// Of so many seeds nothing fails in one.
const CALM: u64 = 10;
/// How long there are faults.
const FAULTS: Duration = millis(2_500);
/// Connections of each client.
const CONNECTIONS: u64 = 3;

#[allow(clippy::disallowed_methods, reason = "it says what to simulate")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[test]
fn each_seed_keeps_all_promises_and_is_the_same_byte_by_byte_when_run_again() {
    let one = setting(SEED).map(|seed| seed.parse::<u64>().expect("a number"));
    let many = setting(SEEDS).map_or(FEW, |many| many.parse().expect("a number"));
    let seeds = one.map_or(0..many, |seed| seed..seed + 1);
    let (next, ends) = (AtomicU64::new(seeds.start), Mutex::new(BTreeMap::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed))
                    && seed < seeds.end
                {
                    let trace = twice(seed, "").unwrap_or_else(|wrong| {
                        // Another worker need not begin what nobody will look at.
                        next.store(seeds.end, Ordering::Relaxed);
                        panic!("{wrong}\nalone: {SEED}={seed} ./test network");
                    });
                    count_ends(&trace, &mut ends.lock());
                }
            });
        }
    });
    let ends = ends.into_inner();
    eprintln!("{} seeds: {ends:?}", seeds.end - seeds.start);
    // Faults that end no call would show nothing.
    let kinds = [
        "Acknowledged",
        "Accepted",
        "Published",
        "Refused(502",
        "Refused(503",
        "Refused(504",
        "Lost",
        "Abandoned",
    ];
    for end in kinds.into_iter().filter(|_| seeds.end - seeds.start >= FEW) {
        let count = ends.get(end).copied().unwrap_or(0);
        assert!(count > 10, "hardly a call ended so: {end}");
    }
}

/// Each of these must be found, or the simulation shows nothing.
#[test]
fn what_is_made_wrong_is_found() {
    for (planted, complaint) in [
        ("effects are not recognised", "target counted"),
        ("effects are not recognised", "scheduled counted runs"),
        ("due work is lost", "kept for later"),
        ("a run is lost", "has not ended well"),
        ("a schedule is lost", "schedule skip is lost"),
        ("a head goes back", "(I4)"),
        ("a head is lost", "acknowledged"),
    ] {
        let is_found =
            |seed| run(seed, "planted", planted).is_err_and(|wrong| wrong.contains(complaint));
        assert!((0..20).any(is_found), "20 seeds kept all promises though {planted}");
    }
    let wrong = twice(0, "runs differ").unwrap_err();
    assert!(wrong.contains("is not the same"), "{wrong}");
}

fn count_ends(trace: &str, ends: &mut BTreeMap<String, u64>) {
    for line in trace.lines() {
        let Some((_, end)) = line.split_once(" ends: ") else { continue };
        let kind =
            if end.starts_with("Refused") { end.split(',').next() } else { end.split('(').next() };
        *ends.entry(kind.expect("a first part").into()).or_default() += 1;
    }
}

/// Runs a seed twice. Returns its trace, or what is wrong.
fn twice(seed: u64, planted: &str) -> Result<String, String> {
    let (first, second) = (run(seed, "first", planted)?, run(seed, "second", planted)?);
    if first == second {
        return Ok(first);
    }
    let mut lines = first.lines().zip(second.lines());
    let differ = lines.position(|(one, other)| one != other).unwrap_or(0);
    let around = |trace: &str| {
        let lines = trace.lines().skip(differ.saturating_sub(3)).take(6);
        lines.collect::<Vec<_>>().join("\n")
    };
    let (one, other) = (around(&first), around(&second));
    Err(format!("seed {seed} is not the same when run again:\n{one}\n---\n{other}"))
}

/// Runs a seed in a process of its own. Returns its trace, or what is wrong.
fn run(seed: u64, pass: &str, planted: &str) -> Result<String, String> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let planted_name = planted.replace(' ', "-");
    let trace = directory.join(format!("{}-{seed}-{pass}{planted_name}.trace", std::process::id()));
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "simulation::one_seed", "--ignored", "--nocapture"])
        .env(SEED, seed.to_string())
        .env(TRACE, &trace)
        .env(PLANTED, planted)
        .env("LD_PRELOAD", fixed_random())
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("this program starts");
    let written = std::fs::read_to_string(&trace).unwrap_or_default();
    // It may not have come to that.
    drop(std::fs::remove_file(&trace));
    if output.status.success() && !written.is_empty() {
        return Ok(written);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("seed {seed} fails: {said}"))
}

/// Builds the library that is loaded into the runs.
fn fixed_random() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fixed_random.so");
        let building = library.with_extension(std::process::id().to_string());
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&building)
            .args([FIXED_RANDOM, "-ldl"])
            .status();
        assert!(built.expect("a C compiler").success(), "{FIXED_RANDOM} is built");
        std::fs::rename(&building, &library).expect("in one directory");
        library
    })
}

#[test]
#[ignore = "started by the tests above, in a process of its own for each seed"]
fn one_seed() {
    let seed = setting(SEED).expect("a seed").parse().expect("a number");
    let planted = setting(PLANTED).unwrap_or_default();
    if setting(SEED_LOG).is_some() {
        tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    }
    let (trace, found) = simulate(seed, &planted);
    std::fs::write(setting(TRACE).expect("a file"), trace).expect("a trace is written");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Runs a simulation. Returns its trace, and what is wrong.
fn simulate(seed: u64, planted: &str) -> (String, Vec<String>) {
    let mut scene = Scene::new(seed, &ACTORS);
    let mut random = StdRng::seed_from_u64(seed);
    let until = scene.now() + FAULTS;
    for client in ["sdk-1", "sdk-2"] {
        client_of(&mut scene, client, &mut random, until);
    }
    schedules::operator(&mut scene, &mut random);
    let mut schedule = faults::random_with_store(&mut random, scene.now(), until);
    if seed % CALM == CALM - 1 {
        schedule.clear();
        scene.facts().learn(|known| known.nothing_fails = true);
    }
    match planted {
        "" => {}
        "effects are not recognised" => recognition::switch_off(),
        "runs differ" => scene.facts().note(&std::process::id().to_string()),
        planted => {
            let (planted, disk) = (planted.to_owned(), scene.disk().clone());
            scene.machine("saboteur", async move {
                sabotage::make_wrong(&planted, &disk, FAULTS).await;
            });
        }
    }
    scene.run(&schedule);
    if let Some(store) = scene.facts().store() {
        store.forget_faults();
    }
    let facts = scene.facts().clone();
    let found = scene.complaints();
    (facts.read(|known| known.trace.clone()), found)
}

/// Adds a client that calls sources, has `later` called later and publishes, some of it without patience, until some time.
fn client_of(scene: &mut Scene, name: &str, random: &mut StdRng, until: Duration) {
    let facts = scene.facts().clone();
    let seeds: Vec<u64> = (0..CONNECTIONS).map(|_| random.random()).collect();
    scene.machine(name, async move {
        let callers = seeds.into_iter().map(async |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let mut caller = Caller::new(&facts);
            while turmoil::sim_elapsed().expect("inside the simulation") < until {
                let actor = SOURCES[random.random_range(0..SOURCES.len())];
                let takes = millis(random.random_range(0..50));
                match random.random_range(0..20) {
                    0..3 => {
                        let patience = millis(random.random_range(0..120));
                        caller.add_within(actor, takes, patience).await;
                    }
                    3..7 => {
                        // Longer than a link is held: what comes in after its time is a call for now.
                        let after = millis(random.random_range(600..2_000));
                        caller.add_later(LATER, after).await;
                    }
                    7..9 => drop(caller.publish().await),
                    _ => {
                        caller.add(actor, takes).await;
                    }
                }
                sleep(millis(random.random_range(0..40))).await;
            }
        });
        join_all(callers).await;
    });
}
