//! The generator alone, against any running Spawn proxy.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use tidegate_loadtests::client::Client;
use tidegate_loadtests::dialect::Dialect;
use tidegate_loadtests::drive::{Drive, Pace, Rig};
use tidegate_loadtests::register::register;
use tidegate_loadtests::report::Report;

/// Calls a Spawn proxy, times every call and checks every response.
///
/// Start `host --port 8090` first and a proxy whose `USER_FUNCTION_PORT` is 8090. Every actor is a counter: each call must return
/// one more than the call before, over all connections. A lost or doubled call is an error.
///
/// Closed loop (default): every connection sends the next call after each response; measures the throughput of the target. Open
/// loop (--rate): calls are due at a fixed rate, and latency counts from the due time, so a stall shows in full; measures what
/// users feel.
///
/// Exit code: 0 all responses correct; 1 a response was wrong or a call failed (a shed call is neither).
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    /// The target, as HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:9001")]
    target: String,
    /// The protocol of the target.
    #[arg(long, value_enum, default_value = "invoke")]
    dialect: Dialect,
    /// The actor system; must equal the proxy's `PROXY_ACTOR_SYSTEM_NAME`.
    #[arg(long, default_value = "spawn-system")]
    system: String,
    /// Calls per second of an open loop; without this option the loop is closed.
    #[arg(long)]
    rate: Option<f64>,
    /// Connections, each with one call at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Actors, called at random.
    #[arg(long, default_value_t = 1000)]
    actors: usize,
    /// State per actor, in bytes; used only with --dialect callback, otherwise the host's flag decides.
    #[arg(long, default_value_t = 256)]
    state_bytes: usize,
    /// Snapshot interval of the registered actors, in ms.
    #[arg(long, default_value_t = 10_000)]
    snapshot_ms: u32,
    /// Measured time, in seconds.
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Warm-up before the measured time, in seconds; its calls are checked but not measured.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Deadline of a call, in seconds; a call without a response counts as failed.
    #[arg(long, default_value_t = 75.0)]
    deadline: f64,
    /// Does not register the actors: the target knows them already.
    #[arg(long)]
    no_register: bool,
    /// Selects actors in another order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also writes the report as JSON; `-` writes it to standard output in place of the text.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let report = tokio::select! {
        report = run(&args) => report?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("interrupted");
        }
    };
    let mut out = std::io::stdout().lock();
    match args.json.as_deref() {
        Some(path) if path.as_os_str() == "-" => {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        }
        Some(path) => {
            let json = serde_json::to_string_pretty(&report)?;
            std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
            write!(out, "{report}")?;
        }
        None => write!(out, "{report}")?,
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run(args: &Args) -> anyhow::Result<Report> {
    ensure!(args.actors > 0 && args.connections > 0, "--actors and --connections must be above 0");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0), "--rate must be above 0");
    let seconds = |value: f64, flag| {
        Duration::try_from_secs_f64(value).with_context(|| format!("{flag} {value} is no time"))
    };
    let deadline = seconds(args.deadline, "--deadline")?;
    let target = tokio::net::lookup_host(&args.target)
        .await
        .with_context(|| format!("--target {}: HOST:PORT expected", args.target))?
        .next()
        .with_context(|| format!("--target {} has no address", args.target))?;
    let rig = Rig {
        target,
        dialect: args.dialect,
        system: args.system.clone(),
        actors: args.actors,
        effects: false,
        state_bytes: args.state_bytes,
        connections: args.connections,
        deadline,
        seed: args.seed,
    };
    if args.dialect == Dialect::Invoke && !args.no_register {
        let mut client = Client::new(target, deadline);
        register(&mut client, &args.system, args.actors, args.snapshot_ms).await?;
    }
    let mut drive = Drive::new(rig)?;
    drive.touch().await?;
    let pace = args.rate.map_or(Pace::Closed, Pace::Open);
    let mut warm_up = None;
    if args.warm_up > 0.0 {
        warm_up = Some(drive.phase("warm-up", pace, seconds(args.warm_up, "--warm-up")?).await?);
    }
    let mut report = drive.phase("measuring", pace, seconds(args.duration, "--duration")?).await?;
    if let Some(unclean) = warm_up.filter(|report| !report.is_clean()) {
        report.wrong += unclean.wrong;
        report.failed += unclean.failed;
        report.complaints.extend(unclean.complaints);
    }
    Ok(report)
}
