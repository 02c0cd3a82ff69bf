//! `tidegate tail`: follows the calls of an actor while they end.

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use tokio::time::sleep;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs, read};
use super::explain::{last, outcome};
use super::output::Output;
use super::{print, print_json, say};
use crate::app::StartError;
use crate::ingress::calls::EndedCall;
use crate::terminal::Colours;

/// Where the stream of events goes on.
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// Pause between two answers, so that a busy actor does not keep the proxy busy with its listener.
const PAUSE: Duration = Duration::from_millis(50);

/// Follows the calls of an actor: each when it has ended, with its outcome, until Ctrl-C
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// The actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    /// Ends after so many calls
    #[arg(long, value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

/// The calls of an actor, as they end.
#[derive(Debug)]
pub(super) struct Following {
    client: Client,
    actor: ActorName,
}

/// What came of a question for events.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) calls: Vec<EndedCall>,
    /// Calls that the proxy had no place for.
    pub(super) dropped: u64,
    id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Dropped {
    calls: u64,
}

impl Tail {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let mut following = Following::begin(Client::new(&self.proxy_args)?, self.actor).await?;
        let (colours, is_json) = (Colours::of_stdout(), self.output.is_json());
        say(&format!("following {}", following.actor));
        let mut left = self.count;
        loop {
            let events = following.next().await?;
            for call in &events.calls {
                if left == Some(0) {
                    return Ok(());
                }
                if is_json {
                    print_json(call)?;
                } else {
                    print(&line(call, colours))?;
                }
                left = left.map(|left| left - 1);
            }
            if left == Some(0) {
                return Ok(());
            }
            if events.dropped > 0 {
                say(&format!("{} calls are left out: they came too fast", events.dropped));
            }
            sleep(PAUSE).await;
        }
    }
}

impl Following {
    /// Follows the calls that end from now on.
    pub(super) async fn begin(client: Client, actor: ActorName) -> Result<Self, StartError> {
        let mut following = Self { client, actor };
        let events = following.ask().await?;
        let id = events.id.ok_or_else(|| anyhow!("the proxy does not say where to go on"))?;
        let id = HeaderValue::try_from(id).map_err(anyhow::Error::from)?;
        following.client.header = Some((LAST_EVENT, id));
        Ok(following)
    }

    /// Waits for calls; returns none when there are none for a while.
    pub(super) async fn next(&mut self) -> Result<Events, StartError> {
        self.ask().await
    }

    async fn ask(&self) -> Result<Events, StartError> {
        let asked = self.client.ask(Method::GET, &self.actor, "/calls").await;
        let body = asked.map_err(anyhow::Error::from)?;
        Ok(events(&String::from_utf8_lossy(&body))?)
    }
}

/// Reads server-sent events.
fn events(text: &str) -> anyhow::Result<Events> {
    let mut events = Events::default();
    let mut name = "";
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => events.id = Some(id.to_owned()),
            Some(("event", event)) => name = event,
            Some(("data", data)) => {
                let event = || format!("event {name}");
                match name {
                    "call" => events.calls.push(read(data.as_bytes()).with_context(event)?),
                    "dropped" => {
                        let dropped: Dropped = read(data.as_bytes()).with_context(event)?;
                        events.dropped += dropped.calls;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(events)
}

fn line(call: &EndedCall, colours: Colours) -> String {
    let (actor, action) = last(call);
    let stages = || call.hops.iter().flat_map(|hop| &hop.stages);
    let waited: f64 = stages().map(|stage| stage.queued_ms).sum();
    let is_written = stages().any(|stage| stage.stage == "checkpoint" && !stage.failed);
    let route = if call.hops.len() > 1 { format!(" -> {actor}") } else { String::new() };
    let error = call.error.as_ref().map(|error| format!(": {}", error.text)).unwrap_or_default();
    format!(
        "{}  {action}{route}  {}  {:.1} ms, waited {waited:.1} ms{}{error}\n",
        call.began,
        outcome(call, colours),
        call.took_ms,
        if is_written { ", state written" } else { "" },
    )
}
