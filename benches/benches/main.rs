//! The benchmarks, one program: linked once. `cargo bench -p tidegate-benches -- --help` says what there is.
#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod codec;
mod due;
mod effects;
mod idle;
mod path;
mod pipeline;
mod policies;
mod store;

use std::env;
use std::process::{Command, exit};

use tidegate_benches::options::{Asked, Options};

type Run = fn(&Options);

const BENCHES: [(&str, Run); 8] = [
    ("pipeline", pipeline::run),
    ("codec", codec::run),
    ("path", path::run),
    ("policies", policies::run),
    ("store", store::run),
    ("idle", idle::run),
    ("effects", effects::run),
    ("due", due::run),
];

fn main() {
    match Asked::from_args(&BENCHES.map(|(name, _)| name)) {
        Asked::One(name, options) => {
            for (_, run) in BENCHES.iter().filter(|(known, _)| *known == name) {
                run(&options);
            }
        }
        Asked::All => BENCHES.iter().for_each(|(name, _)| begin(name)),
    }
}

/// Runs a bench in a process of its own: what another one left in memory changes no figure.
fn begin(name: &str) {
    println!("\n## {name}");
    let program = env::current_exe().expect("the path of this program");
    let status = Command::new(program).arg(name).args(env::args().skip(1)).status();
    let status = status.expect("the bench starts");
    if !status.success() {
        println!("{name}: {status}");
        exit(1);
    }
}
