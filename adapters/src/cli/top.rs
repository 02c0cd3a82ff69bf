//! `tidegate top`: the stages of a running proxy, its busiest actors and its heaviest ones, each second anew.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use http::Method;
use tokio::time::sleep;

use super::client::{Client, ProxyArgs};
use super::{hot, print, ps};
use crate::app::StartError;
use crate::terminal::Colours;
use crate::top::Scraped;

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

async fn scrape(client: &Client) -> Result<Scraped, StartError> {
    let body = client.send(Method::GET, "/metrics").await.map_err(anyhow::Error::from)?;
    Ok(Scraped::read(&String::from_utf8_lossy(&body)))
}

async fn frame(
    client: &Client,
    (before, now): (&Scraped, &Scraped),
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
    text += &now.stages(before, colours);
    if !summary.busiest.is_empty() {
        text += &("\n".to_owned() + &ps::actors(&summary.busiest, ACTORS, colours));
    }
    let hot = hot::ask(client, by, HOT).await?;
    if !hot.actors.is_empty() {
        text += &("\n".to_owned() + &hot::shown(&hot, colours));
    }
    Ok(text)
}
