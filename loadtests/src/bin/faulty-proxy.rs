//! See [`tidegate_loadtests::faulty_proxy`].

use clap::Parser;
use tidegate_loadtests::faulty_proxy::{FaultyProxyArgs, run};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Command {
    #[command(flatten)]
    args: FaultyProxyArgs,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    run(Command::parse().args).await
}
