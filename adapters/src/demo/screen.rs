//! Screen: the demo's output: a line redrawn in place on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::tally::{Latency, Tally};

/// Width of a terminal that does not report its width.
const COLUMNS: usize = 80;
/// How many actors the live line names.
const NAMED: usize = 12;

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    /// Whether the cursor is at the end of a live line.
    live: bool,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen { is_terminal: std::io::stdout().is_terminal(), live: false }
    }

    /// Returns the interval between two live lines.
    pub(super) fn period(&self) -> Duration {
        if self.is_terminal { Duration::from_millis(250) } else { Duration::from_secs(5) }
    }

    /// Prints a permanent line.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.finish_line()?;
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    }

    /// Prints a line that the next one replaces; without a terminal, prints a plain line.
    pub(super) fn show(&mut self, line: &str) -> anyhow::Result<()> {
        if !self.is_terminal {
            return self.say(line);
        }
        // A wrapped line cannot be redrawn, so it is cut.
        let line: String = line.chars().take(columns().saturating_sub(1)).collect();
        let mut stdout = std::io::stdout();
        write!(stdout, "\r\x1b[2K{line}")?;
        stdout.flush()?;
        self.live = true;
        Ok(())
    }

    /// Keeps the live line and moves below it.
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

/// Formats the live line: time, rate and latency of the last interval, and each actor's count.
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

/// Formats a duration in milliseconds, with only useful digits.
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
