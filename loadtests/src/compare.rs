//! Compare: Tidegate and the bare proxy, on the same machine, in the same run, with the same calls.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

mod args;
mod bench;
mod measure;
mod overload;
mod pair;
mod speed;
mod table;

pub use args::{CompareArgs, Durability, Program, Scenario, Server};
use bench::Bench;

/// Runs the scenario. The exit code says whether every response was correct.
///
/// # Errors
/// When a server cannot be started or a measurement cannot be taken.
pub async fn run(args: CompareArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.rounds > 0 && args.seconds > 0, "--rounds and --seconds must be above 0");
    ensure!(args.actors > 0 && args.connections > 0, "--actors and --connections must be above 0");
    ensure!(
        args.before.is_none() || args.scenario == Scenario::Speed,
        "--before is measured with --scenario speed only"
    );
    let json = args.json.clone();
    let scenario = args.scenario;
    let bench = Bench::start(args).await?;
    let (clean, value) = match scenario {
        Scenario::Speed => speed::run(&bench).await?,
        Scenario::Observing | Scenario::Effects => pair::run(&bench).await?,
        Scenario::Overload => overload::run(&bench).await?,
    };
    bench.stop().await?;
    if let Some(path) = json {
        std::fs::write(&path, serde_json::to_string_pretty(&value)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
