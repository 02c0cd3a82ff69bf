//! Screen: the demo's output: a few lines redrawn in place on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use super::tally::{Latency, Tally};

/// Size of a terminal that does not report its size.
const SIZE: (usize, usize) = (80, 24);
/// How many actors the live line names.
const NAMED: usize = 12;

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    /// How many live lines there are above the cursor.
    live: usize,
}

impl Screen {
    pub(super) fn new() -> Screen {
        Screen { is_terminal: std::io::stdout().is_terminal(), live: 0 }
    }

    /// Whether lines can be redrawn.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Returns the interval between two frames, or two plain lines.
    pub(super) fn period(&self) -> Duration {
        if self.is_terminal { Duration::from_millis(500) } else { Duration::from_secs(5) }
    }

    /// Prints a permanent line; the live lines above it stay.
    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.live = 0;
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    }

    /// Prints a frame that the next one replaces; without a terminal, prints plain lines.
    pub(super) fn show(&mut self, frame: &str) -> anyhow::Result<()> {
        if !self.is_terminal {
            return self.say(frame);
        }
        let (lines, text) = redrawn(frame, self.live, size());
        let mut stdout = std::io::stdout();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        self.live = lines;
        Ok(())
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let size = size.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
    size.filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(SIZE)
}

/// The lines of a frame, and what draws them in the place of the `live` lines above the cursor.
fn redrawn(frame: &str, live: usize, (columns, rows): (usize, usize)) -> (usize, String) {
    let mut text = if live > 0 { format!("\x1b[{live}A\r") } else { String::new() };
    // A line that wraps, or has left the screen, cannot be redrawn: so lines are cut, and few.
    let shown = frame.lines().take(rows.saturating_sub(1).max(1));
    let mut lines = 0;
    for line in shown {
        text.extend(line.chars().take(columns.saturating_sub(1)));
        text += "\x1b[K\n";
        lines += 1;
    }
    (lines, text + "\x1b[J")
}

/// Formats the first live line: time, rate and latency of the last interval, and each actor's count.
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
    fn a_frame_replaces_the_one_before_and_fits() {
        let (lines, text) = redrawn("one\ntwo\n", 0, (80, 24));
        assert_eq!((lines, &*text), (2, "one\x1b[K\ntwo\x1b[K\n\x1b[J"));
        let (lines, text) = redrawn("three and more\nfour\nfive", 2, (6, 3));
        assert_eq!((lines, &*text), (2, "\x1b[2A\rthree\x1b[K\nfour\x1b[K\n\x1b[J"));
    }

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
