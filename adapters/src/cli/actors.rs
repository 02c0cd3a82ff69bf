//! `tidegate actors`: lists actors with what they do, and cancels, pauses, resumes or deactivates them.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs, read};
use super::confirm::confirm;
use super::output::Output;
use super::query::Query;
use super::{print, say};
use crate::app::StartError;
use crate::ingress::control::{ActorList, Counted, Listed, ListedTurn};

const EXAMPLES: &str = "\
Examples:
  tidegate actors list --stuck 10s                 what has run or waited for 10 s
  tidegate actors cancel shop/cart-7               ends the call that runs
  tidegate actors pause --definition cart          counts them, asks, and pauses them
  tidegate actors resume --paused --yes            resumes all that are paused";

/// Lists actors with what they do, and cancels, pauses, resumes or deactivates them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Actors {
    #[command(subcommand)]
    command: ActorsCommand,
}

#[derive(Debug, Subcommand)]
enum ActorsCommand {
    /// Lists actors: what runs, since when, how many wait, and for what
    List {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        output: Output,
        #[command(flatten)]
        proxy_args: ProxyArgs,
    },
    /// Ends calls: one that runs loses its connection to its host, and keeps no state
    Cancel {
        #[command(flatten)]
        change: Change,
        /// Which calls
        #[arg(long, value_enum, default_value = "running")]
        what: What,
        /// This turn only, by its number in the list
        #[arg(long, value_name = "NUMBER", conflicts_with = "what")]
        turn: Option<u64>,
    },
    /// Runs nothing of these actors until they are resumed, also after restarts
    Pause {
        #[command(flatten)]
        change: Change,
    },
    /// Ends pauses
    Resume {
        #[command(flatten)]
        change: Change,
    },
    /// Takes actors out of memory, once their last change is durable
    Deactivate {
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The call that runs
    Running,
    /// Those that wait
    Queued,
    /// Both
    All,
}

/// Which actors.
#[derive(Debug, Args)]
struct Filter {
    /// This actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: Option<ActorName>,
    /// Of this system
    #[arg(long, conflicts_with = "actor")]
    system: Option<String>,
    /// Of this kind: named, unnamed, pooled, proxy or task
    #[arg(long)]
    kind: Option<String>,
    /// Registered with this definition, or spawned from it
    #[arg(long)]
    definition: Option<String>,
    /// With a host at this address, as the list shows it
    #[arg(long)]
    host: Option<String>,
    /// Paused
    #[arg(long)]
    paused: bool,
    /// With a call that has run, or waited, for at least so long, such as 10s or 5m
    #[arg(long, value_name = "TIME")]
    stuck: Option<String>,
    /// In memory (live), or not (stored)
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Not used for at least so long
    #[arg(long, value_name = "TIME")]
    unused: Option<String>,
    /// With at least so many turns that wait
    #[arg(long, value_name = "TURNS")]
    mailbox: Option<String>,
    /// A call of it has failed, as far as that is remembered
    #[arg(long)]
    failed: bool,
    /// With this in the text of its last error
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

/// Which actors, and whether to change them.
#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    filter: Filter,
    /// Every actor of the proxy
    #[arg(long)]
    all: bool,
    /// Changes what a filter matches without asking first. One actor that is named needs none
    #[arg(long)]
    yes: bool,
    /// Counts what would be changed, and changes nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Filter {
    fn query(&self) -> Query {
        let (system, name) = match &self.actor {
            Some(ActorName { system, name }) => (Some(system), Some(name)),
            None => (self.system.as_ref(), None),
        };
        Query::default()
            .with("system", system.map(String::as_str))
            .with("name", name.map(String::as_str))
            .with("kind", self.kind.as_deref())
            .with("definition", self.definition.as_deref())
            .with("host", self.host.as_deref())
            .with("paused", self.paused.then_some("true"))
            .with("stuck", self.stuck.as_deref())
            .with("state", self.state.as_deref())
            .with("unused", self.unused.as_deref())
            .with("mailbox", self.mailbox.as_deref())
            .with("failed", self.failed.then_some("true"))
            .with("error", self.error.as_deref())
    }
}

impl Actors {
    pub(super) async fn run(self) -> Result<ExitCode, StartError> {
        match self.command {
            ActorsCommand::List { filter, output, proxy_args } => {
                list(&filter, output.is_json(), &proxy_args).await
            }
            ActorsCommand::Cancel { change, what, turn } => {
                let what = what.to_possible_value().map(|what| what.get_name().to_owned());
                let which = match turn {
                    Some(turn) => ("turn", turn.to_string()),
                    None => ("what", what.unwrap_or_default()),
                };
                change.run(("cancel", "cancelled"), Some(which)).await
            }
            ActorsCommand::Pause { change } => change.run(("pause", "paused"), None).await,
            ActorsCommand::Resume { change } => change.run(("resume", "resumed"), None).await,
            ActorsCommand::Deactivate { change } => {
                change.run(("deactivate", "deactivated"), None).await
            }
        }
    }
}

async fn list(filter: &Filter, json: bool, proxy: &ProxyArgs) -> Result<ExitCode, StartError> {
    let client = Client::new(proxy)?;
    let mut next: Option<String> = None;
    let mut is_first = true;
    loop {
        let path = format!("/api/v1/actors?{}", filter.query().with("next", next.as_deref()));
        let body = client.send(Method::GET, &path).await.map_err(anyhow::Error::from)?;
        let page: ActorList = read(&body)?;
        let mut text = String::new();
        for actor in &page.actors {
            if json {
                text += &serde_json::to_string(actor).map_err(anyhow::Error::from)?;
                text.push('\n');
            } else {
                text += &shown(actor);
            }
        }
        if is_first && page.actors.is_empty() && !json {
            text += "no actor matches\n";
        }
        print(&text)?;
        is_first = false;
        next = page.next;
        if next.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// An actor, and what it does, in a few lines.
fn shown(actor: &Listed) -> String {
    let Listed { system, name, kind, definition, host, queued, .. } = actor;
    let member = actor.member.as_ref().map(|member| format!(" ({member})")).unwrap_or_default();
    let memory = if actor.active { "in memory" } else { "not in memory" };
    let queued = if *queued > 0 { format!(", {queued} queued") } else { String::new() };
    let paused = actor.paused.as_ref();
    let paused = paused.map(|pause| format!(", paused since {} by {}", pause.since, pause.by));
    let paused = paused.unwrap_or_default();
    let turns = [("runs", &actor.running), ("first waits", &actor.waiting)];
    let turns = turns.iter().filter_map(|(what, turn)| Some((what, turn.as_ref()?)));
    let turns: Vec<_> =
        turns.map(|(what, turn)| format!("  {what}: {}\n", of_turn(turn))).collect();
    let turns = turns.concat();
    let error = actor.last_error.as_ref();
    let error = error
        .map(|last| format!("  last error, {} ago: {}\n", seconds(last.ago_ms), last.text))
        .unwrap_or_default();
    format!(
        "{system}/{name}{member}  {kind} {definition} at {host}, {memory}{queued}{paused}\n{turns}{error}"
    )
}

fn of_turn(turn: &ListedTurn) -> String {
    let ListedTurn { turn: number, kind, action, for_ms, blocked_on, blocked_for_ms } = turn;
    let name = if action.is_empty() { kind } else { action };
    let blocked_for = seconds(blocked_for_ms.unwrap_or_default());
    let blocked = blocked_on.as_ref().map(|on| format!(", blocked on {on} for {blocked_for}"));
    format!("turn {number} {name} for {}{}", seconds(*for_ms), blocked.unwrap_or_default())
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03} s", millis / 1_000, millis % 1_000)
}

impl Change {
    async fn run(
        self,
        (verb, done): (&str, &str),
        which: Option<(&str, String)>,
    ) -> Result<ExitCode, StartError> {
        let client = Client::new(&self.proxy_args)?;
        let mut query = self.filter.query().with("all", self.all.then_some("true"));
        if let Some((name, value)) = &which {
            query = query.with(name, Some(value));
        }
        let is_asked = self.filter.actor.is_none() && !self.yes;
        if self.dry_run || is_asked {
            let counted = change_all(&client, verb, &query, true).await?;
            print(&format!("{} actors match\n", counted.matched))?;
            if self.dry_run || counted.matched == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            confirm(&format!("{verb} {} actors", counted.matched))?;
        }
        let changed = change_all(&client, verb, &query, false).await?;
        let Counted { matched, changed, removed, told, failed, .. } = changed;
        let calls = if verb == "cancel" {
            format!(": {told} calls that ran, {removed} that waited")
        } else {
            String::new()
        };
        print(&format!("{done} {changed} of {matched} actors{calls}\n"))?;
        Ok(ExitCode::from(u8::from(failed > 0)))
    }
}

/// Changes, or counts, actors from the first to the last one.
async fn change_all(
    client: &Client,
    verb: &str,
    query: &Query,
    is_dry_run: bool,
) -> Result<Counted, StartError> {
    let query = query.clone().with("dry_run", is_dry_run.then_some("true"));
    let mut all = Counted::default();
    loop {
        let query = query.clone().with("next", all.next.as_deref());
        let path = format!("/api/v1/actors/{verb}?{query}");
        let body = client.send(Method::POST, &path).await.map_err(anyhow::Error::from)?;
        let page: Counted = read(&body)?;
        all.matched += page.matched;
        all.changed += page.changed;
        all.removed += page.removed;
        all.told += page.told;
        all.failed += page.failed;
        for error in &page.errors {
            say(error);
        }
        all.next = page.next;
        if all.next.is_none() {
            return Ok(all);
        }
    }
}
