//! `tidegate restore`: makes an older revision of an actor's state the current one.

use clap::Args;
use http::Method;

use super::actor::{self, ActorName};
use super::client::{Client, ProxyArgs, read};
use super::print;
use crate::app::StartError;
use crate::wire::Entry;

const EXAMPLES: &str = "\
It becomes a new revision, in its turn among the actor's calls: nothing of the history is lost.

Example:
  tidegate restore shop/cart-7 --revision 12";

/// Makes an older revision the current state.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Restore {
    /// The actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    /// The revision
    #[arg(long, value_name = "NUMBER", value_parser = actor::revision)]
    revision: u64,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Restore {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let Self { actor, revision, proxy_args } = self;
        let client = Client::new(&proxy_args)?;
        let rest = format!("/restore?revision={revision}");
        let asked = client.ask(Method::POST, &actor, &rest).await.map_err(anyhow::Error::from);
        let body = asked.map_err(|error| error.context(format!("{actor} not restored")))?;
        let entry: Entry = read(&body)?;
        print(&format!("restored {actor} to revision {revision}, as revision {}\n", entry.revision))
    }
}
