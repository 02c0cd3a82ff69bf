//! Traces over TLS: a receiver in the test that takes spans over both protocols and may ask for a client's certificate.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use support::authority::{Authority, Issued};
use support::client::Client;
use support::counter::{Counter, add, definition, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::Proxy;
use support::scrape::{count, until_count};
use support::tool::run;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// How long something that has to happen may take.
const LIMIT: Duration = Duration::from_mins(1);
const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];
const DROPPED: &str = "tidegate_trace_spans_dropped_total";
const EXPORTED: &str = "tidegate_trace_spans_exported_total";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const ROOTS: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

/// What is read of `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<Scope>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(string, tag = "5")]
    name: String,
}

/// A receiver behind TLS.
struct Receiver {
    endpoint: String,
    spans: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    /// With a root, only clients with a certificate of it are served.
    async fn start(shown: &Issued, clients: Option<&str>) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(shown, clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (spans, mut tasks) = (Arc::<AtomicUsize>::default(), JoinSet::new());
        let taken = Arc::clone(&spans);
        tasks.spawn(async move {
            let mut each = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, taken) = (acceptor.clone(), Arc::clone(&taken));
                each.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let take = service_fn(move |request| take(request, Arc::clone(&taken)));
                    let server = auto::Builder::new(TokioExecutor::new());
                    // A connection ends with its proxy.
                    drop(server.serve_connection(TokioIo::new(stream), take).await);
                });
            }
        });
        Self { endpoint, spans, _tasks: tasks }
    }

    fn spans(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }
}

fn config(shown: &Issued, clients: Option<&str>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(&shown.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&shown.key).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Takes a batch over either protocol.
async fn take(
    request: Request<Incoming>,
    taken: Arc<AtomicUsize>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let is_grpc = parts.headers["content-type"] == "application/grpc";
    // One byte says whether it is compressed, four how long it is.
    let message = if is_grpc { body.slice(5..) } else { body };
    let scopes = Export::decode(message).unwrap().resources.into_iter().flat_map(|one| one.scopes);
    taken.fetch_add(scopes.map(|scope| scope.spans.len()).sum(), Ordering::Relaxed);
    let answer = Response::builder();
    Ok(if is_grpc {
        assert_eq!(parts.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let body = Full::new(Bytes::from_static(&[0; 5]));
        let body = body.with_trailers(std::future::ready(Some(Ok(trailers))));
        answer.header("content-type", "application/grpc").body(body.boxed()).unwrap()
    } else {
        assert_eq!(parts.uri.path(), "/v1/traces");
        answer.body(Full::default().boxed()).unwrap()
    })
}

struct World {
    proxy: Proxy,
    client: Client,
    _host: Host,
}

impl World {
    /// A proxy that sends its traces there, and its host.
    async fn start(receiver: &Receiver, protocol: &str, more: &[(&str, &str)]) -> Self {
        let host = Host::start(Arc::new(Counter::default()));
        let port = host.port();
        let own = [
            ("PROXY_DATABASE_TYPE", "memory"),
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &*port),
            ("TIDEGATE_DRAIN_DELAY", "0"),
            (ENDPOINT, &*receiver.endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2s"),
        ];
        let proxy = Proxy::start(&[&own, more].concat()).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        register(&mut client, vec![definition("joe", Kind::Named)]).await;
        Self { proxy, client, _host: host }
    }

    /// Calls the actor twice; the receiver takes all spans.
    async fn traces_arrive(mut self, receiver: &Receiver) {
        add(&mut self.client, "joe").await.unwrap();
        add(&mut self.client, "joe").await.unwrap();
        until_count(&self.proxy, EXPORTED, 10).await;
        assert_eq!(count(&self.proxy, DROPPED).await, 0);
        assert_eq!(receiver.spans() as u64, count(&self.proxy, EXPORTED).await);
        assert!(self.proxy.terminate(LIMIT).await.success());
    }

    /// Calls go on, nothing arrives, and what is dropped is counted. Returns what was logged of it.
    async fn traces_are_refused(mut self, receiver: &Receiver) -> String {
        for _ in 0..20 {
            add(&mut self.client, "joe").await.unwrap();
        }
        until_count(&self.proxy, DROPPED, 20 * 5).await;
        add(&mut self.client, "joe").await.unwrap();
        assert_eq!((receiver.spans(), count(&self.proxy, EXPORTED).await), (0, 0));
        let log = self.proxy.log();
        assert!(self.proxy.terminate(LIMIT).await.success());
        assert!(log.iter().any(|line| line.contains("spans are dropped")), "{log:#?}");
        log.join("\n")
    }
}

#[tokio::test]
async fn spans_arrive_at_a_receiver_whose_root_is_trusted_and_at_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let other = Authority::new(directory.path(), "other");
    let shown = authority.server("receiver", 90);
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(&shown, None).await;
        let world = World::start(&receiver, protocol, &[(ROOTS, &other.root)]).await;
        let told = world.traces_are_refused(&receiver).await;
        let told =
            told.lines().filter(|line| line.contains("no connection to")).collect::<Vec<_>>();
        assert!(matches!(told[..], [line] if line.contains(ROOTS)), "{protocol}: {told:?}");
        let world = World::start(&receiver, protocol, &[(ROOTS, &authority.root)]).await;
        world.traces_arrive(&receiver).await;
    }
}

