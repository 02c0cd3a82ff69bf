//! `tidegate hosts`: lists the hosts of a running proxy's definitions, and drains one.

use clap::{Args, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};

use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::query::encoded;
use super::{print, print_json};
use crate::app::StartError;

/// Lists the hosts of a system's definitions, or drains one
#[derive(Debug, Args)]
pub(super) struct Hosts {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows each host, whether it accepts connections, and what it has
    List {
        /// The system
        system: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        proxy_args: ProxyArgs,
    },
    /// Gives a host no new turns, and waits until those that run are over; it joins again when it registers
    Drain {
        /// The system
        system: String,
        /// Its address, as `list` shows it
        address: String,
        #[command(flatten)]
        proxy_args: ProxyArgs,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    hosts: Vec<Host>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Host {
    address: String,
    state: String,
    away_seconds: Option<u64>,
    definitions: usize,
    running: usize,
}

#[derive(Debug, Deserialize)]
struct Drained {
    running: usize,
}

impl Hosts {
    pub(super) async fn run(self) -> Result<(), StartError> {
        match self.command {
            Command::List { system, output, proxy_args } => {
                let path = format!("/api/v1/system/{}/hosts", encoded(&system));
                let asked = Client::new(&proxy_args)?.send(Method::GET, &path).await;
                let listed: Listed = read(&asked.map_err(anyhow::Error::from)?)?;
                if output.is_json() {
                    return print_json(&listed);
                }
                print(&table(&listed.hosts))
            }
            Command::Drain { system, address, proxy_args } => {
                let path =
                    format!("/api/v1/system/{}/hosts/{}", encoded(&system), encoded(&address));
                let asked = Client::new(&proxy_args)?.send(Method::DELETE, &path).await;
                let asked = asked.map_err(anyhow::Error::from);
                let asked =
                    asked.map_err(|error| error.context(format!("{address} not drained")))?;
                let Drained { running } = read(&asked)?;
                print(&match running {
                    0 => format!("drained {address}\n"),
                    more => format!("drained {address}; {more} turns still run there\n"),
                })
            }
        }
    }
}

fn table(hosts: &[Host]) -> String {
    let width = hosts.iter().map(|host| host.address.len()).max().unwrap_or_default();
    let line = |host: &Host| {
        let Host { address, state, away_seconds, definitions, running } = host;
        let state =
            away_seconds.map_or_else(|| state.clone(), |seconds| format!("{state} {seconds} s"));
        format!("{address:width$}  {state:<12}  {definitions} definitions, {running} turns run\n")
    };
    hosts.iter().map(line).collect()
}
