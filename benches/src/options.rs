//! Options: what the command line of a bench may say.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::process::exit;
use std::time::Duration;

/// What the command line asks for.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Short rounds and few: shows that the benches run and find nothing wrong, measures little.
    pub quick: bool,
    /// Only cases whose name contains it.
    pub filter: String,
}

impl Options {
    /// Reads the command line; ends the process when it makes no sense.
    pub fn from_args() -> Options {
        let mut options = Options::default();
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                // What `cargo bench` adds by itself.
                "--bench" => {}
                "--quick" => options.quick = true,
                filter if !filter.starts_with('-') && options.filter.is_empty() => {
                    options.filter = argument;
                }
                _ => {
                    println!("unknown argument {argument:?}; usage: [--quick] [FILTER]");
                    exit(64);
                }
            }
        }
        options
    }

    /// Whether what has this name is to run.
    pub fn chooses(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Rounds per case: odd, so that one is in the middle.
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { 7 }
    }

    /// About how long one round is to last.
    pub(crate) fn round(&self) -> Duration {
        Duration::from_millis(if self.quick { 40 } else { 600 })
    }
}
