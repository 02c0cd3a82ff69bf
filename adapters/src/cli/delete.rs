//! `tidegate delete`: removes an actor of a running proxy.

use clap::Args;
use http::Method;

use super::actor::ActorName;
use super::client::{Client, ProxyArgs};
use super::print;
use crate::app::StartError;

/// Removes an actor.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The actor
    #[arg(value_name = "SYSTEM/ACTOR")]
    actor: ActorName,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

impl Delete {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let Self { actor, proxy_args } = self;
        let client = Client::new(&proxy_args)?;
        let asked = client.ask(Method::DELETE, &actor, "").await.map_err(anyhow::Error::from);
        asked.map_err(|error| error.context(format!("{actor} not deleted")))?;
        print(&format!("deleted {actor}\n"))
    }
}
