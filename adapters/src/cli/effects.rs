//! `tidegate effects`: shows what outboxes of a running proxy hold, and delivers dead letters again or drops them.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use http::Method;
use tidegate_stages::outbox::EffectId;
use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs, read};
use super::confirm::confirm;
use super::decode::one_line;
use super::output::Output;
use super::query::{Query, encoded};
use super::{print, print_json, say};
use crate::app::StartError;
use crate::clock::SystemClock;
use crate::config::{Kind, Value};
use crate::moment;
use crate::wire::{Effect, EffectListing, LettersChanged};

const PATH: &str = "/api/v1/effects";
/// Effects in one request.
const PAGE: u32 = 1_000;
/// The longest age that can be asked for, in milliseconds.
const MOST_AGE: u64 = 100 * 365 * 24 * 3_600_000;

const EXAMPLES: &str = "\
Examples:
  tidegate effects list --dead
  tidegate effects show shop/cart-7/3.17.2048
  tidegate effects retry shop/cart-7/3.17.2048
  tidegate effects retry --target 'shop/invoice-*' --dry-run
  tidegate effects drop --reason 'not found' --older-than 7d --yes";

/// Shows side effects that are not delivered, and delivers dead letters again or drops them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Effects {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Lists pending effects and dead letters, by source
    List(List),
    /// Shows one of them
    Show(Show),
    /// Delivers dead letters again, as new effects of their sources
    Retry(Change),
    /// Removes dead letters for good
    Drop(Change),
}

/// Which effects.
#[derive(Debug, Args)]
struct Filter {
    /// Only those of this actor; one * stands for any characters
    #[arg(long, value_name = "SYSTEM/ACTOR")]
    source: Option<String>,
    /// Only those for this actor; one * stands for any characters
    #[arg(long, value_name = "SYSTEM/ACTOR")]
    target: Option<String>,
    /// Only those that run this action
    #[arg(long)]
    action: Option<String>,
    /// Only dead letters whose reason has this in it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those that have been dead, or pending, for so long, such as 90m or 7d
    #[arg(long, value_name = "TIME", value_parser = age)]
    older_than: Option<Duration>,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// Only dead letters
    #[arg(long, conflicts_with = "pending")]
    dead: bool,
    /// Only effects that are still tried
    #[arg(long)]
    pending: bool,
    /// Most effects to list
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Continues after an earlier page: its value of `next`
    #[arg(long, value_name = "NEXT")]
    next: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

#[derive(Debug, Args)]
struct Show {
    /// Which effect, as `list` and the log name it
    #[arg(value_name = "SYSTEM/ACTOR/NUMBER")]
    id: EffectName,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Change {
    /// Which dead letter, as `list` and the log name it
    #[arg(value_name = "SYSTEM/ACTOR/NUMBER", conflicts_with_all = ["source", "target", "action", "reason", "older_than", "all"])]
    id: Option<EffectName>,
    #[command(flatten)]
    filter: Filter,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// Only counts them
    #[arg(long)]
    dry_run: bool,
    /// Changes what is chosen without asking first. One dead letter that is named needs none
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

/// An effect, as SYSTEM/ACTOR/NUMBER.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EffectName {
    source: ActorName,
    id: EffectId,
}

impl FromStr for EffectName {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let wrong =
            || "an effect must be given as SYSTEM/ACTOR/NUMBER, as list shows it".to_owned();
        let (source, id) = given.rsplit_once('/').ok_or_else(wrong)?;
        Ok(Self { source: source.parse().map_err(|_| wrong())?, id: id.parse()? })
    }
}

fn age(given: &str) -> Result<Duration, String> {
    match (Kind::Time { min: 0, max: MOST_AGE }).parse(given)? {
        Value::Time(age) => Ok(age),
        other => Err(format!("must be a time, not {other}")),
    }
}

impl Filter {
    fn query(&self) -> Query {
        let before = self.older_than.map(|age| {
            let age = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            moment::show(Timestamp(SystemClock.now().0.saturating_sub(age)))
        });
        Query::default()
            .with("source", self.source.as_deref())
            .with("target", self.target.as_deref())
            .with("action", self.action.as_deref())
            .with("reason", self.reason.as_deref())
            .with("before", before.as_deref())
    }

