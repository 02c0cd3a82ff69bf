//! `tidegate top`: the stages of a running proxy, its busiest actors and its heaviest ones, each second anew.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use http::Method;
use tokio::time::{Instant, sleep};

use super::client::{Client, ProxyArgs};
use super::output::{Colours, table};
use super::{hot, print, ps};
use crate::app::StartError;

/// How often a frame is drawn.
const EVERY: Duration = Duration::from_secs(1);
/// Actors in a frame that have something to do.
const ACTORS: usize = 10;
/// The heaviest actors in a frame.
const HOT: u16 = 10;
/// Clears the screen and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Shows the stages of a running proxy, its busiest and its heaviest actors, each second anew, until Ctrl-C
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Prints one frame, with the rates of one second
    #[arg(long)]
    once: bool,
    /// By what the heaviest actors of the last one or two minutes are shown
    #[arg(long, value_enum, value_name = "MEASURE", default_value = "calls")]
    by: hot::By,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

/// What is scraped at one moment: the value of each series.
struct Seen {
    at: Instant,
    values: BTreeMap<String, f64>,
}

impl Top {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let client = Client::new(&self.proxy_args)?;
        let mut before = scrape(&client).await?;
        loop {
            sleep(EVERY).await;
            let now = scrape(&client).await?;
            let frame = frame(&client, (&before, &now), self.by).await?;
            if self.once {
                return print(&frame);
            }
            let is_terminal = std::io::stdout().is_terminal();
            print(&format!("{}{frame}", if is_terminal { CLEAR } else { "\n" }))?;
            before = now;
        }
    }
}

async fn scrape(client: &Client) -> Result<Seen, StartError> {
    let body = client.send(Method::GET, "/metrics").await.map_err(anyhow::Error::from)?;
    let text = String::from_utf8_lossy(&body);
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Ok(Seen { at: Instant::now(), values: series.collect() })
}

impl Seen {
    fn of(&self, name: &str, stage: &str) -> f64 {
        let series = format!("tidegate_{name}{{stage=\"{stage}\"}}");
        self.values.get(&series).copied().unwrap_or_default()
    }

    /// How much a counter has grown in a second.
    fn rate(&self, before: &Seen, name: &str, stage: &str) -> f64 {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        (self.of(name, stage) - before.of(name, stage)) / seconds
    }

    /// The values of a label of a metric.
    fn labels<'a>(&'a self, metric: &str, label: &str) -> Vec<(&'a str, f64)> {
        let (start, label) = (format!("tidegate_{metric}{{"), format!("{label}=\""));
        let found = self.values.iter().filter_map(|(series, value)| {
            let labels = series.strip_prefix(&start)?;
            let text = labels.split_once(&label)?.1;
            Some((text.split_once('"')?.0, *value))
        });
        found.collect()
    }
}

async fn frame(
    client: &Client,
    (before, now): (&Seen, &Seen),
    by: hot::By,
) -> Result<String, StartError> {
    let (summary, colours) = (ps::ask(client).await?, Colours::of_stdout());
    let sum = |of: fn(&crate::ingress::control::Line) -> usize| -> usize {
        summary.systems.iter().map(of).sum()
    };
    let mut text = format!(
        "{}: {} actors, {} in memory, {} run, {} turns wait\n\n",
        client.address,
        sum(|line| line.actors),
        sum(|line| line.in_memory),
        sum(|line| line.running),
        sum(|line| line.queued),
    );
    let row = |stage: &str| {
        let rates = ["demand_asked_total", "demand_granted_total", "calls_shed_total"]
            .map(|name| format!("{:.0}", now.rate(before, name, stage)));
        let counts = ["demand_events", "queued_events", "in_flight_events", "parked_events"]
            .map(|name| format!("{:.0}", now.of(name, stage)));
        let lost = format!("{:.0}", now.rate(before, "backpressure_seconds_total", stage));
        [&[stage.to_owned()], &rates[..2], &counts, &[lost]].concat()
    };
    let rows: Vec<_> =
        now.labels("demand_asked_total", "stage").iter().map(|(stage, _)| row(stage)).collect();
    let title =
        ["STAGE", "ASKED/S", "GRANTED/S", "FREE", "QUEUED", "IN FLIGHT", "PARKED", "LOST S/S"];
    text += &table(&title, &rows, colours);
    let mut waits: BTreeMap<&str, f64> = BTreeMap::new();
    for (reason, turns) in now.labels("blocked_turns", "reason") {
        *waits.entry(reason).or_default() += turns;
    }
    let waits = waits.into_iter().filter(|(_, turns)| *turns > 0.5);
    let rows: Vec<_> =
        waits.map(|(reason, turns)| vec![reason.to_owned(), format!("{turns:.0}")]).collect();
    if !rows.is_empty() {
        text += &("\n".to_owned() + &table(&["WAITS FOR", "TURNS"], &rows, colours));
    }
    if !summary.busiest.is_empty() {
        text += &("\n".to_owned() + &ps::actors(&summary.busiest, ACTORS, colours));
    }
    let hot = hot::ask(client, by, HOT).await?;
    if !hot.actors.is_empty() {
        text += &("\n".to_owned() + &hot::shown(&hot, colours));
    }
    Ok(text)
}
