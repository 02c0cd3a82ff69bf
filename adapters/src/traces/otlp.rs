//! Otlp: how the receiver of traces is reached.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use parking_lot::Mutex;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tower::Service;
use tracing::warn;

use crate::net::Stream;
use crate::tls::{Certificates, Channel, ClientFiles, ClientTls, Servers, TlsError};

/// The port of `https://` where none is given.
const HTTPS_PORT: u16 = 443;

/// Where spans are posted over HTTP, below the address of the receiver.
const HTTP_PATH: &str = "/v1/traces";

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf in a POST.
    HttpProtobuf,
}

/// A receiver of traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Its address, `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// The TLS of `https`; `None`: it is spoken to in the clear.
    pub tls: Option<ClientFiles>,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// How long it may take to take a batch, tries again included.
    pub timeout: Duration,
    /// What the traces say who they are of.
    pub service_name: String,
}

/// The receiver cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// Its address.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// Its address, for gRPC over TLS.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Otlp {
    /// Makes what exports, and what reads its certificates again when they change.
    pub(super) fn exporter(&self) -> Result<(SpanExporter, Option<Certificates>), OtlpError> {
        // What a receiver refuses for now is sent again, three times at most, within the timeout.
        let retries = RetryPolicy::recommended();
        let endpoint = self.endpoint.trim_end_matches('/');
        let (connector, certificates) = self.connector()?.unzip();
        let mut exporter = match self.protocol {
            Protocol::Grpc => {
                let builder = SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(endpoint)
                    .with_timeout(self.timeout)
                    .with_retry_policy(retries);
                match connector {
                    None => builder,
                    Some(connector) => {
                        let channel = Endpoint::from_shared(endpoint.to_owned())?;
                        let channel = channel.timeout(self.timeout);
                        builder.with_channel(channel.connect_with_connector_lazy(connector))
                    }
                }
                .build()?
            }
            Protocol::HttpProtobuf => {
                let builder = SpanExporter::builder()
                    .with_http()
                    .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                    .with_endpoint(format!("{endpoint}{HTTP_PATH}"))
                    .with_timeout(self.timeout)
                    .with_retry_policy(retries);
                match connector {
                    None => builder,
                    Some(connector) => {
                        let client = HyperClient::new(connector, self.timeout, None);
                        builder.with_http_client(client)
                    }
                }
                .build()?
            }
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder_empty()
            .with_service_name(self.service_name.clone())
            .with_attribute(version)
            .build();
        exporter.set_resource(&resource);
        Ok((exporter, certificates.flatten()))
    }

    /// What connects over TLS; `None`: nothing does.
    fn connector(&self) -> Result<Option<(Connector, Option<Certificates>)>, OtlpError> {
        let Some(files) = self.tls.clone() else { return Ok(None) };
        let alpn: &[u8] = match self.protocol {
            Protocol::Grpc => b"h2",
            Protocol::HttpProtobuf => b"http/1.1",
        };
        let (tls, certificates) = ClientTls::watch(Servers::Traces(alpn), files)?;
        Ok(Some((Connector { tls, limit: self.timeout, told: Arc::default() }, certificates)))
    }
}

/// Opens connections over TLS.
#[derive(Debug, Clone)]
struct Connector {
    tls: ClientTls,
    /// How long one may take, its handshake included.
    limit: Duration,
    /// Why there was no connection at the last try. Logged once: what is exported over HTTP says `network error` only.
    told: Arc<Mutex<String>>,
}

impl Connector {
    async fn connect(&self, authority: &str) -> io::Result<Channel<Stream>> {
        let stream = Stream::over_tcp(authority).await?;
        self.tls.connect(stream, authority).await
    }

    fn tell(&self, failed: Option<&io::Error>) {
        let reason = failed.map(ToString::to_string).unwrap_or_default();
        let mut told = self.told.lock();
        if failed.is_some() && *told != reason {
            warn!(%reason, "no connection to the receiver of traces");
        }
        *told = reason;
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Channel<Stream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let authority = format!("{host}:{}", uri.port_u16().unwrap_or(HTTPS_PORT));
            let connected = timeout(this.limit, this.connect(&authority)).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            this.tell(connected.as_ref().err());
            connected.map(TokioIo::new)
        })
    }
}

impl Connection for Channel<Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