    fn is_empty(&self) -> bool {
        let Self { source, target, action, reason, older_than } = self;
        let is_named = source.is_some() || target.is_some() || action.is_some();
        !is_named && reason.is_none() && older_than.is_none()
    }
}

impl Effects {
    pub(super) async fn run(self) -> Result<(), StartError> {
        match self.what {
            What::List(list) => list.run().await,
            What::Show(show) => show.run().await,
            What::Retry(change) => change.run("retry", "to be delivered again").await,
            What::Drop(change) => change.run("drop", "dropped").await,
        }
    }
}

impl List {
    async fn run(self) -> Result<(), StartError> {
        let client = Client::new(&self.proxy_args)?;
        let state = match (self.dead, self.pending) {
            (true, _) => Some("dead"),
            (_, true) => Some("pending"),
            _ => None,
        };
        let query = self.filter.query().with("state", state);
        let mut all = EffectListing { effects: Vec::new(), next: self.next.clone() };
        loop {
            let left = u64::from(self.limit) - all.effects.len() as u64;
            let limit = left.min(u64::from(PAGE)).to_string();
            let query = query.clone().with("limit", Some(&limit));
            let query = query.with("next", all.next.as_deref());
            let page: EffectListing = ask(&client, Method::GET, &format!("{PATH}?{query}")).await?;
            all.next = page.next;
            all.effects.extend(page.effects);
            if all.next.is_none() || all.effects.len() as u64 >= u64::from(self.limit) {
                break;
            }
        }
        if self.output.is_json() {
            return print_json(&all);
        }
        print(&table(&all.effects))?;
        if let Some(next) = &all.next {
            say(&format!("more follow: --next {next}"));
        }
        Ok(())
    }
}

impl Show {
    async fn run(self) -> Result<(), StartError> {
        let client = Client::new(&self.proxy_args)?;
        let effect: Effect = ask(&client, Method::GET, &path_of(&self.id)).await?;
        if self.output.is_json() {
            return print_json(&effect);
        }
        let mut text = one_line(&effect.id) + "\n";
        let attempts = effect.attempts.map(|attempts| attempts.to_string());
        let bytes = effect.bytes.to_string();
        for (name, value) in [
            ("source", Some(effect.source.as_str())),
            ("target", Some(effect.target.as_str())),
            ("action", Some(effect.action.as_str())),
            ("state", Some(effect.state.as_str())),
            ("emitted at", Some(effect.emitted_at.as_str())),
            ("bytes", Some(bytes.as_str())),
            ("attempts", attempts.as_deref()),
            ("died at", effect.died_at.as_deref()),
            ("reason", effect.reason.as_deref()),
        ] {
            if let Some(value) = value {
                writeln!(text, "  {name:<10} {}", one_line(value)).context("a text takes it")?;
            }
        }
        print(&text)
    }
}

impl Change {
    async fn run(self, change: &str, done: &str) -> Result<(), StartError> {
        let client = Client::new(&self.proxy_args)?;
        if let Some(id) = &self.id {
            return self.change_one(&client, id, change, done).await;
        }
        if self.filter.is_empty() && !self.all {
            let text = "nothing is done: name a dead letter, choose some by --source, --target, --action, --reason or \
                        --older-than, or say --all";
            return Err(anyhow!(text).into());
        }
        let query = self.filter.query().with("all", self.all.then_some("true"));
        let counted = change_all(&client, change, &query, true).await?;
        if self.dry_run || counted.matched == 0 {
            return self.counted(&counted);
        }
        if !self.yes {
            confirm(&format!("{change} {}", letters(counted.matched)))?;
        }
        let changed = change_all(&client, change, &query, false).await?;
        if self.output.is_json() { print_json(&changed) } else { print(&told(&changed, done)) }
    }

    /// Says how many there are.
    fn counted(&self, counted: &LettersChanged) -> Result<(), StartError> {
        if self.output.is_json() {
            return print_json(counted);
        }
        print(&matching(counted.matched))
    }

