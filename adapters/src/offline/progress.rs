//! Progress: shows the progress of long work: a bar on a terminal, lines at intervals elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Interval between two lines without a terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress on stderr.
#[derive(Debug)]
pub struct Progress {
    doing: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Progress {
    /// Starts to show work with about `total` parts; 0 when the number is unknown.
    ///
    /// # Panics
    /// Never: the style is a constant.
    pub fn new(doing: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = if total > 0 {
                "{prefix} [{bar:30}] {percent:>3}% {elapsed} {wide_msg}"
            } else {
                "{prefix} {spinner} {elapsed} {wide_msg}"
            };
            let style = ProgressStyle::with_template(style).expect("a constant that was tried");
            ProgressBar::new(total.max(1)).with_style(style).with_prefix(doing)
        });
        Self { doing, total, bar, said: Instant::now() }
    }

    /// Shows that `done` parts are done.
    pub fn at(&mut self, done: u64, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            // There may be more parts than known at the start.
            bar.set_length(self.total.max(done).max(1));
            bar.set_position(done);
            bar.set_message(text());
        } else if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            say(&format!("{}: {}", self.doing, text()));
        }
    }

    /// Removes the bar.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line on stderr; ignores a closed stderr.
pub(super) fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// Formats a size for people.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
