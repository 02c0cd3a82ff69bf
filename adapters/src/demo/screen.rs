//! Screen: what the demo says, with a line redrawn in place on a terminal and plain lines anywhere else.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::tally::{Latency, Tally};

/// How wide a terminal is taken to be when it does not say.
const COLUMNS: usize = 80;
/// How many actors the live line names.
const NAMED: usize = 12;

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    /// Whether the cursor stands behind a live line.
    live: bool,
}

impl Screen {
    /// Standard output as it is.
    pub(super) fn new() -> Screen {
        Screen { is_terminal: std::io::stdout().is_terminal(), live: false }
    }

    /// How often a live line is worth showing.
    pub(super) fn period(&self) -> Duration {
        if self.is_terminal { Duration::from_millis(250) } else { Duration::from_secs(5) }
    }

    /// Says a line that stays.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.finish_line()?;
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    }

    /// Shows a line that the next one replaces, or one more line where there is no terminal.
    pub(super) fn show(&mut self, line: &str) -> anyhow::Result<()> {
        if !self.is_terminal {
            return self.say(line);
        }
        // A line that wraps cannot be redrawn, hence the cut.
        let line: String = line.chars().take(columns().saturating_sub(1)).collect();
        let mut stdout = std::io::stdout();
        write!(stdout, "\r\x1b[2K{line}")?;
        stdout.flush()?;
        self.live = true;
        Ok(())
    }

    /// Leaves the live line as it is and goes on below it.
    pub(super) fn finish_line(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.live) {
            writeln!(std::io::stdout())?;
        }
        Ok(())
    }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// The live line: time, rate and latency of the last stretch, and each actor's count.
pub(super) fn live_line(at: Duration, stretch: Duration, lately: Latency, tally: &Tally) -> String {
    #[allow(clippy::cast_precision_loss, reason = "a rate for reading")]
    let rate = lately.calls as f64 / stretch.as_secs_f64().max(0.001);
    let counts = tally
        .actors
        .iter()
        .take(NAMED)
        .map(|actor| format!("{} {}", actor.name, actor.acknowledged()));
    let unnamed = tally.actors.len().saturating_sub(NAMED);
    let more = (unnamed > 0).then(|| format!("and {unnamed} more"));
    let counts: Vec<String> = counts.chain(more).collect();
    let (minutes, seconds) = (at.as_secs() / 60, at.as_secs() % 60);
    let (p50, p99) = (millis(lately.p50), millis(lately.p99));
    format!("{minutes:>3}:{seconds:02}  {rate:>6.0}/s  p50 {p50}  p99 {p99}  {}", counts.join("  "))
}

/// A duration in milliseconds, with what digits tell something.
pub(super) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1_000.0;
    if millis < 100.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_tells_rate_latency_and_every_count() {
        let tally = Tally::new(14).unwrap();
        for actor in &tally.actors {
            actor.acknowledge(actor.trying());
            tally.record(Duration::from_millis(150));
        }
        let line =
            live_line(Duration::from_secs(65), Duration::from_secs(2), tally.lately(), &tally);
        assert!(
            line.starts_with("  1:05       7/s  p50 150 ms  p99 150 ms  tern 1  gull 1"),
            "{line}"
        );
        assert!(line.ends_with("and 2 more"), "{line}");
    }
}
