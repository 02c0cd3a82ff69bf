//! `tidegate delete`: removes an actor of a running proxy.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST};
use http::{Method, Request};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message;
use tokio::time::timeout;

use crate::config::{Config, Flags, Listen};
use crate::host::{Connection, Failed};
use crate::net::{Stream, UNIX_PREFIX};
use crate::proto::eigr::functions::protocol::SpawnResponse;

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// Removes an actor.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The actor, as SYSTEM/NAME
    #[arg(value_name = "SYSTEM/NAME")]
    actor: String,
    /// Where the proxy listens, as `host:port` or `unix:/path`; else the settings say so
    #[arg(long, value_name = "ADDRESS")]
    proxy: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

impl Delete {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Some((system, name)) = self.actor.split_once('/') else {
            bail!("the actor must be given as SYSTEM/NAME, not {:?}", self.actor);
        };
        let config = Config::load(&self.flags)?;
        let settings = config.settings()?;
        let address = self.proxy.clone().unwrap_or_else(|| match &settings.http.listen {
            Listen::Tcp(address) => format!("127.0.0.1:{}", address.port()),
            Listen::Unix(path) => format!("{UNIX_PREFIX}{}", path.display()),
        });
        let encoded = |name| utf8_percent_encode(name, NON_ALPHANUMERIC);
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = Method::DELETE;
        *request.uri_mut() =
            format!("/api/v1/system/{}/actors/{}", encoded(system), encoded(name)).parse()?;
        request.headers_mut().insert(HOST, "tidegate".parse()?);
        if let Some(token) = config.secret("TIDEGATE_ADMIN_TOKEN") {
            request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        }
        let asking = async {
            let stream = Stream::connect(&address).await?;
            let mut connection = Connection::new(stream).await?;
            let answered = connection.exchange(request, ANSWER_BYTES).await;
            answered.map_err(|failed| match failed {
                Failed::Unsent(_, reason) | Failed::Broken(reason) => anyhow::anyhow!(reason),
                Failed::TooLarge(limit) => {
                    anyhow::anyhow!("the answer is larger than {limit} bytes")
                }
            })
        };
        let reply = timeout(LIMIT, asking)
            .await
            .with_context(|| format!("no answer from {address} within {LIMIT:?}"))?
            .with_context(|| format!("cannot ask the proxy at {address}"))?;
        if !reply.status.is_success() {
            let status = SpawnResponse::decode(reply.body).ok().and_then(|answer| answer.status);
            let text = status.map(|status| status.message).unwrap_or_default();
            bail!("{} not deleted: HTTP {}: {text}", self.actor, reply.status.as_u16());
        }
        writeln!(std::io::stdout(), "deleted {}", self.actor)?;
        Ok(())
    }
}
