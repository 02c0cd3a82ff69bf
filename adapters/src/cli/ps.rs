//! `tidegate ps`: what runs: systems, hosts and the busiest actors of a running proxy.

use clap::Args;
use http::Method;

use super::client::{Client, ProxyArgs, read};
use super::output::Output;
use super::{print, print_json};
use crate::app::StartError;
use crate::ingress::control::{Line, Listed, SummaryBody};
use crate::terminal::{Colours, table};

/// Shows the systems, hosts and busiest actors of a running proxy, with counts
#[derive(Debug, Args)]
pub(super) struct Ps {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Ps {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let summary = ask(&Client::new(&self.proxy_args)?).await?;
        if self.output.is_json() {
            return print_json(&summary);
        }
        let colours = Colours::of_stdout();
        let SummaryBody { systems, hosts, busiest } = &summary;
        let mut text = lines("SYSTEM", systems, colours) + "\n" + &lines("HOST", hosts, colours);
        if !busiest.is_empty() {
            text += &("\n".to_owned() + &actors(busiest, busiest.len(), colours));
        }
        print(&text)
    }
}

pub(super) async fn ask(client: &Client) -> Result<SummaryBody, StartError> {
    let asked = client.send(Method::GET, "/api/v1/summary").await;
    Ok(read(&asked.map_err(anyhow::Error::from)?)?)
}

fn lines(what: &str, lines: &[Line], colours: Colours) -> String {
    let row = |line: &Line| {
        let Line { name, actors, in_memory, running, queued, paused } = line;
        let name = if name.is_empty() { "(others)" } else { name };
        let counts = [actors, in_memory, running, queued, paused].map(ToString::to_string);
        [&[name.to_owned()], &counts[..]].concat()
    };
    let rows: Vec<_> = lines.iter().map(row).collect();
    table(&[what, "ACTORS", "IN MEMORY", "RUNNING", "WAITING", "PAUSED"], &rows, colours)
}

/// The busiest actors, at most so many.
pub(super) fn actors(busiest: &[Listed], most: usize, colours: Colours) -> String {
    let row = |actor: &Listed| {
        let Listed { system, name, queued, running, waiting, .. } = actor;
        let runs = running.as_ref().map(|turn| format!("{} {} ms", turn.action, turn.for_ms));
        let turn = running.iter().chain(waiting).find_map(|turn| turn.blocked_on.clone());
        vec![
            format!("{system}/{name}"),
            queued.to_string(),
            runs.unwrap_or_default(),
            turn.unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = busiest.iter().take(most).map(row).collect();
    table(&["ACTOR", "WAITING", "RUNS", "BLOCKED ON"], &rows, colours)
}
