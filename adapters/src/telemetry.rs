//! Telemetry: the log on stderr, and metrics for Prometheus.

use std::io::IsTerminal;

use metrics::{counter, gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::error;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::config::{LogSettings, wants_colours};
use crate::log::{self, kinds::KindLimit};
use crate::metrics::histograms::{Histograms, WithHistograms};
use crate::metrics::{
    self as names, BUILD_INFO, LOG_LINES_DROPPED_TOTAL, LOG_LINES_LEFT_OUT_TOTAL,
};

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

/// The metrics of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    histograms: Histograms,
    /// Counters and gauges.
    others: PrometheusHandle,
}

impl Metrics {
    /// Starts gathering metrics. Call it once, before anything that has metrics is built.
    ///
    /// # Errors
    /// When a recorder has been installed before.
    pub fn start() -> anyhow::Result<Self> {
        let histograms = Histograms::default();
        let recorder = PrometheusBuilder::new().build_recorder();
        let others = recorder.handle();
        let recorder = WithHistograms { others: recorder, histograms: histograms.clone() };
        metrics::set_global_recorder(recorder)
            .map_err(|_| anyhow::anyhow!("metrics are gathered already"))?;
        names::describe();
        names::rare::prepare();
        gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1);
        Ok(Self { histograms, others })
    }

    /// Renders all metrics for a scrape.
    pub fn render(&self) -> String {
        counter!(LOG_LINES_DROPPED_TOTAL).absolute(log::dropped());
        counter!(LOG_LINES_LEFT_OUT_TOTAL).absolute(log::kinds::left_out());
        let mut text = self.others.render();
        self.histograms.render(&mut text);
        names::process::render(&mut text);
        text
    }
}
