//! `tidegate explain`: the path of a call that has ended, with its times and what it was blocked on.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use http::Method;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::query::Query;
use super::{print, print_json, say};
use crate::app::StartError;
use crate::ingress::calls::{Ended, EndedCall, EndedStage};
use crate::terminal::{Colours, table};

const EXAMPLES: &str = "\
Kept are the newest calls that have failed, have taken longer than TIDEGATE_TRACE_SLOW, or are sampled (TIDEGATE_KEPT_CALLS).
Exit code 1 says that none is found.

Examples:
  tidegate explain                                       the newest kept calls
  tidegate explain --actor shop/cart-7 --failed
  tidegate explain 4bf92f3577b34da6a3ce929d0e0e4736      one, by the id of its trace
  tidegate explain order-4711                            one, by its x-request-id";

/// Shows the path of a slow or failed call: the time of each stage, and what the call was blocked on
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Explain {
    /// Id of the trace or of the request; without one, the newest calls are listed
    id: Option<String>,
    /// Only calls of this actor
    #[arg(long, value_name = "SYSTEM/ACTOR")]
    actor: Option<ActorName>,
    /// Only calls that have failed
    #[arg(long)]
    failed: bool,
    /// Most calls
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Explain {
    pub(super) async fn run(self) -> Result<ExitCode, StartError> {
        let (system, name) =
            self.actor.as_ref().map(|actor| (&*actor.system, &*actor.name)).unzip();
        let query = Query::default()
            .with("id", self.id.as_deref())
            .with("system", system)
            .with("name", name)
            .with("failed", self.failed.then_some("true"))
            .with("limit", Some(&self.limit.to_string()));
        let client = Client::new(&self.proxy_args)?;
        let asked = client.send(Method::GET, &format!("/api/v1/calls?{query}")).await;
        let Ended { calls } = read(&asked.map_err(anyhow::Error::from)?)?;
        let code = ExitCode::from(u8::from(calls.is_empty()));
        if self.output.is_json() {
            print_json(&Ended { calls })?;
            return Ok(code);
        }
        if calls.is_empty() {
            say("no such call is kept");
            return Ok(code);
        }
        let colours = Colours::of_stdout();
        print(&if self.id.is_some() {
            calls.iter().map(|call| path(call, colours)).collect::<Vec<_>>().join("\n")
        } else {
            listed(&calls, colours)
        })?;
        Ok(code)
    }
}

fn listed(calls: &[EndedCall], colours: Colours) -> String {
    let row = |call: &EndedCall| {
        let (actor, action) = last(call);
        vec![
            call.began.clone(),
            format!("{:.1}", call.took_ms),
            actor,
            action.to_owned(),
            outcome(call, colours),
            call.trace_id.clone(),
        ]
    };
    let rows: Vec<_> = calls.iter().map(row).collect();
    table(&["BEGAN", "MS", "ACTOR", "ACTION", "OUTCOME", "TRACE"], &rows, colours)
}

/// The actor where a call ended, and its action.
pub(super) fn last(call: &EndedCall) -> (String, &str) {
    let last = call.hops.last();
    last.map(|hop| (format!("{}/{}", hop.system, hop.actor), &*hop.action)).unwrap_or_default()
}

pub(super) fn outcome(call: &EndedCall, colours: Colours) -> String {
    call.error.as_ref().map_or_else(|| "ok".to_owned(), |error| colours.red(&error.kind))
}

/// The path of a call, stage by stage.
pub(super) fn path(call: &EndedCall, colours: Colours) -> String {
    let (actor, action) = last(call);
    let title =
        format!("{actor} {action}: {} after {:.1} ms", outcome(call, colours), call.took_ms);
    let mut text = colours.bold(&title) + "\n";
    let from = call.from.as_deref().unwrap_or("outside");
    let waits = if call.r#async { ", nobody waited for it" } else { "" };
    let (began, origin, trace_id) = (&call.began, &call.origin, &call.trace_id);
    writeln!(text, "  began    {began} ({origin} of {from}{waits})").unwrap_or_default();
    writeln!(text, "  trace    {trace_id}").unwrap_or_default();
    if let Some(id) = &call.request_id {
        writeln!(text, "  request  {id}").unwrap_or_default();
    }
    for hop in &call.hops {
        writeln!(text, "  {}/{} {}", hop.system, hop.actor, hop.action).unwrap_or_default();
        for stage in &hop.stages {
            text += &stage_line(stage, colours);
        }
    }
    if let Some(error) = &call.error {
        let error = format!("{} ({}): {}", error.kind, error.source, error.text);
        writeln!(text, "  {}", colours.red(&error)).unwrap_or_default();
    }
    text
}

fn stage_line(stage: &EndedStage, colours: Colours) -> String {
    let EndedStage { stage: name, starts_ms, queued_ms, served_ms, blocked_on_ms, retries, failed } =
        stage;
    let mut line = format!(
        "    {name:<12} at {starts_ms:>9.3} ms  waited {queued_ms:>9.3}  worked {served_ms:>9.3}"
    );
    for (on, ms) in blocked_on_ms {
        write!(line, "  {on} {ms:.3}").unwrap_or_default();
    }
    if *retries > 0 {
        write!(line, "  tried {retries} times more").unwrap_or_default();
    }
    if *failed {
        write!(line, "  {}", colours.red("failed here")).unwrap_or_default();
    }
    line + "\n"
}
