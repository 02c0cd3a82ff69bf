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
    /// Address of a CQL server to measure against; without it that part is left out.
    pub cql: Option<String>,
    /// Rounds per case and about how long one lasts, where a bench does not go by the usual ones.
    pub rounds: Option<(usize, Duration)>,
}

/// Says the same as `--cql`.
const CQL: &str = "TIDEGATE_BENCH_CQL";

impl Options {
    /// Reads the command line; ends the process when it makes no sense.
    pub fn from_args() -> Options {
        #[expect(clippy::disallowed_methods, reason = "a benchmark's own setting, not the proxy's")]
        let cql = std::env::var(CQL).ok().filter(|address| !address.is_empty());
        let mut options = Options { cql, ..Options::default() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // What `cargo bench` adds by itself.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--cql" if options.take_cql(arguments.next()) => {}
                filter if !filter.starts_with('-') && options.filter.is_empty() => {
                    options.filter = argument;
                }
                _ => {
                    println!(
                        "{argument:?} makes no sense; usage: [--quick] [--cql HOST:PORT] [FILTER]"
                    );
                    exit(64);
                }
            }
        }
        options
    }

    /// Whether it looks like an address.
    fn take_cql(&mut self, address: Option<String>) -> bool {
        self.cql = address.filter(|address| address.contains(':'));
        self.cql.is_some()
    }

    /// Whether what has this name is to run.
    pub fn chooses(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Rounds per case: odd, so that one is in the middle.
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds.map_or(7, |(rounds, _)| rounds) }
    }

    /// About how long one round is to last.
    pub(crate) fn round(&self) -> Duration {
        let usual = Duration::from_millis(if self.quick { 40 } else { 600 });
        self.rounds.filter(|_| !self.quick).map_or(usual, |(_, round)| round)
    }
}
