//! See [`tidegate_loadtests::host`].

use clap::Parser;
use tidegate_loadtests::host::{HostArgs, run};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Command {
    #[command(flatten)]
    args: HostArgs,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    run(Command::parse().args).await
}
