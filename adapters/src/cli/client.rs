//! Client: sends requests over HTTP to the running proxy, at the address in the settings.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use prost::Message;
use tokio::time::timeout;

use super::actor::ActorName;
use super::query::encoded;
use crate::app::StartError;
use crate::config::{Config, Flags, Listen, Settings};
use crate::host::{Connection, Failed, Reading, Reply};
use crate::net::{Stream, UNIX_PREFIX};
use crate::proto::eigr::functions::protocol::SpawnResponse;
use crate::tls::{Channel, ProxyTls};

/// Time limit of a whole request, unless it says another one.
const LIMIT: Duration = Duration::from_secs(30);
/// Largest response body beside the states in it, in bytes.
const ANSWER_BYTES: usize = 32 << 20;

/// The address of the proxy, and the settings.
#[derive(Debug, Args)]
pub(super) struct ProxyArgs {
    /// Where the proxy listens, as `host:port`, `https://host:port` or `unix:/path`; by default as the settings say
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    proxy: Option<String>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// Checks the form of an address, not whether somebody listens there.
fn address(given: &str) -> Result<String, String> {
    let is_address = if let Some(path) = given.strip_prefix(UNIX_PREFIX) {
        !path.is_empty()
    } else {
        let authority = given.strip_prefix(HTTPS).map(|rest| rest.trim_end_matches('/'));
        let (host, port) = authority.unwrap_or(given).rsplit_once(':').unwrap_or_default();
        let is_host = !host.is_empty()
            && host.chars().all(|sign| sign.is_alphanumeric() || "-._:%[]".contains(sign));
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let wrong = || format!("must be host:port, {HTTPS}host:port or {UNIX_PREFIX}/path");
    if is_address { Ok(given.to_owned()) } else { Err(wrong()) }
}

/// A client of the proxy.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) settings: Settings,
    pub(super) address: String,
    /// Whether the address was given on the command line. Then the user means that proxy and no store.
    pub(super) is_given: bool,
    /// Time limit of a whole request.
    pub(super) limit: Duration,
    /// A header of each request.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    token: Option<String>,
    /// `None`: it asks in the clear.
    tls: Option<ProxyTls>,
}

/// How an address begins at which TLS is spoken.
const HTTPS: &str = "https://";

/// Why there is no response.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// No process listens at the address.
    Nobody(anyhow::Error),
    /// Any other error.
    Other(anyhow::Error),
}

/// A proxy that starts or ends was asked whether it is ready.
#[derive(Debug, thiserror::Error)]
#[error("HTTP 503: the proxy starts or ends")]
pub(super) struct NotReady;

impl From<Unanswered> for anyhow::Error {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Nobody(error) | Unanswered::Other(error) => error,
        }
    }
}

impl Client {
    /// Reads the settings.
    ///
    /// # Errors
    /// When the settings are wrong, or certificates cannot be used.
    pub(super) fn new(proxy_args: &ProxyArgs) -> Result<Self, StartError> {
        let config = Config::load(&proxy_args.flags)?;
        let settings = config.settings()?;
        let own = settings.http.tls.as_ref().map(|files| &files.certificate);
        let own = own.filter(|_| proxy_args.proxy.is_none());
        let address = proxy_args.proxy.clone().unwrap_or_else(|| match &settings.http.listen {
            Listen::Tcp(address) => {
                let scheme = if own.is_some() { HTTPS } else { "" };
                format!("{scheme}{}", from_here(*address))
            }
            Listen::Unix { path, .. } => format!("{UNIX_PREFIX}{}", path.display()),
        });
        let tls = address.starts_with(HTTPS).then(|| ProxyTls::new(&settings.proxy_tls, own));
        let (tls, token) = (tls.transpose()?, config.secret("TIDEGATE_ADMIN_TOKEN"));
        Ok(Self {
            settings,
            address,
            is_given: proxy_args.proxy.is_some(),
            limit: LIMIT,
            header: None,
            token,
            tls,
        })
    }

    /// Asks the admin port of the settings instead of the port of the API.
    pub(super) fn ask_admin_port(&mut self) -> Result<(), StartError> {
        let Some(admin) = &self.settings.http.admin else {
            let text = "TIDEGATE_ADMIN_ADDRESS is off: there is no admin port to be asked";
            return Err(StartError::Usage(text.into()));
        };
        let scheme = if self.tls.is_some() { HTTPS } else { "" };
        self.address = format!("{scheme}{}", from_here(admin.address));
        Ok(())
    }

    /// Connects, with TLS where the address asks for it.
    async fn connect(&self) -> Result<Channel<Stream>, Unanswered> {
        let authority = self.address.strip_prefix(HTTPS).map(|rest| rest.trim_end_matches('/'));
        let address = authority.unwrap_or(&self.address);
        let stream = Stream::connect(address).await.map_err(|error| {
            let nobody = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
            let is_nobody = nobody.contains(&error.kind());
            let error = anyhow::Error::from(error);
            if is_nobody { Unanswered::Nobody(error) } else { Unanswered::Other(error) }
        })?;
        let Some(tls) = &self.tls else { return Ok(Channel::Clear(stream)) };
        let connecting = Box::pin(tls.connect(stream, address));
        connecting.await.map_err(|error| Unanswered::Other(error.into()))
    }

