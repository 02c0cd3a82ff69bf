//! Progress: how far long work has come: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Says on stderr how far work has come.
#[derive(Debug)]
pub struct Progress {
    doing: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Progress {
    /// Begins to tell of work that has about so many parts; 0: nobody knows.
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

    /// So many parts are done.
    pub fn at(&mut self, done: u64, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            // More may have come than was known at the beginning.
            bar.set_length(self.total.max(done).max(1));
            bar.set_position(done);
            bar.set_message(text());
        } else if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            say(&format!("{}: {}", self.doing, text()));
        }
    }

    /// It is over.
    pub fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line on stderr; nothing is left to do when that is closed.
pub(super) fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

/// A size for people.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
