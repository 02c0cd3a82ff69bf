//! `tidegate warnings`: what is not as it should be in a running proxy, and the pages of the runbook.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use http::Method;

use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::{print, print_json};
use crate::app::StartError;
use crate::ingress::warnings::{Line, Others, WarningList};
use crate::runbook;
use crate::terminal::{Colours, table};

/// Shows what is not as it should be in a running proxy, each with its page of the runbook; exit code 1 when there is something
#[derive(Debug, Args)]
pub(super) struct Warnings {
    /// Prints this page of the runbook instead; asks no proxy
    #[arg(long, value_name = "NAME")]
    runbook: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Warnings {
    pub(super) async fn run(self) -> Result<ExitCode, StartError> {
        if let Some(name) = self.runbook {
            let page = runbook::page(&name);
            print(page.ok_or_else(|| anyhow!("the runbook has no page {name:?}"))?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let client = Client::new(&self.proxy_args)?;
        let asked = client.send(Method::GET, "/admin/warnings").await;
        let list: WarningList = read(&asked.map_err(anyhow::Error::from)?)?;
        if self.output.is_json() {
            print_json(&list)?;
        } else {
            print(&shown(&list))?;
        }
        Ok(ExitCode::from(u8::from(!list.warnings.is_empty() || !list.others.is_empty())))
    }
}

fn shown(WarningList { warnings, others }: &WarningList) -> String {
    if warnings.is_empty() && others.is_empty() {
        return "no warnings\n".into();
    }
    let row = |line: &Line| {
        let Line { kind, what, since, sentence, runbook } = line;
        let since = since.clone().unwrap_or_default();
        vec![what.clone(), kind.clone(), since, runbook.clone(), sentence.clone()]
    };
    let rows: Vec<_> = warnings.iter().map(row).collect();
    let title = ["WHAT", "WARNING", "SINCE", "RUNBOOK", "WHY"];
    let mut text = table(&title, &rows, Colours::of_stdout());
    for Others { kind, more, unknown } in others {
        if *more > 0 {
            text += &(format!("{kind}: {more} more") + "\n");
        }
        if let Some(why) = unknown {
            text += &(format!("{kind}: there may be others: {why}") + "\n");
        }
    }
    text
}
