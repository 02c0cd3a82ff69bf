//! Telemetry: the log on stderr, and metrics for Prometheus.

use std::io::IsTerminal;
use std::time::Duration;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::config::{LogSettings, wants_colours};
use crate::log::{self, kinds::KindLimit};
use crate::metrics::{
    self as names, BUILD_INFO, LOG_LINES_DROPPED_TOTAL, LOG_LINES_LEFT_OUT_TOTAL,
};

/// How often the samples of metrics are summed up. This bounds their memory while no scrape comes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Buckets of histograms of time: 50 µs to a minute.
const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Buckets of histograms of bytes: 256 B to 16 MiB.
const BYTES: &[f64] =
    &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];
/// Buckets of histograms of anything else: counts.
const AMOUNTS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0];

/// Starts logging, panics included. Call it once. A call that logs never waits and never fails, whatever happens to stderr.
///
/// # Errors
/// When a log has been started before.
pub fn log(settings: &LogSettings) -> anyhow::Result<()> {
    let colours = std::io::stderr().is_terminal() && wants_colours();
    let filtered = registry().with(log::filter::layer(settings.level)?);
    let bounded = filtered.with(KindLimit::new(settings.lines_per_kind));
    let lines = fmt::layer().with_writer(log::start()?).with_ansi(colours);
    let started = if settings.json {
        bounded.with(lines.json()).try_init()
    } else {
        bounded.with(lines).try_init()
    };
    started.map_err(|error| anyhow::anyhow!(error))?;
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, text, "panic");
    }));
    tidegate_pipeline::before_abort(log::flush);
    Ok(())
}

/// Starts gathering metrics. Call it once, before anything that has metrics is built.
///
/// # Errors
/// When a recorder has been installed before.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets(AMOUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), BYTES)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?;
    let handle = builder.install_recorder()?;
    names::describe();
    names::rare::prepare();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
    Ok(handle)
}

/// Renders all metrics for a scrape.
pub fn render(handle: &PrometheusHandle) -> String {
    counter!(LOG_LINES_DROPPED_TOTAL).absolute(log::dropped());
    counter!(LOG_LINES_LEFT_OUT_TOTAL).absolute(log::kinds::left_out());
    let mut text = handle.render();
    names::process::render(&mut text);
    text
}

/// Keeps the memory of metrics small, until `ended`. Run this as a task.
pub async fn upkeep(handle: PrometheusHandle, ended: CancellationToken) {
    let folding = async {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            handle.run_upkeep();
        }
    };
    ended.run_until_cancelled(folding).await;
}
