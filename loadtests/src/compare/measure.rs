//! Measure: runs one phase and measures its cost in every process that took part.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::bench::{Bench, Up};
use crate::drive::{Drive, Pace};
use crate::procfs;
use crate::report::Report;

/// One phase of one target. CPU is user and system time of all threads, in µs per successful call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    pub(super) report: Report,
    pub(super) cpu_us: f64,
    pub(super) host_cpu_us: f64,
    pub(super) client_cpu_us: f64,
    /// Average number of cores that unrelated programs kept busy.
    pub(super) others_cores: f64,
    /// Resident memory of the target afterwards, in MiB.
    pub(super) resident_mib: f64,
    /// Actions that the host ran during the phase.
    pub(super) host_calls: u64,
}

/// CPU time that the kernel has charged so far.
#[derive(Debug, Clone, Copy)]
struct Charged {
    target: Duration,
    host: Duration,
    client: Duration,
    busy: Duration,
    at: Instant,
}

impl Charged {
    fn now(bench: &Bench, up: &Up) -> anyhow::Result<Self> {
        Ok(Self {
            target: procfs::cpu(up.process.pid())?,
            host: procfs::cpu(bench.host_pid())?,
            client: procfs::cpu(std::process::id())?,
            busy: procfs::busy()?,
            at: Instant::now(),
        })
    }
}

/// Runs a phase. No call is in flight when the phase begins or ends, so the cost is that of its own calls.
pub(super) async fn measure(
    bench: &Bench,
    up: &Up,
    drive: &mut Drive,
    label: &str,
    pace: Pace,
    duration: Duration,
) -> anyhow::Result<Measured> {
    let calls = bench.host_calls().await?;
    let before = Charged::now(bench, up)?;
    let mut report = drive.phase(label, pace, duration).await?;
    let after = Charged::now(bench, up)?;
    let host_calls = bench.host_calls().await? - calls;
    let may_have_run = report.answered + report.failed + report.wrong;
    if host_calls > may_have_run {
        report.add_wrong([format!(
            "the host ran {host_calls} actions for at most {may_have_run} calls that may have run"
        )]);
    }
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let calls = report.answered.max(1) as f64;
    let target = after.target.saturating_sub(before.target);
    let host = after.host.saturating_sub(before.host);
    let client = after.client.saturating_sub(before.client);
    let busy = after.busy.saturating_sub(before.busy);
    let others = busy.saturating_sub(target + host + client);
    #[expect(clippy::cast_precision_loss, reason = "memory stays far below 2^52 bytes")]
    let resident_mib = procfs::resident(up.process.pid())? as f64 / f64::from(1 << 20);
    Ok(Measured {
        cpu_us: target.as_secs_f64() * 1e6 / calls,
        host_cpu_us: host.as_secs_f64() * 1e6 / calls,
        client_cpu_us: client.as_secs_f64() * 1e6 / calls,
        others_cores: others.as_secs_f64() / (after.at - before.at).as_secs_f64(),
        resident_mib,
        host_calls,
        report,
    })
}