    async fn change_one(
        &self,
        client: &Client,
        id: &EffectName,
        change: &str,
        done: &str,
    ) -> Result<(), StartError> {
        let path = path_of(id);
        if self.dry_run {
            let effect: Effect = ask(client, Method::GET, &path).await?;
            let matched = u64::from(effect.state == "dead");
            return self.counted(&LettersChanged { matched, ..LettersChanged::default() });
        }
        let (method, path) = match change {
            "drop" => (Method::DELETE, path),
            change => (Method::POST, format!("{path}/{change}")),
        };
        let changed: LettersChanged = ask(client, method, &path).await?;
        if self.output.is_json() { print_json(&changed) } else { print(&told(&changed, done)) }
    }
}

/// Changes, or counts, dead letters from the first to the last one.
async fn change_all(
    client: &Client,
    change: &str,
    query: &Query,
    is_dry_run: bool,
) -> Result<LettersChanged, StartError> {
    let query = query.clone().with("dry_run", is_dry_run.then_some("true"));
    let mut all = LettersChanged::default();
    loop {
        let query = query.clone().with("next", all.next.as_deref());
        let asked = ask(client, Method::POST, &format!("{PATH}/{change}?{query}")).await;
        let part: LettersChanged = asked.map_err(|error| match error {
            StartError::Other(error) if all.done > 0 => {
                StartError::Other(error.context(format!("broken off after {}", letters(all.done))))
            }
            error => error,
        })?;
        all.matched += part.matched;
        all.done += part.done;
        all.full += part.full;
        all.unregistered += part.unregistered;
        all.next = part.next;
        if all.next.is_none() {
            return Ok(all);
        }
    }
}

fn told(changed: &LettersChanged, done: &str) -> String {
    let mut text = format!("{} {done}\n", letters(changed.done));
    for (count, why) in [
        (changed.full, "their sources have too many undelivered effects"),
        (changed.unregistered, "their sources are not registered"),
    ] {
        if count > 0 {
            text.extend([letters(count).as_str(), " left: ", why, "\n"]);
        }
    }
    text
}

fn matching(count: u64) -> String {
    format!("{} {}\n", letters(count), if count == 1 { "matches" } else { "match" })
}

fn letters(count: u64) -> String {
    if count == 1 { "1 dead letter".into() } else { format!("{count} dead letters") }
}

fn path_of(EffectName { source, id }: &EffectName) -> String {
    let (system, name) = (encoded(&source.system), encoded(&source.name));
    format!("/api/v1/system/{system}/actors/{name}/effects/{id}")
}

async fn ask<T: serde::de::DeserializeOwned>(
    client: &Client,
    method: Method,
    path: &str,
) -> Result<T, StartError> {
    let answer = client.send(method, path).await.map_err(anyhow::Error::from)?;
    Ok(read(&answer)?)
}

fn table(effects: &[Effect]) -> String {
    let mut text = format!("{:<7}  {:<27}  EFFECT\n", "STATE", "SINCE");
    for effect in effects {
        let since = effect.died_at.as_ref().unwrap_or(&effect.emitted_at);
        let Effect { id, state, target, action, .. } = effect;
        let line = format!("{state:<7}  {since:<27}  {id}  {action} of {target}");
        text += &one_line(&line);
        if let Some(reason) = &effect.reason {
            text.extend([": ", &one_line(reason)]);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_effect_is_named_as_metadata_and_log_name_it() {
        let name: EffectName = "s/a/b/3.17.2048".parse().unwrap();
        assert_eq!((name.source.to_string().as_str(), name.id.number), ("s/a/b", 2048));
        assert_eq!(path_of(&name), "/api/v1/system/s/actors/a%2Fb/effects/3.17.2048");
        for wrong in ["", "3.17.2048", "s/3.17.2048", "s/a/3.17", "s/a"] {
            assert!(wrong.parse::<EffectName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_dead_letter_matches_and_others_match() {
        assert_eq!(matching(0), "0 dead letters match\n");
        assert_eq!(matching(1), "1 dead letter matches\n");
        assert_eq!(matching(2), "2 dead letters match\n");
    }

    #[test]
    fn an_age_is_written_as_in_settings() {
        assert_eq!(age("7d"), Ok(Duration::from_hours(7 * 24)));
        assert!(age("yesterday").is_err());
    }
}
