//! Report: the result of a phase, for people and for programs.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::recorder::Tally;

/// Latencies in ms.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// One phase.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How long calls were made, in seconds.
    pub seconds: f64,
    /// Calls that were due in an open loop; `None` in a closed loop.
    pub due: Option<u64>,
    /// Due calls that were not sent, because no connection was free.
    pub unsent: u64,
    /// Calls that counted.
    pub answered: u64,
    /// Calls that were shed.
    pub shed: u64,
    /// Calls that failed otherwise.
    pub failed: u64,
    /// Responses that cannot be correct.
    pub wrong: u64,
    /// Calls that counted, per second.
    pub per_second: f64,
    /// Latency of calls that counted: in an open loop from when they were due, else from sending.
    pub latency: Latency,
    /// Latency of calls that counted, from sending; in an open loop.
    pub service: Latency,
    /// Latency of calls that were shed.
    pub shed_latency: Latency,
    /// How late calls were sent, due to this program or because all connections were busy.
    pub lateness: Latency,
    /// The first complaints.
    pub complaints: Vec<String>,
}

impl Report {
    /// Summarises a phase.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn new(tally: Tally, elapsed: Duration, due: Option<u64>, unsent: u64) -> Self {
        let seconds = elapsed.as_secs_f64();
        Self {
            seconds,
            due,
            unsent,
            answered: tally.answered.len(),
            shed: tally.shed.len(),
            failed: tally.failed,
            wrong: tally.wrong,
            per_second: tally.answered.len() as f64 / seconds.max(f64::EPSILON),
            latency: Latency::of(&tally.answered),
            service: Latency::of(&tally.service),
            shed_latency: Latency::of(&tally.shed),
            lateness: Latency::of(&tally.lateness),
            complaints: tally.examples,
        }
    }

    /// Adds errors that only the ledger's audit found.
    pub fn add_wrong(&mut self, wrong: impl IntoIterator<Item = String>) {
        for text in wrong {
            self.wrong += 1;
            if self.complaints.len() < 20 {
                self.complaints.push(text);
            }
        }
    }

    /// True when every call succeeded correctly or was shed.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.wrong == 0
    }
}

impl Latency {
    #[expect(clippy::cast_precision_loss, reason = "at most two minutes in µs")]
    fn of(histogram: &Histogram<u32>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = self;
        write!(
            f,
            "p50 {p50_ms:.2}  p90 {p90_ms:.2}  p99 {p99_ms:.2}  p99.9 {p999_ms:.2}  max {max_ms:.2} ms"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, answered, shed, failed, wrong, per_second, .. } = self;
        writeln!(
            f,
            "{per_second:.0} calls/s over {seconds:.1} s: {answered} answered, {shed} shed, {failed} failed, {wrong} wrong"
        )?;
        writeln!(f, "latency   {}", self.latency)?;
        if *shed > 0 {
            writeln!(f, "shed      {}", self.shed_latency)?;
        }
        if let Some(due) = self.due {
            writeln!(f, "sent late {}", self.lateness)?;
            writeln!(f, "from then {}", self.service)?;
            if self.unsent > 0 {
                writeln!(
                    f,
                    "{} of {due} calls were due but never sent: target or generator did not keep up, latencies are lower bounds",
                    self.unsent
                )?;
            }
        }
        for complaint in &self.complaints {
            writeln!(f, "  {complaint}")?;
        }
        Ok(())
    }
}
