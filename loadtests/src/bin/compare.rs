//! See [`tidegate_loadtests::compare`].

use std::process::ExitCode;

use clap::Parser;
use tidegate_loadtests::compare::{Program, Server, run};
use tidegate_loadtests::{bare_proxy, host, receiver};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let program = Program::parse();
    match program.server {
        Some(Server::Host(args)) => host::run(args).await?,
        Some(Server::BareProxy(args)) => bare_proxy::run(args).await?,
        Some(Server::Receiver(args)) => receiver::run(args).await?,
        None => {
            let mut terminate = signal(SignalKind::terminate())?;
            // When a signal comes first, the run is dropped, and with it every process that it started.
            return tokio::select! {
                code = run(program.args) => code,
                _ = terminate.recv() => anyhow::bail!("terminated"),
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    anyhow::bail!("interrupted")
                }
            };
        }
    }
    Ok(ExitCode::SUCCESS)
}