    /// Sends one request for an actor; returns the body of a successful response.
    pub(super) async fn ask(
        &self,
        method: Method,
        actor: &ActorName,
        rest: &str,
    ) -> Result<Bytes, Unanswered> {
        self.ask_json(method, actor, rest, Bytes::new()).await
    }

    /// As [`ask`](Self::ask), with a body of JSON.
    pub(super) async fn ask_json(
        &self,
        method: Method,
        ActorName { system, name }: &ActorName,
        rest: &str,
        body: Bytes,
    ) -> Result<Bytes, Unanswered> {
        let path = format!("/api/v1/system/{}/actors/{}{rest}", encoded(system), encoded(name));
        self.send_json(method, &path, body).await
    }

    /// Sends one request; returns the body of a successful response.
    pub(super) async fn send(&self, method: Method, path: &str) -> Result<Bytes, Unanswered> {
        self.send_json(method, path, Bytes::new()).await
    }

    /// As [`send`](Self::send), with a body of JSON.
    pub(super) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, Unanswered> {
        let Self { address, limit, .. } = self;
        let mut request = self.request(method, path, body).map_err(Unanswered::Other)?;
        let states = usize::try_from(self.settings.max_state_bytes).unwrap_or(usize::MAX);
        let most = states.saturating_mul(2).saturating_add(ANSWER_BYTES);
        let asking = async {
            let stream = self.connect().await?;
            let connection = Connection::new(stream, |stream: &mut Channel<Stream>, bytes| {
                stream.read_now(bytes)
            });
            let connection = connection.await;
            let connection = connection.map_err(|error| Unanswered::Other(error.into()))?;
            let answered = connection
                .exchange(&mut request, &mut Reading::alone(most, *limit).enter(None))
                .await;
            answered.map(|(reply, _)| reply).map_err(|failed| {
                Unanswered::Other(match failed {
                    Failed::Unasked => anyhow::anyhow!("more came than the answer"),
                    Failed::Unsent(reason) | Failed::Broken(reason) if self.tls.is_none() => {
                        anyhow::anyhow!("{reason}; a port with TLS is asked with --proxy {HTTPS}…")
                    }
                    Failed::Unsent(reason) | Failed::Broken(reason) => anyhow::anyhow!(reason),
                    Failed::Busy | Failed::Silent(_) => anyhow::anyhow!("the answer broke off"),
                    Failed::TooLarge(limit) => {
                        anyhow::anyhow!("the answer is larger than {limit} bytes")
                    }
                })
            })
        };
        let answered = timeout(*limit, asking).await.unwrap_or_else(|_| {
            Err(Unanswered::Other(anyhow::anyhow!("no answer within {limit:?}")))
        });
        let context = format!("cannot ask the proxy at {address}");
        let reply = answered.map_err(|unanswered| match unanswered {
            Unanswered::Nobody(error) => Unanswered::Nobody(error.context(context)),
            Unanswered::Other(error) => Unanswered::Other(error.context(context)),
        })?;
        success(reply).map_err(Unanswered::Other)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let is_json = !body.is_empty();
        let mut request = Request::new(Full::new(body));
        if is_json {
            request.headers_mut().insert(CONTENT_TYPE, "application/json".parse()?);
        }
        *request.method_mut() = method;
        *request.uri_mut() = path.parse()?;
        request.headers_mut().insert(HOST, "localhost".parse()?);
        request.headers_mut().insert(ACCEPT, "application/json".parse()?);
        if let Some((name, value)) = self.header.clone() {
            request.headers_mut().insert(name, value);
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        }
        Ok(request)
    }
}

/// Where this machine reaches a proxy that listens at this address: over loopback if it listens at all of its addresses.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        // Also for [::]: a machine may have no ::1, and few have no IPv4.
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

/// Returns the body, or the error in the response, whatever its format.
fn success(reply: Reply) -> anyhow::Result<Bytes> {
    if reply.status.is_success() {
        return Ok(reply.body);
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
    let status = json.as_ref().and_then(|json| json.get("status"));
    if reply.status == StatusCode::SERVICE_UNAVAILABLE
        && status.is_some_and(|status| status == "down")
    {
        return Err(NotReady.into());
    }
    let json = json.and_then(|json| {
        let text = json.get("error")?.as_str()?;
        // What an action that failed has answered.
        let answered = json.get("body").map(|body| format!(": {body}")).unwrap_or_default();
        Some(format!("{text}{answered}"))
    });
    let text = json.or_else(|| Some(SpawnResponse::decode(reply.body).ok()?.status?.message));
    bail!("HTTP {}: {}", reply.status.as_u16(), text.unwrap_or_default())
}

/// Parses a JSON response.
pub(super) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> anyhow::Result<T> {
    serde_json::from_slice(body)
        .context("the answer is not understood: is it a Tidegate of this version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_beside_is_asked_where_it_listens() {
        for (listens, asked) in [
            ("0.0.0.0:9001", "127.0.0.1:9001"),
            ("[::]:9001", "127.0.0.1:9001"),
            ("10.0.0.5:9001", "10.0.0.5:9001"),
            ("[::1]:9001", "[::1]:9001"),
        ] {
            assert_eq!(from_here(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
