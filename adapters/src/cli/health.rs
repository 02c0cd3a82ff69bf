//! `tidegate health`: asks the running proxy whether it is ready, for images without another client.

use clap::Args;
use http::Method;
use serde_json::json;

use super::client::{Client, ProxyArgs};
use super::output::Output;
use super::{print, print_json};
use crate::app::StartError;

/// Asks the running proxy whether it is ready; exit code 0 if it is, 69 if not
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl HealthArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let client = Client::new(&self.proxy_args)?;
        match client.send(Method::GET, "/health/readiness").await {
            Ok(_) if self.output.is_json() => print_json(&json!({ "ready": true })),
            Ok(_) => print("ready\n"),
            Err(error) => Err(StartError::NotReady(error.into())),
        }
    }
}
