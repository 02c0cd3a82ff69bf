//! Pair: two targets side by side, called by turns of a second, so that both see the same moments of a busy machine. Compares
//! what a call costs in CPU.
//!
//! A process is charged for a whole round: what it does after its turn, such as a snapshot, is its own cost, too.

use std::io::Write;
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::args::Scenario;
use super::bench::{Bench, Target, Up};
use super::table::Spread;
use crate::client::Client;
use crate::drive::{Drive, Pace};
use crate::procfs;
use crate::report::Report;

/// One turn.
const TURN: Duration = Duration::from_secs(1);
/// Turns of an observed target between two scrapes of its metrics, as Prometheus makes them every few seconds.
const SCRAPE_EVERY: u64 = 5;
/// How long a scrape may take.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);
/// The side effects of a turn have ended when all that are due have reached the host, and no more come in this time.
const QUIET: Duration = Duration::from_millis(250);
/// How often that is looked at, at most.
const LOOKS: u32 = 240;
/// After so many looks at which none have come, those that are due are missing.
const MISSING: u32 = 20;

/// One target in a round.
#[derive(Debug)]
struct Side {
    target: Target,
    up: Up,
    drive: Drive,
    /// CPU time when the round began.
    charged: Duration,
    /// Calls that counted, and those that may have run.
    answered: u64,
    may_have_run: u64,
    /// Actions that the host ran in the turns of this target.
    ran: u64,
    complaints: Vec<String>,
}

/// What a round found. CPU is user and system time of all threads, in µs per successful call.
#[derive(Debug, Serialize)]
struct Round {
    cpu_us: f64,
    other_cpu_us: f64,
    ratio: f64,
    #[serde(skip)]
    complaints: Vec<String>,
}

/// Returns whether all responses were correct, and all measurements.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<(bool, Value)> {
    let (rounds, seconds) = (bench.args.rounds, bench.args.seconds);
    writeln!(
        std::io::stdout(),
        "{} connections, {} actors, {}-byte state, {rounds} rounds of {seconds} s for each of two, data on {}",
        bench.args.connections,
        bench.args.actors,
        bench.args.state_bytes,
        bench.file_system
    )?;
    let mut clean = true;
    let mut pairs = Vec::new();
    for durability in bench.args.durability.settings() {
        let pair = match bench.args.scenario {
            Scenario::Effects => [Target::Emitting(durability), Target::Tidegate(durability)],
            _ => [Target::Tidegate(durability), Target::Unobserved(durability)],
        };
        let [name, other] = pair.map(Target::name);
        let mut found = Vec::new();
        for number in 0..rounds {
            let label = format!("round {}/{rounds} {name}", number + 1);
            let round = round(bench, pair, number, &label).await?;
            let Round { cpu_us, other_cpu_us, ratio, complaints } = &round;
            let mut err = std::io::stderr().lock();
            writeln!(
                err,
                "{label}: CPU {cpu_us:.1} µs/call, {other} {other_cpu_us:.1}: {ratio:.3}"
            )?;
            for complaint in complaints {
                writeln!(err, "  {complaint}")?;
            }
            clean &= complaints.is_empty();
            found.push(round);
        }
        let ratio = Spread::of(found.iter().map(|round| round.ratio).collect());
        writeln!(std::io::stdout(), "CPU per call, {name} to {other}: {ratio:.3}")?;
        pairs.push(json!({ "of": name, "to": other, "rounds": found }));
    }
    let scenario = bench.args.scenario;
    Ok((clean, json!({ "scenario": scenario, "file_system": bench.file_system, "pairs": pairs })))
}

/// Each round has new processes and empty directories, and starts with the other target.
async fn round(
    bench: &Bench,
    pair: [Target; 2],
    number: u32,
    label: &str,
) -> anyhow::Result<Round> {
    let mut sides = Vec::with_capacity(2);
    let is_reversed = !number.is_multiple_of(2);
    for target in if is_reversed { [pair[1], pair[0]] } else { pair } {
        sides.push(Side::start(bench, target, label).await?);
    }
    let traced = bench.traced_bytes().await?;
    for side in &mut sides {
        side.begin()?;
    }
    for turn in 0..bench.args.seconds {
        for side in &mut sides {
            side.turn(bench, label, turn).await?;
        }
        // ABBA: neither is always the first.
        sides.reverse();
    }
    sides.sort_by_key(|side| side.target != pair[0]);
    let [cpu_us, other_cpu_us] = [sides[0].cost()?, sides[1].cost()?];
    let came = bench.traced_bytes().await?;
    ensure!(traced.is_none() || came > traced, "{label}: no trace has come");
    let mut complaints = Vec::new();
    for side in sides {
        complaints.extend(side.miscount());
        complaints.extend(side.complaints);
        side.up.process.kill().await?;
    }
    Ok(Round { cpu_us, other_cpu_us, ratio: cpu_us / other_cpu_us, complaints })
}

