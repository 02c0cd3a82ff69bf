//! Speed: measures the targets in turns, round by round, in a closed loop.

use std::io::Write;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::bench::{Bench, Target, Up};
use super::measure::{Measured, measure};
use super::table::{self, Row};
use crate::client::Client;
use crate::drive::{Drive, Pace};

/// How often metrics are scraped where observing is measured.
const SCRAPE_EVERY: Duration = Duration::from_secs(5);
/// How long a scrape may take.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);

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
    let traced = bench.traced_bytes().await?;
    let measuring = measure(bench, &up, &mut drive, label, Pace::Closed, seconds);
    let mut measured = match (traced, target) {
        (Some(before), Target::Tidegate(_)) => {
            let measured = tokio::select! {
                measured = measuring => measured?,
                failed = scrape(&up) => return Err(failed),
            };
            let came = bench.traced_bytes().await?.is_some_and(|bytes| bytes > before);
            ensure!(came, "{label}: no trace has come");
            measured
        }
        _ => measuring.await?,
    };
    if !warm_up.is_clean() {
        measured
            .report
            .add_wrong(warm_up.complaints.into_iter().map(|text| format!("warm-up: {text}")));
    }
    up.process.kill().await?;
    Ok(measured)
}

/// Scrapes the metrics of a target, as Prometheus does, until it fails.
async fn scrape(up: &Up) -> anyhow::Error {
    let mut client = Client::new(up.process.address(), SCRAPE_LIMIT);
    let mut ticks = interval(SCRAPE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let request =
            client.request(Method::GET, "/metrics".parse().expect("a path"), Bytes::new());
        match client.call(request).await {
            Ok(answer) if answer.status() == StatusCode::OK => {}
            Ok(answer) => return anyhow::anyhow!("a scrape was answered with {}", answer.status()),
            Err(error) => return anyhow::Error::new(error).context("a scrape"),
        }
    }
}
