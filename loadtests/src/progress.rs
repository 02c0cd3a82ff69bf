//! Progress: one line on standard error; redrawn on a terminal, repeated every few seconds in a log.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::recorder::Recorder;

/// Shows the progress of a phase until dropped. The caller selects between this future and the phase.
pub async fn show(label: &str, recorder: &Recorder, duration: Duration) -> ! {
    let terminal = io::stderr().is_terminal();
    let mut ticks = interval(Duration::from_secs(if terminal { 1 } else { 5 }));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let (started, mut before) = (Instant::now(), (0, Instant::now()));
    loop {
        ticks.tick().await;
        let Ok(tally) = recorder.total() else { continue };
        let (answered, now) = (tally.answered.len(), Instant::now());
        let seconds = now.duration_since(before.1).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let rate = (answered - before.0) as f64 / seconds.max(f64::EPSILON);
        let latency = |quantile| Duration::from_micros(tally.answered.value_at_quantile(quantile));
        let line = format!(
            "{label}: {:>3.0}/{:.0} s  {rate:>7.0} calls/s  p50 {:.2?}  p99 {:.2?}  shed {}  failed {}  wrong {}",
            started.elapsed().as_secs_f64(),
            duration.as_secs_f64(),
            latency(0.5),
            latency(0.99),
            tally.shed.len(),
            tally.failed,
            tally.wrong
        );
        say(terminal, &line);
        before = (answered, now);
    }
}

/// Removes a redrawn line.
pub fn clear() {
    if io::stderr().is_terminal() {
        say(true, "");
    }
}

fn say(terminal: bool, line: &str) {
    let mut out = io::stderr().lock();
    // A failure to print does not stop a measurement.
    if terminal {
        write!(out, "\r\x1b[K{line}").ok()
    } else {
        writeln!(out, "{line}").ok()
    };
    out.flush().ok();
}