#[tokio::test]
async fn a_root_that_is_renewed_is_trusted_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let other = Authority::new(directory.path(), "other");
    let shown = authority.server("receiver", 90);
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(&shown, None).await;
        let [used, next] = ["used", "next"].map(|name| directory.path().join(name));
        std::fs::copy(&other.root, &used).unwrap();
        let roots = [(ROOTS, used.to_str().unwrap())];
        let mut world = World::start(&receiver, protocol, &roots).await;
        add(&mut world.client, "joe").await.unwrap();
        until_count(&world.proxy, DROPPED, 5).await;
        std::fs::copy(&authority.root, &next).unwrap();
        std::fs::rename(&next, &used).unwrap();
        world.proxy.signal(Signal::HUP);
        let renewed = timeout(LIMIT, async {
            while receiver.spans() == 0 {
                add(&mut world.client, "joe").await.unwrap();
                sleep(Duration::from_millis(50)).await;
            }
        });
        renewed.await.expect("spans arrive");
        assert!(world.proxy.terminate(LIMIT).await.success());
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_certificate_takes_spans_of_those_who_show_one() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let shown = authority.server("receiver", 90);
    let own = authority.client("proxy", 90);
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(&shown, Some(&authority.root)).await;
        let roots = (ROOTS, &*authority.root);
        World::start(&receiver, protocol, &[roots]).await.traces_are_refused(&receiver).await;
        let with = [roots, (CERTIFICATE, &*own.certificate), (KEY, &*own.key)];
        World::start(&receiver, protocol, &with).await.traces_arrive(&receiver).await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let (own, other) = (authority.client("proxy", 90), authority.client("other", 90));
    let rubbish = directory.path().join("rubbish");
    std::fs::write(&rubbish, "no certificate").unwrap();
    let (missing, rubbish) = (directory.path().join("missing"), rubbish.to_str().unwrap());
    for (files, ends, told) in [
        (&[(ROOTS, missing.to_str().unwrap())][..], 78, &*format!("{ROOTS}={}", missing.display())),
        (&[(ROOTS, rubbish)], 78, "holds no certificate in PEM"),
        (&[(CERTIFICATE, &own.certificate), (KEY, rubbish)], 78, "holds no private key in PEM"),
        (&[(CERTIFICATE, &own.certificate), (KEY, &other.key)], 78, KEY),
        (&[(CERTIFICATE, &own.certificate)], 64, KEY),
    ] {
        let own = [("PROXY_DATABASE_TYPE", "memory"), (ENDPOINT, "https://localhost:4317")];
        let settings = [&own, files].concat();
        let (code, said) = Proxy::refused(&settings).await;
        assert_eq!(code, Some(ends), "{said}");
        assert!(said.contains(told), "{told} in {said}");
        let doctor = run(&["doctor"], &settings).await;
        assert!(format!("{}{}", doctor.stdout, doctor.stderr).contains(told), "{told}");
        assert_ne!(doctor.code, Some(0));
    }
}
