//! Hosts that are called over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::authority::{Authority, Issued};
use crate::support::client::Client;
use crate::support::counter::{Added, Counter, add, add_within, definition, register, register_at};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::support::proxy::Proxy;

/// A counting host behind TLS.
struct SecureHost {
    address: SocketAddr,
    /// Handshakes that were made.
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
    _host: Host,
}

impl SecureHost {
    /// With a root, only clients with a certificate of it are served.
    async fn start(shown: &Issued, clients: Option<&str>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = vec![CertificateDer::from_pem_file(&shown.certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(&shown.key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));

        let host = Host::start(Arc::new(Counter::default()));
        let inner = format!("127.0.0.1:{}", host.port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, mut tasks) = (Arc::<AtomicUsize>::default(), JoinSet::new());
        let counted = Arc::clone(&connections);
        tasks.spawn(async move {
            let mut each = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, inner) = (acceptor.clone(), inner.clone());
                let counted = Arc::clone(&counted);
                each.spawn(async move {
                    let Ok(mut outer) = acceptor.accept(stream).await else { return };
                    counted.fetch_add(1, Ordering::Relaxed);
                    let mut inner = TcpStream::connect(inner).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut outer, &mut inner).await);
                });
            }
        });
        Self { address, connections, _tasks: tasks, _host: host }
    }
}

async fn proxy(settings: &[(&str, &str)]) -> (Proxy, Client) {
    let own = [("PROXY_DATABASE_TYPE", "memory"), ("TIDEGATE_DRAIN_DELAY", "0")];
    let proxy = Proxy::start(&[&own, settings].concat()).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

#[tokio::test]
async fn a_host_that_names_an_https_address_is_called_over_tls_and_its_connection_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let host = SecureHost::start(&authority.server("host", 90), None).await;
    let (_proxy, mut client) = proxy(&[("TIDEGATE_HOST_TLS_CA", &authority.root)]).await;
    let address = format!("https://{}", host.address);
    register_at(&mut client, &address, vec![definition("a", Kind::Named)]).await;
    for value in 1..=100 {
        let added = add(&mut client, "a").await.unwrap();
        assert!(matches!(added, Added::To(sum) if sum == value), "{added:?}");
    }
    let connections = host.connections.load(Ordering::Relaxed);
    eprintln!("100 calls over {connections} connections");
    assert!(connections < 50, "{connections} connections for 100 calls");
}

#[tokio::test]
async fn the_host_of_the_settings_is_called_over_tls_and_shown_a_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let clients = Authority::new(directory.path(), "clients");
    let shown = authority.server("host", 90);
    let host = SecureHost::start(&shown, Some(&clients.root)).await;
    let port = host.address.port().to_string();
    let own = clients.client("proxy", 90);
    let settings = [
        ("TIDEGATE_HOST_TLS", "true"),
        ("TIDEGATE_HOST_TLS_CA", &*authority.root),
        ("USER_FUNCTION_HOST", "localhost"),
        ("USER_FUNCTION_PORT", &port),
        ("TIDEGATE_HOST_TLS_CERT", &own.certificate),
        ("TIDEGATE_HOST_TLS_KEY", &own.key),
    ];
    let (_with, mut client) = proxy(&settings).await;
    register(&mut client, vec![definition("a", Kind::Named)]).await;
    assert!(matches!(add(&mut client, "a").await.unwrap(), Added::To(1)));

    let (_without, mut client) = proxy(&settings[..4]).await;
    register(&mut client, vec![definition("a", Kind::Named)]).await;
    let refused = add_within(&mut client, "a", Duration::from_secs(3)).await.unwrap();
    assert!(matches!(refused, Added::Refused(502 | 504, _)), "{refused:?}");
    assert_eq!(host.connections.load(Ordering::Relaxed), 1, "only that with a certificate");
}

#[tokio::test]
async fn a_host_whose_certificate_is_wrong_is_not_called() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    let other = Authority::new(directory.path(), "other");
    let wrong = [
        (other.server("stranger", 90), "UnknownIssuer"),
        (authority.server("late", -1), "expired"),
        (authority.issue("elsewhere", "elsewhere", &["elsewhere.example"], 90), "not valid for"),
    ];
    // Each is tried again for ten seconds, as one that does not listen yet.
    join_all(wrong.map(async |(shown, told)| {
        let host = SecureHost::start(&shown, None).await;
        let (_proxy, mut client) = proxy(&[("TIDEGATE_HOST_TLS_CA", &authority.root)]).await;
        let address = format!("https://{}", host.address);
        register_at(&mut client, &address, vec![definition("a", Kind::Named)]).await;
        let Added::Refused(status, text) = add(&mut client, "a").await.unwrap() else {
            panic!("{told}: it was called");
        };
        let is_told = text.contains(told) && text.contains("TIDEGATE_HOST_TLS_CA");
        assert!(status == 502 && is_told, "{told}: {status} {text}");
        assert_eq!(host.connections.load(Ordering::Relaxed), 0);
    }))
    .await;
}
