//! `tidegate invoke`: calls an action of an actor, and prints what it answers.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_stages::state::Timestamp;
use tokio::time::timeout;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs, read};
use super::explain::path;
use super::schedules::parse_time;
use super::tail::Following;
use super::{print, say};
use crate::app::StartError;
use crate::terminal::Colours;
use crate::{log, moment};

const EXAMPLES: &str = "\
The answer is printed as JSON, without its envelope. An action that failed, or did not run, is exit code 70; the text says
whether the call may be repeated.

Examples:
  tidegate invoke shop/cart-7 add --json '{\"item\": \"tea\"}'
  tidegate invoke shop/cart-7 get | jq .items
  tidegate invoke shop/cart-8 add --register-ref cart --json @item.json
  tidegate invoke shop/cart-7 add --watch
  tidegate invoke shop/report run --async
  tidegate invoke shop/report run --at 2026-12-24T18:00:00Z";

/// Calls an action of an actor, and prints what it answers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InvokeArgs {
    /// The actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    /// Its action
    action: String,
    /// The payload, as JSON; `@FILE` reads it from a file, `-` from stdin
    #[arg(long, value_name = "JSON", value_parser = payload_form)]
    json: Option<String>,
    /// Returns when the call is accepted
    #[arg(long = "async", conflicts_with = "at")]
    is_async: bool,
    /// Runs it at that time: RFC 3339, or Unix milliseconds
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    at: Option<Timestamp>,
    /// Spawns the actor from this definition if there is none of its name
    #[arg(long, value_name = "DEFINITION")]
    register_ref: Option<String>,
    /// Any member of the pool of this name
    #[arg(long)]
    pooled: bool,
    /// Metadata for the action; may be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// Gives up after this time, such as 5s or 2m; by default after that of the proxy. What runs later (--at) is not bounded
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
    /// Shows the path of the call on stderr: the time of each stage, and what it was blocked on
    #[arg(long, conflicts_with_all = ["is_async", "at"])]
    watch: bool,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

/// Time that the proxy has for its answer beyond the time of the call.
const GRACE: Duration = Duration::from_secs(10);
/// How long the path of a call may take to come, after its answer.
const PATH_LIMIT: Duration = Duration::from_secs(2);
/// Time for a call without a time of its own; the proxy ends it before.
const PATIENCE: Duration = Duration::from_mins(10);

/// The body of the request (docs/json.md).
#[derive(Debug, Serialize)]
struct Body<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    r#async: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    register_ref: Option<&'a str>,
    pooled: bool,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Answered {
    payload: Box<RawValue>,
}

impl InvokeArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let payload = self.json.as_deref().map(payload).transpose()?;
        let mut metadata: BTreeMap<String, String> = self.metadata.into_iter().collect();
        // Of a call for a later time only the acceptance is waited for.
        if let Some(limit) = self.timeout.filter(|_| self.at.is_none()) {
            metadata.insert("request-timeout".into(), limit.as_millis().to_string());
        }
        let body = Body {
            action: &self.action,
            payload: payload.as_deref(),
            r#async: self.is_async,
            scheduled_to: self.at.map(|Timestamp(micros)| micros / 1_000),
            register_ref: self.register_ref.as_deref(),
            pooled: self.pooled,
            metadata,
        };
        let body = serde_json::to_vec(&body).map_err(anyhow::Error::from)?;
        let mut client = Client::new(&self.proxy_args)?;
        client.limit = self.timeout.map_or(PATIENCE, |limit| limit + GRACE);
        let watched = if self.watch {
            Some(Watched::begin(&mut client, &self.proxy_args, &self.actor).await?)
        } else {
            None
        };
        let asked = client.ask_json(Method::POST, &self.actor, "/invoke", body.into()).await;
        if let Some(watched) = watched {
            watched.show().await?;
        }
        let answer = asked.map_err(anyhow::Error::from)?;
        if self.is_async || self.at.is_some() {
            return print("accepted\n");
        }
        let Answered { payload }: Answered = read(&answer)?;
        print(&format!("{payload}\n"))
    }
}

/// A call whose path is shown when it has ended.
struct Watched {
    following: Following,
    id: String,
}

impl Watched {
    /// Names the call that the client makes next, and follows its actor.
    async fn begin(
        client: &mut Client,
        proxy_args: &ProxyArgs,
        actor: &ActorName,
    ) -> Result<Self, StartError> {
        let id = format!("tidegate-invoke-{:016x}", rand::random::<u64>());
        let value = HeaderValue::try_from(&*id).map_err(anyhow::Error::from)?;
        client.header = Some((HeaderName::from_static("x-request-id"), value));
        let following = Following::begin(Client::new(proxy_args)?, actor.clone()).await?;
        Ok(Self { following, id })
    }

    /// Shows the path of the call. One that was refused before it was queued has none.
    async fn show(mut self) -> Result<(), StartError> {
        let calls = timeout(PATH_LIMIT, async {
            loop {
                let calls = self.following.next().await?.calls;
                let mut own =
                    calls.iter().filter(|call| call.request_id.as_ref() == Some(&self.id));
                if let Some(call) = own.next() {
                    return Ok::<_, StartError>(path(call, Colours::none()));
                }
            }
        });
        match calls.await {
            Ok(path) => log::say(path?.trim_end()),
            Err(_) => say("the call was refused before it was queued: it has no path"),
        }
        Ok(())
    }
}

const STDIN: &str = "-";
const FILE: char = '@';

/// Checks a payload that stands on the command line itself; what is in a file or on stdin is read later.
fn payload_form(given: &str) -> Result<String, String> {
    if given != STDIN && !given.starts_with(FILE) {
        let read: Result<&RawValue, _> = serde_json::from_str(given);
        read.map_err(|error| format!("the payload is not JSON: {error}"))?;
    }
    Ok(given.to_owned())
}

/// The payload that was given: itself, or what is in the file or on stdin.
fn payload(given: &str) -> Result<Box<RawValue>, StartError> {
    let (from, content) = if given == STDIN {
        let mut content = Vec::new();
        let read = std::io::stdin().read_to_end(&mut content);
        read.context("cannot read the payload from stdin")?;
        ("stdin", content)
    } else if let Some(file) = given.strip_prefix(FILE) {
        let content = std::fs::read(file).map_err(|error| {
            let doing = format!("cannot read the payload from {file}");
            StartError::File { doing, error }
        })?;
        (file, content)
    } else {
        ("--json", given.into())
    };
    serde_json::from_slice(&content)
        .map_err(|error| StartError::Format(format!("{from}: the payload is not JSON: {error}")))
}

fn pair(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
