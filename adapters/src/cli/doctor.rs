//! `tidegate doctor`: says what is wrong with an installation and what to do.

use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::json;

use super::client::{Client, ProxyArgs, Unanswered};
use super::output::Output;
use super::{print, print_json};
use crate::app::{self, StartError};
use crate::clock;
use crate::config::Listen;
use crate::doctor::{Finding, Severity, configuration, examine};

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
            found.push(self.port(&settings.http.listen).await?);
            found.extend(examine(&settings).await?);
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

    /// A proxy answers there, or one could listen there.
    async fn port(&self, listen: &Listen) -> Result<Finding, StartError> {
        let client = match Client::new(&self.proxy_args) {
            Err(StartError::Tls(error)) => {
                // A start does not read these files.
                let text = format!("a running proxy cannot be asked over TLS: {error}");
                return Ok(Finding::warning(ABOUT, text));
            }
            client => client?,
        };
        let address = &client.address;
        match client.send(Method::GET, "/health/readiness").await {
            Ok(_) => return Ok(Finding::ok(ABOUT, format!("a proxy is ready at {address}"))),
            Err(Unanswered::Nobody(_)) => {}
            Err(Unanswered::Other(error)) => {
                let text = format!(
                    "{error:#}: a proxy that starts or ends, or another program; PROXY_HTTP_PORT and TIDEGATE_HTTP_ADDRESS say \
                     where to listen"
                );
                return Ok(Finding::error(ABOUT, text));
            }
        }
        // A Unix socket is not tried: its file would be made.
        let Listen::Tcp(_) = listen else {
            return Ok(Finding::ok(ABOUT, format!("nobody listens at {address}")));
        };
        Ok(match app::bind(listen).await {
            Ok(_) => Finding::ok(ABOUT, format!("nobody listens at {address}; it is free")),
            Err(error) => Finding::error(ABOUT, error.to_string()),
        })
    }
}
