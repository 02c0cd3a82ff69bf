//! `tidegate doctor`: says what is wrong with an installation and what to do.

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::json;

use super::client::{Client, NotReady, ProxyArgs, Unanswered};
use super::output::Output;
use super::{print, print_json};
use crate::app::{self, StartError};
use crate::clock;
use crate::config::{HttpSettings, Listen};
use crate::doctor::{Finding, Severity, admin_port, configuration, examine, may_listen};
use crate::ingress::Socket;

const ABOUT: &str = "port";

/// Looks at settings, certificates, store, disk, database, limits and clock, and says what is wrong and what to do; changes nothing
///
/// Start it as the user and in the environment of the proxy; the proxy may run or not. Exit code: 0 when all is well, 1 when there are
/// warnings, 2 when the proxy would not start, or refuses calls.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl DoctorArgs {
    pub(super) async fn run(self) -> Result<ExitCode, StartError> {
        let (settings, mut found) = configuration(&self.proxy_args.flags);
        if clock::is_before_1970() {
            // What libraries would abort on is not looked at.
            found.push(Finding::error("clock", clock::BEFORE_1970));
        } else if let Some(settings) = settings {
            let examined = examine(&settings).await?;
            found.extend(self.ports(&settings.http, examined.is_in_use).await?);
            found.extend(examined.found);
        }
        let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        if self.output.is_json() {
            print_json(&json!({ "findings": found, "errors": errors, "warnings": warnings }))?;
        } else {
            let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
            print(&format!("{}\n{errors} errors, {warnings} warnings\n", lines.join("\n")))?;
        }
        Ok(ExitCode::from(match found.iter().map(|finding| finding.severity).max() {
            Some(Severity::Error) => 2,
            Some(Severity::Warning) => 1,
            _ => 0,
        }))
    }

    /// A proxy answers at the port of the API, or one could listen there and at the admin port.
    async fn ports(
        &self,
        http: &HttpSettings,
        is_in_use: bool,
    ) -> Result<Vec<Finding>, StartError> {
        // Held meanwhile, since a start opens both.
        let (api, is_running, _held) = self.api_port(&http.listen, is_in_use).await?;
        let admin = admin_port(http.admin, is_running || is_in_use).await;
        Ok(std::iter::once(api).chain(admin).collect())
    }

    /// Also whether a proxy may be running there, and the port when it was free.
    async fn api_port(
        &self,
        listen: &Listen,
        is_in_use: bool,
    ) -> Result<(Finding, bool, Option<Socket>), StartError> {
        let client = match Client::new(&self.proxy_args) {
            Err(StartError::Tls(error)) => {
                // A start does not read these files, so a proxy may be running without them.
                let text = format!("a running proxy cannot be asked over TLS: {error}");
                return Ok((Finding::warning(ABOUT, text), true, None));
            }
            client => client?,
        };
        let address = &client.address;
        let told = match client.send(Method::GET, "/health/readiness").await {
            Ok(answer) if is_of_proxy(&answer) => {
                return Ok((
                    Finding::ok(ABOUT, format!("a proxy is ready at {address}")),
                    true,
                    None,
                ));
            }
            Ok(_) => Some((format!("another program answers at {address}"), false)),
            Err(Unanswered::Nobody(_)) => None,
            Err(Unanswered::Other(error)) if error.is::<NotReady>() => {
                let text = format!("a proxy at {address} is not ready: it starts or ends");
                return Ok((Finding::warning(ABOUT, text), true, None));
            }
            Err(Unanswered::Other(error)) => {
                Some((format!("{error:#}: a proxy that starts or ends, or another program"), true))
            }
        };
        if let Some((told, may_run)) = told {
            let text =
                format!("{told}; PROXY_HTTP_PORT and TIDEGATE_HTTP_ADDRESS say where to listen");
            return Ok((Finding::error(ABOUT, text), may_run, None));
        }
        let free = |more| Finding::ok(ABOUT, format!("nobody listens at {address}{more}"));
        Ok(match listen {
            // A Unix socket is not opened: its file would be made.
            Listen::Unix { path, .. } => match may_listen(path).await {
                Ok(()) => (free(""), false, None),
                Err(error) if error.source.kind() == ErrorKind::NotFound => {
                    (Finding::warning(ABOUT, no_directory(path)), false, None)
                }
                Err(error) => {
                    let error = StartError::Bind { error, setting: "PROXY_UDS_ADDRESS" };
                    (Finding::error(ABOUT, error.to_string()), false, None)
                }
            },
            Listen::Tcp(_) => match app::bind(listen).await {
                Ok(socket) => (free("; it is free"), false, Some(socket)),
                Err(StartError::Bind { error, .. })
                    if is_in_use && error.source.kind() == ErrorKind::AddrInUse =>
                {
                    let text = format!("{} is in use, and a proxy runs", error.address);
                    (Finding::ok(ABOUT, text), true, None)
                }
                Err(error) => (Finding::error(ABOUT, error.to_string()), false, None),
            },
        })
    }
}

/// What is told of a Unix socket whose directory is missing: it may be made just before the start.
fn no_directory(socket: &Path) -> String {
    let parent = socket.parent().unwrap_or(socket).display();
    format!(
        "{parent} is not there; a start fails (69) unless it is made before, as systemd's RuntimeDirectory does; PROXY_UDS_ADDRESS \
         says where to listen"
    )
}

/// Whether an answer about readiness is that of a proxy.
fn is_of_proxy(answer: &[u8]) -> bool {
    let answer = serde_json::from_slice::<serde_json::Value>(answer);
    answer.is_ok_and(|answer| answer.get("status").is_some_and(|status| status == "up"))
}
