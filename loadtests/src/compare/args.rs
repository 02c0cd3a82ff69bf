//! The command line of `compare`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bare_proxy::BareProxyArgs;
use crate::host::HostArgs;

/// Measures Tidegate beside the leanest hyper reverse proxy, interleaved in one run.
///
/// Build both first: `cargo build --release` makes `tidegate`, then
/// `cargo run --release -p tidegate-loadtests --bin compare`. Starts a counter host, the bare proxy and
/// `tidegate serve` on ports that the system chooses, calls them in turns, prints calls per second,
/// latencies and CPU per call with their spread over the rounds, and kills what it started.
///
/// Every answer is checked: each actor counts up by one per call, none is lost, none is counted twice.
///
/// Exit code: 0 all answers right, 1 an answer was wrong, a call failed or something could not be started.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Program {
    #[command(subcommand)]
    pub server: Option<Server>,
    #[command(flatten)]
    pub args: CompareArgs,
}

/// The servers that `compare` starts as processes of their own, from this same binary.
#[derive(Debug, Subcommand)]
pub enum Server {
    /// The counter host alone (also the binary `host`).
    Host(HostArgs),
    /// The reference proxy alone (also the binary `bare-proxy`).
    BareProxy(BareProxyArgs),
}

/// What to measure.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// What is measured.
    #[arg(long, value_enum, default_value = "speed")]
    pub scenario: Scenario,
    /// The binary under test; by default `tidegate` beside this program.
    #[arg(long)]
    pub tidegate: Option<PathBuf>,
    /// How often every target has its turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Measured time per turn, in seconds.
    #[arg(long, default_value_t = 8)]
    pub seconds: u64,
    /// Time before that, with calls that are checked but not measured, in seconds.
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
    /// When Tidegate writes: before the reply, on the snapshot timer, or a turn each.
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
    /// Snapshot interval of the actors, in ms; short enough to fall into every turn.
    #[arg(long, default_value_t = 2000)]
    pub snapshot_ms: u32,
    /// Where Tidegate's data goes, in a directory of its own that is removed; by default beside this
    /// program. Must be on the disk that matters: syncing a tmpfs costs nothing.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// A further setting for Tidegate's environment, as NAME=VALUE; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Overload: how many times the calls are offered that a closed loop got answered.
    #[arg(long, default_value_t = 5.0)]
    pub factor: f64,
    /// Overload: connections to offer them on.
    #[arg(long, default_value_t = 1024)]
    pub overload_connections: usize,
    /// Also writes everything measured as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// See [`CompareArgs::scenario`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Closed loop: what each target can do, and what it costs.
    Speed,
    /// Open loop far above what Tidegate can do: goodput stays, the rest is shed, memory is flat.
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
    /// The values of Tidegate's setting that are measured.
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
