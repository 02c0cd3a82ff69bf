//! The command line of `compare`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::bare_proxy::BareProxyArgs;
use crate::host::HostArgs;
use crate::receiver::ReceiverArgs;

/// Measures Tidegate and a minimal hyper reverse proxy, in turns, in one run.
///
/// Build both first: `cargo build --release` makes `tidegate`, then `cargo run --release -p tidegate-loadtests --bin compare`.
/// Starts a counter host, the bare proxy and `tidegate serve` on ports that the system chooses, and calls them in turns. Prints
/// calls per second, latencies and CPU per call, with their spread over the rounds. Kills the started processes at the end.
///
/// Checks every response: each actor counts up by one per call; no call is lost or counted twice.
///
/// Exit code: 0 all responses correct; 1 a response was wrong, a call failed or a program did not start.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Program {
    #[command(subcommand)]
    pub server: Option<Server>,
    #[command(flatten)]
    pub args: CompareArgs,
}

/// The servers that `compare` starts from its own binary, as separate processes.
#[derive(Debug, Subcommand)]
pub enum Server {
    /// The counter host alone (also the binary `host`).
    Host(HostArgs),
    /// The reference proxy alone (also the binary `bare-proxy`).
    BareProxy(BareProxyArgs),
    /// The receiver of traces alone.
    Receiver(ReceiverArgs),
}

/// Options of the measurement.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// The scenario to measure.
    #[arg(long, value_enum, default_value = "speed")]
    pub scenario: Scenario,
    /// The binary under test; by default `tidegate` beside this program.
    #[arg(long)]
    pub tidegate: Option<PathBuf>,
    /// Another build of Tidegate, measured in the same rounds: for example the one of before a change.
    #[arg(long, value_name = "BINARY")]
    pub before: Option<PathBuf>,
    /// Turns of every target.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Measured time per turn, in seconds.
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// Warm-up before the measured time, in seconds; its calls are checked but not measured.
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
    /// When Tidegate writes: before the reply, on the snapshot timer, or each in its own turn.
    #[arg(long, value_enum, default_value = "both")]
    pub durability: Durability,
    /// Connections, each with one call at a time.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// Actors, called at random.
    #[arg(long, default_value_t = 1000)]
    pub actors: usize,
    /// State per actor, in bytes; all of it changes on every call.
    #[arg(long, default_value_t = 256)]
    pub state_bytes: usize,
    /// Snapshot interval of the actors, in ms; must be short enough for a snapshot in every turn.
    #[arg(long, default_value_t = 2000)]
    pub snapshot_ms: u32,
    /// Where Tidegate's data is written, in a new directory that is removed; by default beside this program. Must be on a real
    /// disk: a sync on a tmpfs costs nothing.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// A further setting for Tidegate's environment, as NAME=VALUE; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Overload: offered calls, as a multiple of the calls that a closed loop completes.
    #[arg(long, default_value_t = 5.0)]
    pub factor: f64,
    /// Overload: connections for the offered calls.
    #[arg(long, default_value_t = 1024)]
    pub overload_connections: usize,
    /// Also writes all measurements to this file, as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// See [`CompareArgs::scenario`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Closed loop: the throughput of each target, and its cost.
    Speed,
    /// Closed loop: what it costs to observe Tidegate, with metrics, kept calls and 1 % of calls as traces, beside one without
    /// all that, by turns of a second.
    Observing,
    /// Closed loop: what a call with a side effect to a stateful actor costs, beside one without, by turns of a second.
    Effects,
    /// Open loop, far above the capacity of Tidegate: goodput stays, the rest is shed, memory is flat.
    Overload,
}

/// See [`CompareArgs::durability`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    Acknowledged,
    Snapshot,
    Both,
}

impl Durability {
    /// Returns the measured values of Tidegate's setting.
    pub(crate) fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Acknowledged => &["acknowledged"],
            Self::Snapshot => &["snapshot"],
            Self::Both => &["acknowledged", "snapshot"],
        }
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE expected")?;
    Ok((name.into(), value.into()))
}
