//! `tidegate diff`: the differences between two states, line by line.

mod lines;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::actor::{ActorName, Point, Which};
use super::client::ProxyArgs;
use super::decode::{Decoder, one_line};
use super::output::Output;
use super::source::Source;
use super::{print, print_json};
use crate::app::StartError;
use crate::wire::Entry;
use lines::Line;

const EXAMPLES: &str = "\
What follows the last @ is a revision when it is a number, a time when it is one in RFC 3339; without it the latest
durable state is meant. Tags and states are compared; revision, time and status are shown above. The exit code is 0
when they are equal and 1 when they differ.

Examples:
  tidegate diff shop/cart-7@12 shop/cart-7
  tidegate diff shop/cart-7@2026-01-31T12:00:00Z shop/cart-7@2026-01-31T13:00:00Z
  tidegate diff shop/cart-7 shop/cart-8 --descriptor shop.binpb";

/// Compares two states.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Diff {
    /// The first state: an actor, optionally at a revision or a time
    #[arg(value_name = "SYSTEM/ACTOR[@REVISION|@TIME]")]
    a: Point,
    /// The second state
    #[arg(value_name = "SYSTEM/ACTOR[@REVISION|@TIME]")]
    b: Point,
    /// A file with a `FileDescriptorSet` that describes the types of states
    #[arg(long, value_name = "FILE")]
    descriptor: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Diff {
    pub(super) async fn run(self) -> Result<ExitCode, StartError> {
        let decoder = Decoder::new(self.descriptor.as_deref())?;
        let mut source = Source::new(&self.proxy_args)?;
        let asked = both(&mut source, &self.a, &self.b).await;
        source.close().await;
        let (a, b) = asked?;
        let (old, new) = (content(&a, &decoder), content(&b, &decoder));
        let are_equal = old == new;
        let compared = if are_equal { Vec::new() } else { lines::compare(&old, &new) };
        let marked = compared.into_iter().map(|line| match line {
            Line::Both(line) => (' ', line),
            Line::Old(line) => ('-', line),
            Line::New(line) => ('+', line),
        });
        if self.output.is_json() {
            let side = |Point { actor: ActorName { system, name }, .. }: &Point, entry: &Entry| {
                let Entry { revision, at, status, exact, .. } = entry;
                json!({
                    "system": system, "actor": name,
                    "revision": revision, "at": at, "status": status, "exact": exact,
                })
            };
            let lines: Vec<_> =
                marked.map(|(mark, line)| json!({ "mark": mark, "text": line })).collect();
            let (a, b) = (side(&self.a, &a), side(&self.b, &b));
            print_json(&json!({ "equal": are_equal, "a": a, "b": b, "lines": lines }))?;
        } else {
            let mut text = header("---", &self.a, &a) + &header("+++", &self.b, &b);
            for (mark, line) in marked {
                text.push(mark);
                text.extend([line, "\n"]);
            }
            print(&text)?;
        }
        Ok(if are_equal { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

async fn both(source: &mut Source, a: &Point, b: &Point) -> Result<(Entry, Entry), StartError> {
    let first = source.entry(&a.actor, a.which).await?;
    Ok((first, source.entry(&b.actor, b.which).await?))
}

fn header(mark: &str, Point { actor, which }: &Point, entry: &Entry) -> String {
    let ActorName { system, name } = actor;
    let at = entry.at.as_deref().unwrap_or("-");
    let exact = match (which, entry.exact) {
        (Which::At(_), Some(false)) => ", not exact",
        _ => "",
    };
    let (revision, status) = (entry.revision, &entry.status);
    one_line(&format!("{mark} {system}/{name}  revision {revision}, {at}, {status}{exact}")) + "\n"
}

/// Returns the lines to compare.
fn content(entry: &Entry, decoder: &Decoder) -> Vec<String> {
    let mut lines: Vec<String> = entry
        .tags
        .iter()
        .map(|(key, value)| one_line(&format!("tag {key:?}: {value:?}")))
        .collect();
    let Some(state) = &entry.state else {
        lines.push("no state".into());
        return lines;
    };
    let shown = decoder.show(state);
    let form = if shown.why_hex.is_some() { ", in hex" } else { "" };
    lines.push(one_line(&format!("type {}{form}", state.type_url)));
    lines.extend(shown.lines);
    lines
}
