//! The ingress and the host client on a simulated network: the same code with another listener and connector.

use std::io;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tidegate_stages::actor::{ActorId, Encoding};
use tidegate_stages::invocation::ActorInvocation;
use tidegate_stages::ports::HostError;
use tower::ServiceExt;
use turmoil::net::{TcpListener, TcpStream};

use super::*;
use crate::host::{Connect, HostOptions, HttpHost};

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = TcpListener::accept(self).await?;
        Ok((stream, Peer::Ip(address.ip())))
    }
}

#[derive(Clone)]
struct Simulated;

impl Connect for Simulated {
    type Io = TcpStream;

    async fn connect(&self, address: &HostAddress) -> io::Result<TcpStream> {
        TcpStream::connect(address.as_str()).await
    }
}

#[test]
fn the_ingress_answers_over_a_simulated_network() {
    let mut network = turmoil::Builder::new().build();
    network.host("proxy", || async {
        let listener = TcpListener::bind("0.0.0.0:9001").await?;
        let serving = serve(listener, ingress().0);
        pending::<()>().await;
        serving.close(Duration::from_secs(1)).await;
        Ok(())
    });
    network.client("sdk", async {
        let stream = TcpStream::connect("proxy:9001").await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await?;
        let asking = async {
            for _ in 0..3 {
                let mut request = post(INVOKE, call("echo"));
                request.headers_mut().insert("host", "proxy".parse()?);
                let answer = sender.send_request(request).await?;
                assert_eq!(answer.status(), StatusCode::OK);
                answer.into_body().collect().await?;
            }
            drop(sender);
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let (asked, ended) = tokio::join!(asking, connection);
        asked?;
        ended?;
        Ok(())
    });
    network.run().unwrap();
}

#[test]
fn a_host_that_is_cut_off_is_told_apart_from_one_that_may_have_run() {
    let mut network = turmoil::Builder::new().build();
    network.host("actors", || async {
        let listener = TcpListener::bind("0.0.0.0:8090").await?;
        loop {
            // Reads a call, then drops the connection.
            let (mut stream, _) = listener.accept().await?;
            let mut heard = [0; 1024];
            assert!(tokio::io::AsyncReadExt::read(&mut stream, &mut heard).await? > 0);
        }
    });
    network.client("proxy", async {
        let options = HostOptions {
            connect_time: Duration::from_secs(5),
            max_idle: Duration::from_secs(1),
            connections: 4,
            body_bytes: 1024,
            bodies_bytes: 4096,
        };
        let host = HttpHost::new(Simulated, options);
        let called = || ActorInvocation {
            encoding: Encoding::Protobuf,
            host: HostAddress::new("actors:8090"),
            actor: Arc::new(ActorId::default()),
            action: "act".into(),
            state: None,
            tags: [].into(),
            metadata: [].into(),
            caller: None,
            self_has_parent: true,
            payload: Payload::Noop,
            traceparent: String::new(),
            answer: None,
        };
        turmoil::partition("proxy", "actors");
        let error = host.clone().oneshot(called()).await.unwrap_err();
        assert!(matches!(error, HostError::Connect { .. }) && error.is_unsent(), "{error}");
        turmoil::repair("proxy", "actors");
        let error = host.oneshot(called()).await.unwrap_err();
        assert!(matches!(error, HostError::Broken { .. }) && !error.is_unsent(), "{error}");
        Ok(())
    });
    network.run().unwrap();
}

#[test]
fn a_client_that_goes_away_drops_its_call() {
    let mut network = turmoil::Builder::new().build();
    let (ingress, calls) = ingress();
    network.host("proxy", move || {
        let ingress = ingress.clone();
        async move {
            let serving = serve(TcpListener::bind("0.0.0.0:9001").await?, ingress);
            pending::<()>().await;
            serving.close(Duration::from_secs(1)).await;
            Ok(())
        }
    });
    network.client("sdk", async move {
        let mut stream = TcpStream::connect("proxy:9001").await?;
        let body = call("hang");
        let head =
            format!("POST {INVOKE} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
        tokio::io::AsyncWriteExt::write_all(&mut stream, &[head.as_bytes(), &body].concat())
            .await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(calls.invoked.lock().len(), 1, "the call is in the mesh");
        drop(stream);
        calls.gone.notified().await;
        Ok(())
    });
    network.run().unwrap();
}
