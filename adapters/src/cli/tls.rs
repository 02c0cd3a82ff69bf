//! `tidegate tls bootstrap`: makes certificates for who has none.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tidegate_stages::ports::Clock;

use super::print;
use crate::app::StartError;
use crate::clock::SystemClock;
use crate::tls::{Bootstrap, BootstrapError, MAX_COMMON_BYTES};

const TEACHING: &str = "\
Files of DIR:
  ca.pem, ca.key          the authority; lasts ten years and is never written over. Who has ca.key can make
                          certificates that everybody here believes: keep it off the machines that do not need it
  server.pem, server.key  for the proxy: TIDEGATE_TLS_CERT, TIDEGATE_TLS_KEY
  client.pem, client.key  for a client; its name is what the proxy knows it by

Run it again, from cron or a timer: what has lived two thirds of its life is renewed, everything else is kept, and
the running proxy takes the new files within seconds. Keys can be read by their owner only (mode 0600).

Examples:
  tidegate tls bootstrap /etc/tidegate/tls --name tidegate.shop --name 10.0.0.7 --client billing
  TIDEGATE_TLS_CERT=/etc/tidegate/tls/server.pem TIDEGATE_TLS_KEY=/etc/tidegate/tls/server.key \\
    TIDEGATE_TLS_CLIENT_CA=/etc/tidegate/tls/ca.pem tidegate serve
  curl --cacert ca.pem --cert client.pem --key client.key https://tidegate.shop:9001/health";

/// Makes certificates
#[derive(Debug, Args)]
pub(super) struct Tls {
    #[command(subcommand)]
    command: TlsCommand,
}

#[derive(Debug, Subcommand)]
enum TlsCommand {
    Bootstrap(BootstrapArgs),
}

/// Makes a certificate authority with a certificate for the proxy and one for a client, or renews these two
#[derive(Debug, Args)]
#[command(after_help = TEACHING)]
struct BootstrapArgs {
    /// The directory; made when it is missing
    dir: PathBuf,
    /// A DNS name or IP address under which clients reach the proxy; may be repeated. Else the names that the certificate
    /// has, at first those of the loopback of this machine
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The name of the client. Else the name that the certificate has, at first `client`
    #[arg(long, value_name = "NAME", value_parser = common_name)]
    client: Option<String>,
    /// Days that a certificate lasts; never longer than the authority
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

fn common_name(given: &str) -> Result<String, String> {
    let fits =
        (1..=MAX_COMMON_BYTES).contains(&given.len()) && !given.chars().any(char::is_control);
    fits.then(|| given.to_owned())
        .ok_or_else(|| format!("must have 1 to {MAX_COMMON_BYTES} bytes and no control characters"))
}

impl Tls {
    pub(super) fn run(self) -> Result<(), StartError> {
        let TlsCommand::Bootstrap(BootstrapArgs { dir, name: names, client, days }) = self.command;
        let now = Duration::from_micros(SystemClock.now().0);
        let lines = Bootstrap { dir, names, client, days, now }.run().map_err(|error| {
            let text = error.to_string();
            match error {
                BootstrapError::Io { .. } => StartError::DataDirectory(text),
                BootstrapError::Unusable(_) => StartError::Format(text),
                BootstrapError::Name(_) => StartError::Usage(text),
                BootstrapError::Making(error) => StartError::Other(error.into()),
            }
        })?;
        print(&(lines.join("\n") + "\n"))
    }
}
