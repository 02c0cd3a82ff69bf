//! Overload: sends far more calls than Tidegate can handle. Its goodput stays, it sheds the rest with `Retry-After`, and its
//! memory stays flat.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::bench::{Bench, Target, Up};
use super::measure::{Measured, measure};
use super::table;
use crate::drive::{Drive, Pace, Rig};
use crate::procfs;

/// Resident memory of the overloaded target, in MiB, four samples a second.
#[derive(Debug, Default, Serialize)]
struct Memory(Vec<f64>);

/// Returns whether all responses were correct, and all measurements.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<(bool, Value)> {
    let mut clean = true;
    let mut results = Vec::new();
    for durability in bench.args.durability.settings() {
        let (right, value) = overload(bench, Target::Tidegate(durability)).await?;
        clean &= right;
        results.push(value);
    }
    Ok((clean, json!({ "scenario": "overload", "targets": results })))
}

async fn overload(bench: &Bench, target: Target) -> anyhow::Result<(bool, Value)> {
    let args = &bench.args;
    let seconds = Duration::from_secs(args.seconds);
    let up = bench.bring_up(target).await?;

    let mut drive = touched(up.rig.clone()).await?;
    drive.phase("warm-up", Pace::Closed, Duration::from_secs(args.warm_up)).await?;
    let knee = measure(bench, &up, &mut drive, "knee", Pace::Closed, seconds).await?;
    drop(drive);

    let offered = knee.report.per_second * args.factor;
    let mut drive =
        touched(Rig { connections: args.overload_connections, ..up.rig.clone() }).await?;
    let mut memory = Memory::default();
    let flood = tokio::select! {
        flood = measure(bench, &up, &mut drive, "overload", Pace::Open(offered), seconds) => flood?,
        watched = memory.watch(&up) => return Err(watched).context("watching memory"),
    };
    drop(drive);

    let mut drive = touched(up.rig.clone()).await?;
    let after = measure(bench, &up, &mut drive, "afterwards", Pace::Closed, seconds).await?;
    up.process.kill().await?;

    write(bench, &target.name(), offered, &knee, &flood, &after, &memory)?;
    // Only under overload may a call end at its deadline.
    let clean = knee.report.is_clean() && after.report.is_clean() && flood.report.wrong == 0;
    let value = json!({
        "target": target.name(),
        "offered_per_second": offered,
        "knee": knee,
        "overload": flood,
        "afterwards": after,
        "memory_mib": memory,
    });
    Ok((clean, value))
}

async fn touched(rig: Rig) -> anyhow::Result<Drive> {
    let mut drive = Drive::new(rig)?;
    drive.touch().await?;
    Ok(drive)
}

impl Memory {
    /// Takes samples; returns only when a sample fails.
    async fn watch(&mut self, up: &Up) -> anyhow::Error {
        let mut ticks = interval(Duration::from_millis(250));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match resident(up) {
                Ok(now) => self.0.push(now),
                Err(error) => return error,
            }
        }
    }

    /// Returns the memory before the first call, and the maximum of each half. Bounded memory stays flat in the second half.
    fn summary(&self) -> (f64, f64, f64) {
        let (first, second) = self.0.split_at(self.0.len() / 2);
        let most = |half: &[f64]| half.iter().copied().fold(0.0, f64::max);
        (self.0.first().copied().unwrap_or_default(), most(first), most(second))
    }
}

fn resident(up: &Up) -> anyhow::Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "memory stays far below 2^52 bytes")]
    Ok(procfs::resident(up.process.pid())? as f64 / f64::from(1 << 20))
}

fn write(
    bench: &Bench,
    name: &str,
    offered: f64,
    knee: &Measured,
    flood: &Measured,
    after: &Measured,
    memory: &Memory,
) -> std::io::Result<()> {
    let Measured { report, .. } = flood;
    let sent = report.answered + report.shed + report.failed + report.wrong;
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let sent = sent as f64 / report.seconds;
    let of_knee = |per_second: f64| 100.0 * per_second / knee.report.per_second;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{name}")?;
    writeln!(out, "  knee        {}", table::line(knee))?;
    writeln!(
        out,
        "  offered     {offered:.0} calls/s, of which {sent:.0} calls/s could be sent from this machine"
    )?;
    writeln!(
        out,
        "  goodput     {:.0} calls/s, {:.0} % of the knee; once sent {}",
        report.per_second,
        of_knee(report.per_second),
        report.service
    )?;
    if report.shed > 0 {
        writeln!(out, "  shed        {} calls, 503 with Retry-After and a text", report.shed)?;
    } else {
        writeln!(
            out,
            "  shed        nothing: {} connections never filled the admission bound",
            bench.args.overload_connections
        )?;
    }
    writeln!(out, "  other ends  {} failed, {} wrong", report.failed, report.wrong)?;
    for complaint in &report.complaints {
        writeln!(out, "    {complaint}")?;
    }
    let (before, first, second) = memory.summary();
    writeln!(
        out,
        "  memory      {before:.1} MiB before, at most {first:.1} in the first half and {second:.1} in the second"
    )?;
    writeln!(
        out,
        "  afterwards  {}, {:.0} % of the knee",
        table::line(after),
        of_knee(after.report.per_second)
    )
}
