//! The stores: the speed of saves and reads, beside the bare engines, and the cost of a long history.
//!
//! 10,000 actors with incompressible states of 256 bytes; 1, 64 and 1,024 workers, each with one save or read in flight. A save
//! counts when it is durable. The reference of each group is the engine alone, with the same batches. Then a history of 1,000,000
//! revisions beside one of 1,000: reads of intervals, disk space, the time to open the store, and the memory to read the whole
//! history. Everything that was saved is read back and checked. `cargo bench -p tidegate-benches -- store [--quick]
//! [--cql HOST:PORT] [saves | loads | history]`.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod cql;
mod embedded;
mod histories;
mod pairs;

use std::time::Duration;

use tidegate_benches::harness::{Bench, Unit};
use tidegate_benches::options::Options;

/// Many short rounds: a shared disk is slow for moments, and both rounds of a pair see the same moment.
const ROUNDS: (usize, Duration) = (41, Duration::from_millis(150));

pub(crate) fn run(options: &Options) {
    let options = Options { rounds: Some(ROUNDS), ..options.clone() };
    let bench = Bench::new("save", Unit::Microseconds, options.clone());
    let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    if wants(&options, "saves") || wants(&options, "loads") {
        println!("\n# embedded store, beside its engine");
        embedded::pairs(&bench, disk.path());
    }
    if wants(&options, "history") {
        println!("\n# embedded store, a long history");
        embedded::history(&bench, &disk.path().join("history"));
    }
    let Some(address) = &options.cql else {
        println!("\n# CQL store: left out, no server was named (--cql HOST:PORT)");
        return;
    };
    if wants(&options, "saves") || wants(&options, "loads") {
        println!("\n# CQL store at {address}, beside the bare driver");
        cql::pairs(&bench, address);
    }
    if wants(&options, "history") {
        println!("\n# CQL store at {address}, a long history");
        cql::history(&bench, address);
    }
}

/// Whether the filter selects any case whose name begins with `part`.
fn wants(options: &Options, part: &str) -> bool {
    part.contains(&options.filter) || options.filter.starts_with(part)
}
