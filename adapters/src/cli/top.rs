//! `tidegate top`: what holds calls up in a running proxy, its stages, its busiest actors and its heaviest ones, each second anew.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use http::Method;
use serde_json::Value;
use tokio::join;
use tokio::time::sleep;

use super::client::{Client, ProxyArgs, read};
use super::{hot, print, ps};
use crate::app::StartError;
use crate::terminal::Colours;
use crate::top::Scraped;

/// How often a frame is drawn.
const EVERY: Duration = Duration::from_secs(1);
/// How long what holds calls up may take to be told: without others who look, a second.
const HELD_LIMIT: Duration = Duration::from_secs(3);
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
        let mut admin = self.admin()?;
        let mut before = scrape(&client).await?;
        loop {
            let (held, ()) = join!(held(&mut admin), sleep(EVERY));
            let now = scrape(&client).await?;
            let frame = frame(&client, (&before, &now), self.by, held).await?;
            if self.once {
                return print(&frame);
            }
            let is_terminal = std::io::stdout().is_terminal();
            print(&format!("{}{frame}", if is_terminal { CLEAR } else { "\n" }))?;
            before = now;
        }
    }

    /// A client of what is asked for the flow: the address that is given, else the admin port, if there is one.
    fn admin(&self) -> Result<Option<Client>, StartError> {
        let mut admin = Client::new(&self.proxy_args)?;
        admin.limit = HELD_LIMIT;
        if !admin.is_given {
            if admin.settings.http.admin.is_none() {
                return Ok(None);
            }
            admin.ask_admin_port()?;
        }
        Ok(Some(admin))
    }
}

/// What holds calls up, in a sentence with the address of who says so: at the default admin port another proxy may be. An address
/// without an answer, as that of the API's port, is not asked again.
async fn held(admin: &mut Option<Client>) -> Option<String> {
    let client = admin.as_ref()?;
    let asked = client.send(Method::GET, "/admin/flow").await;
    let Ok(flow) = asked.map_err(anyhow::Error::from).and_then(|body| read::<Value>(&body)) else {
        *admin = None;
        return None;
    };
    let sentence = flow["bottleneck"]["sentence"].as_str()?;
    Some(format!("{} says: {sentence}", client.address))
}

async fn scrape(client: &Client) -> Result<Scraped, StartError> {
    let body = client.send(Method::GET, "/metrics").await.map_err(anyhow::Error::from)?;
    Ok(Scraped::read(&String::from_utf8_lossy(&body)))
}

async fn frame(
    client: &Client,
    (before, now): (&Scraped, &Scraped),
    by: hot::By,
    held: Option<String>,
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
    if let Some(sentence) = held {
        text += &(sentence + "\n\n");
    }
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
