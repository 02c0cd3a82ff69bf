//! Options: the command line of a bench.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::process::exit;
use std::time::Duration;

/// The options of the command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Few, short rounds: shows that the benches run without errors, but measures little.
    pub quick: bool,
    /// Runs only cases whose name contains this.
    pub filter: String,
    /// Address of a CQL server to measure; `None` skips that part.
    pub cql: Option<String>,
    /// Rounds per case and approximate duration of a round, for a bench that does not use the defaults.
    pub rounds: Option<(usize, Duration)>,
}

/// Environment variable for `--cql`.
const CQL: &str = "TIDEGATE_BENCH_CQL";

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// One bench.
    One(&'static str, Options),
    /// Every bench, with the options of the command line.
    All,
}

impl Asked {
    /// Reads the command line, whose first word is a bench or nothing; ends the process on an invalid one.
    pub fn from_args(benches: &[&'static str]) -> Asked {
        #[expect(clippy::disallowed_methods, reason = "a benchmark's own setting, not the proxy's")]
        let cql = std::env::var(CQL).ok().filter(|address| !address.is_empty());
        let mut options = Options { cql, ..Options::default() };
        let mut asked = None;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // `cargo bench` adds this by itself.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--cql" if options.take_cql(arguments.next()) => {}
                name if asked.is_none() && benches.contains(&name) => {
                    asked = benches.iter().find(|bench| **bench == name).copied();
                }
                filter
                    if asked.is_some() && !filter.starts_with('-') && options.filter.is_empty() =>
                {
                    options.filter = argument;
                }
                wrong => {
                    let help = matches!(wrong, "--help" | "-h");
                    if !help {
                        println!("{wrong:?} makes no sense");
                    }
                    println!(
                        "usage: [BENCH [FILTER]] [--quick] [--cql HOST:PORT]\nbenches: {}",
                        benches.join(", ")
                    );
                    exit(if help { 0 } else { 64 });
                }
            }
        }
        asked.map_or(Asked::All, |name| Asked::One(name, options))
    }
}

impl Options {
    /// Returns whether this looks like an address.
    fn take_cql(&mut self, address: Option<String>) -> bool {
        self.cql = address.filter(|address| address.contains(':'));
        self.cql.is_some()
    }

    /// Whether the case of this name runs.
    pub fn chooses(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Rounds per case: odd, so that the median is one of the rounds.
    pub fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds.map_or(7, |(rounds, _)| rounds) }
    }

    /// Approximate duration of one round.
    pub(crate) fn round(&self) -> Duration {
        let usual = Duration::from_millis(if self.quick { 40 } else { 600 });
        self.rounds.filter(|_| !self.quick).map_or(usual, |(_, round)| round)
    }
}
