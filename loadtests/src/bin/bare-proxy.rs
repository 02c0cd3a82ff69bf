//! See [`tidegate_loadtests::bare_proxy`].

use clap::Parser;
use tidegate_loadtests::bare_proxy::{BareProxyArgs, run};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Command {
    #[command(flatten)]
    args: BareProxyArgs,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    run(Command::parse().args).await
}
