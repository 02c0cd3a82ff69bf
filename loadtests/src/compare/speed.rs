//! Speed: measures the targets in turns, round by round, in a closed loop.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::bench::{Bench, Target};
use super::measure::{Measured, measure};
use super::table::{self, Row};
use crate::drive::{Drive, Pace};

/// Returns whether all responses were correct, and all measurements.
pub(super) async fn run(bench: &Bench) -> anyhow::Result<(bool, Value)> {
    let mut rows: Vec<Row> = bench.targets(0).into_iter().map(Row::new).collect();
    let mut clean = true;
    for round in 0..bench.args.rounds {
        for target in bench.targets(round) {
            let label = format!("round {}/{} {}", round + 1, bench.args.rounds, target.name());
            let measured = turn(bench, target, &label).await?;
            clean &= measured.report.is_clean();
            let mut out = std::io::stderr().lock();
            writeln!(out, "{label}: {}", table::line(&measured))?;
            for complaint in &measured.report.complaints {
                writeln!(out, "  {complaint}")?;
            }
            if let Some(row) = rows.iter_mut().find(|row| row.target == target) {
                row.rounds.push(measured);
            }
        }
    }
    let mut out = std::io::stdout().lock();
    table::write(&mut out, bench, &rows)?;
    let targets: Vec<_> = rows
        .iter()
        .map(|row| json!({ "target": row.target.name(), "rounds": row.rounds }))
        .collect();
    Ok((
        clean,
        json!({ "scenario": "speed", "file_system": bench.file_system, "targets": targets }),
    ))
}

/// Each turn has a new process and an empty directory, so that it inherits no compaction of another turn.
async fn turn(bench: &Bench, target: Target, label: &str) -> anyhow::Result<Measured> {
    let up = bench.bring_up(target).await?;
    let mut drive = Drive::new(up.rig.clone())?;
    drive.touch().await?;
    let warm_up = Duration::from_secs(bench.args.warm_up);
    let warm_up = drive.phase(&format!("{label}, warm-up"), Pace::Closed, warm_up).await?;
    let seconds = Duration::from_secs(bench.args.seconds);
    let mut measured = measure(bench, &up, &mut drive, label, Pace::Closed, seconds).await?;
    if !warm_up.is_clean() {
        measured
            .report
            .add_wrong(warm_up.complaints.into_iter().map(|text| format!("warm-up: {text}")));
    }
    up.process.kill().await?;
    Ok(measured)
}
