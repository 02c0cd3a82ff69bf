//! `tidegate state` and `tidegate history`: an actor's current state, former states and revisions.

use std::path::PathBuf;

use clap::Args;
use tidegate_stages::state::Timestamp;

use super::actor::{self, ActorName, Which};
use super::client::ProxyArgs;
use super::decode::{Decoder, one_line};
use super::output::Output;
use super::query::Query;
use super::source::Source;
use super::{print, print_json, say};
use crate::app::StartError;
use crate::moment;
use crate::wire::{Entry, Listing};

/// Revisions in one request.
const PAGE: usize = 1_000;

const STATE_EXAMPLES: &str = "\
Examples:
  tidegate state shop/cart-7
  tidegate state shop/cart-7 --at 2026-01-31T12:00:00Z
  tidegate state shop/cart-7 --revision 12 --descriptor shop.binpb";

/// Shows an actor's state.
#[derive(Debug, Args)]
#[command(after_help = STATE_EXAMPLES)]
pub(super) struct State {
    /// The actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    /// The state at that time: RFC 3339 or Unix milliseconds
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with = "revision")]
    at: Option<Timestamp>,
    /// The state of that revision
    #[arg(long, value_name = "NUMBER", value_parser = actor::revision)]
    revision: Option<u64>,
    #[command(flatten)]
    output: Output,
    /// A file with a `FileDescriptorSet` that describes the types of states
    #[arg(long, value_name = "FILE")]
    descriptor: Option<PathBuf>,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl State {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let decoder = Decoder::new(self.descriptor.as_deref())?;
        let which = match (self.at, self.revision) {
            (Some(at), _) => Which::At(at),
            (None, Some(number)) => Which::Revision(number),
            (None, None) => Which::Latest,
        };
        let mut source = Source::new(&self.proxy_args)?;
        let asked = source.entry(&self.actor, which).await;
        source.close().await;
        let entry = asked?;
        if self.output.is_json() {
            return print_json(&entry);
        }
        print(&shown(&self.actor, &entry, which, &decoder))
    }
}

fn shown(actor: &ActorName, entry: &Entry, which: Which, decoder: &Decoder) -> String {
    let mut lines = vec![one_line(&actor.to_string())];
    let mut fact =
        |name: &str, value: &str| lines.push(format!("  {name:<10} {}", one_line(value)));
    fact("revision", &entry.revision.to_string());
    fact("at", entry.at.as_deref().unwrap_or("-"));
    fact("status", &entry.status);
    if let (Some(exact), Which::At(_)) = (entry.exact, which) {
        fact(
            "exact",
            if exact { "yes" } else { "no: the history may lack changes up to that time" },
        );
    }
    fact("tags", &tags(entry));
    match &entry.state {
        None => fact("state", "none"),
        Some(state) => {
            let shown = decoder.show(state);
            let bytes = state.value.len();
            let why = shown.why_hex.map(|why| format!(", in hex: {why}")).unwrap_or_default();
            fact("state", &format!("{} ({bytes} bytes{why})", state.type_url));
            lines.extend(shown.lines);
        }
    }
    lines.join("\n") + "\n"
}

/// Formats tags as one line.
pub(super) fn tags(entry: &Entry) -> String {
    let pairs: Vec<_> =
        entry.tags.iter().map(|(key, value)| format!("{key:?}: {value:?}")).collect();
    if pairs.is_empty() { "none".into() } else { pairs.join(", ") }
}

const HISTORY_EXAMPLES: &str = "\
Examples:
  tidegate history shop/cart-7
  tidegate history shop/cart-7 --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z --limit 500";

/// Lists an actor's revisions.
#[derive(Debug, Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(super) struct History {
    /// The actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    /// No revision before this time: RFC 3339 or Unix milliseconds
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    from: Option<Timestamp>,
    /// No revision after this time
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    to: Option<Timestamp>,
    /// Most revisions to list
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

impl History {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let mut source = Source::new(&self.proxy_args)?;
        let asked = self.ask(&mut source).await;
        source.close().await;
        let listing = asked?;
        if self.output.is_json() {
            return print_json(&listing);
        }
        print(&table(&listing))?;
        if let Some(next) = &listing.next {
            say(&format!("more follow: --next {next}"));
        }
        Ok(())
    }

    async fn ask(&self, source: &mut Source) -> Result<Listing, StartError> {
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut all = Listing { revisions: Vec::new(), next: self.next.clone() };
        loop {
            let query = self.query((wanted - all.revisions.len()).min(PAGE), all.next.as_deref());
            let page = source.listing(&self.actor, &query).await?;
            all.next = page.next;
            all.revisions.extend(page.revisions);
            if all.next.is_none() || all.revisions.len() >= wanted {
                return Ok(all);
            }
        }
    }

    fn query(&self, limit: usize, next: Option<&str>) -> String {
        let (from, to) = (self.from.map(moment::show), self.to.map(moment::show));
        Query::default()
            .with("limit", Some(&limit.to_string()))
            .with("from", from.as_deref())
            .with("to", to.as_deref())
            .with("next", next)
            .to_string()
    }
}

fn table(listing: &Listing) -> String {
    let mut text =
        format!("{:>10}  {:<27}  {:<11}  {:>9}  TYPE\n", "REVISION", "AT", "STATUS", "BYTES");
    for entry in &listing.revisions {
        let (bytes, kind) = entry.state.as_ref().map_or((0, "none"), |state| {
            (state.value.len(), state.type_url.rsplit('/').next().unwrap_or_default())
        });
        let at = entry.at.as_deref().unwrap_or("-");
        let line =
            format!("{:>10}  {at:<27}  {:<11}  {bytes:>9}  {kind}", entry.revision, entry.status);
        text += &one_line(&line);
        if !entry.tags.is_empty() {
            text.extend(["  ", &tags(entry)]);
        }
        text.push('\n');
    }
    text
}
