//! `tidegate channels`: shows how far the durable topics of a running proxy are, and their subscribers.

use clap::{Args, Subcommand};
use http::Method;
use serde::{Deserialize, Serialize};

use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::query::encoded;
use super::{print, print_json};
use crate::app::StartError;

/// Shows durable topics and their subscribers
#[derive(Debug, Args)]
pub(super) struct Channels {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows each durable topic: its newest event, its subscribers, and what the slowest of them has to get
    List {
        /// Those of this system only
        #[arg(long)]
        system: Option<String>,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        proxy_args: ProxyArgs,
    },
    /// Shows how far each subscriber of a topic is
    Show {
        /// The topic, as SYSTEM/TOPIC
        topic: String,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        proxy_args: ProxyArgs,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    channels: Vec<Channel>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Channel {
    system: String,
    topic: String,
    newest: u64,
    subscribers: u64,
    lag: u64,
    missed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    channel: Channel,
    subscribers: Vec<Subscriber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Subscriber {
    actor: String,
    position: u64,
    lag: u64,
}

impl Channels {
    pub(super) async fn run(self) -> Result<(), StartError> {
        match self.command {
            Command::List { system, output, proxy_args } => {
                let system = system.map(|system| format!("?system={}", encoded(&system)));
                let path = format!("/api/v1/channels{}", system.unwrap_or_default());
                let asked = Client::new(&proxy_args)?.send(Method::GET, &path).await;
                let listed: Listed = read(&asked.map_err(anyhow::Error::from)?)?;
                if output.is_json() {
                    return print_json(&listed);
                }
                if listed.channels.is_empty() {
                    return print("no durable topic is in use\n");
                }
                print(&table(&listed.channels))
            }
            Command::Show { topic, output, proxy_args } => show(&topic, output, &proxy_args).await,
        }
    }
}

async fn show(topic: &str, output: Output, proxy_args: &ProxyArgs) -> Result<(), StartError> {
    let (system, name) = topic
        .split_once('/')
        .ok_or_else(|| anyhow::anyhow!("a topic is SYSTEM/TOPIC, not {topic:?}"))?;
    let path = format!("/api/v1/system/{}/channels/{}/subscribers", encoded(system), encoded(name));
    let client = Client::new(proxy_args)?;
    let mut next = String::new();
    let mut all = Vec::new();
    loop {
        let page = format!("{path}?limit=1000&next={}", encoded(&next));
        let asked = client.send(Method::GET, &page).await;
        let shown: Shown = read(&asked.map_err(anyhow::Error::from)?)?;
        if output.is_json() {
            all.extend(shown.subscribers);
        } else {
            if next.is_empty() {
                print(&table(std::slice::from_ref(&shown.channel)))?;
            }
            print(&subscribers(&shown.subscribers))?;
        }
        match shown.next {
            Some(more) => next = more,
            None if output.is_json() => {
                let channel = shown.channel;
                return print_json(&Shown { channel, subscribers: all, next: None });
            }
            None => return Ok(()),
        }
    }
}

fn table(channels: &[Channel]) -> String {
    let name = |channel: &Channel| format!("{}/{}", channel.system, channel.topic);
    let width = channels.iter().map(|channel| name(channel).len()).max().unwrap_or_default();
    let line = |channel: &Channel| {
        let Channel { newest, subscribers, lag, missed, .. } = channel;
        let name = name(channel);
        format!(
            "{name:width$}  event {newest}, {subscribers} subscribers, lag {lag}, missed {missed}\n"
        )
    };
    channels.iter().map(line).collect()
}

fn subscribers(subscribers: &[Subscriber]) -> String {
    let width = subscribers.iter().map(|of| of.actor.len()).max().unwrap_or_default();
    let line = |of: &Subscriber| {
        let Subscriber { actor, position, lag } = of;
        format!("  {actor:width$}  event {position}, lag {lag}\n")
    };
    subscribers.iter().map(line).collect()
}