impl Side {
    async fn start(bench: &Bench, target: Target, label: &str) -> anyhow::Result<Self> {
        let up = bench.bring_up(target).await?;
        let drive = Drive::new(up.rig.clone())?;
        let mut side = Self {
            target,
            up,
            drive,
            charged: Duration::ZERO,
            answered: 0,
            may_have_run: 0,
            ran: 0,
            complaints: Vec::new(),
        };
        let warm_up = Duration::from_secs(bench.args.warm_up);
        let before = bench.host_calls().await?;
        side.drive.touch().await?;
        side.call(&format!("{label}, warm-up"), warm_up).await?;
        // No effect of these calls reaches the host in a turn.
        let calls = side.up.rig.actors as u64 + side.answered;
        side.settled(bench, before + calls * side.actions()).await?;
        Ok(side)
    }

    /// What came before does not count.
    fn begin(&mut self) -> anyhow::Result<()> {
        (self.answered, self.may_have_run) = (0, 0);
        self.charged = procfs::cpu(self.up.process.pid())?;
        Ok(())
    }

    /// Ends when all actions of its calls have run.
    async fn turn(&mut self, bench: &Bench, label: &str, number: u64) -> anyhow::Result<()> {
        let (before, answered) = (bench.host_calls().await?, self.answered);
        self.call(label, TURN).await?;
        let due = before + (self.answered - answered) * self.actions();
        self.ran += self.settled(bench, due).await? - before;
        let is_observed = !matches!(self.target, Target::Unobserved(_));
        if is_observed && (number + 1).is_multiple_of(SCRAPE_EVERY) {
            scrape(&self.up).await?;
        }
        Ok(())
    }

    async fn call(&mut self, label: &str, time: Duration) -> anyhow::Result<()> {
        let Report { answered, failed, wrong, complaints, .. } =
            self.drive.phase(label, Pace::Closed, time).await?;
        self.answered += answered;
        self.may_have_run += answered + failed + wrong;
        self.complaints.extend(complaints);
        Ok(())
    }

    /// Actions that the host runs for a call.
    fn actions(&self) -> u64 {
        1 + u64::from(self.up.rig.effects)
    }

    /// Waits until no more actions reach the host: with side effects, until as many have run as are due. Returns how many have run.
    async fn settled(&self, bench: &Bench, due: u64) -> anyhow::Result<u64> {
        let mut calls = bench.host_calls().await?;
        if !self.up.rig.effects {
            return Ok(calls);
        }
        let mut quiet = 0;
        for _ in 0..LOOKS {
            sleep(QUIET).await;
            let now = bench.host_calls().await?;
            quiet = if now == calls { quiet + 1 } else { 0 };
            calls = now;
            if quiet >= if calls < due { MISSING } else { 1 } {
                return Ok(calls);
            }
        }
        bail!("side effects of a turn still reach the host a minute later")
    }

    /// Says so when the host ran more or fewer actions than the calls ask for.
    fn miscount(&self) -> Option<String> {
        let [answered, may_have_run] =
            [self.answered, self.may_have_run].map(|calls| calls * self.actions());
        (!(answered..=may_have_run).contains(&self.ran)).then(|| {
            format!(
                "the host ran {} actions for {}: {answered} were answered, at most {may_have_run} may have run",
                self.ran,
                self.target.name()
            )
        })
    }

    /// CPU of the round, in µs per call.
    fn cost(&self) -> anyhow::Result<f64> {
        let charged = procfs::cpu(self.up.process.pid())?.saturating_sub(self.charged);
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let calls = self.answered.max(1) as f64;
        Ok(charged.as_secs_f64() * 1e6 / calls)
    }
}

/// Scrapes the metrics of a target, as Prometheus does.
async fn scrape(up: &Up) -> anyhow::Result<()> {
    let mut client = Client::new(up.process.address(), SCRAPE_LIMIT);
    let request = client.request(Method::GET, "/metrics".parse()?, Bytes::new());
    let status = client.call(request).await?.status();
    ensure!(status == StatusCode::OK, "a scrape was answered with {status}");
    Ok(())
}
