//! `tidegate log-level`: shows or changes which lines a running proxy logs.

use clap::Args;
use http::Method;

use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::query::Query;
use super::{print, print_json};
use crate::app::StartError;
use crate::log::filter::Filters;

const EXAMPLES: &str = "\
Examples:
  tidegate log-level                                     what is logged now
  tidegate log-level debug
  tidegate log-level info,tidegate_stages::effects=debug
  tidegate log-level --reset                             as the settings say, as after a restart";

/// Shows which lines a running proxy logs, or changes it until its restart
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogLevel {
    /// A level (trace, debug, info, warn, error, off), then, after commas, levels of targets
    filter: Option<String>,
    /// Back to the level of the settings
    #[arg(long, conflicts_with = "filter")]
    reset: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl LogLevel {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let query = Query::default().with("filter", self.filter.as_deref());
        let is_change = self.reset || self.filter.is_some();
        let method = if is_change { Method::PUT } else { Method::GET };
        let path = format!("/admin/log-level?{query}");
        let asked = Client::new(&self.proxy_args)?.send(method, &path).await;
        let filters: Filters = read(&asked.map_err(anyhow::Error::from)?)?;
        if self.output.is_json() {
            return print_json(&filters);
        }
        let Filters { filter, at_start } = filters;
        let note = if filter == at_start { "" } else { " (until the restart)" };
        print(&format!("{filter}{note}\n"))
    }
}
