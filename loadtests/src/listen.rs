//! Listen: the accept loop of host and bare proxy; both use the same code.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

/// Where a server of this package listens.
#[derive(Debug, Clone, clap::Args)]
pub struct ListenArgs {
    /// Port on 127.0.0.1; 0 lets the system choose. The address is printed as the first line on stdout.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Ends when standard input ends, so that the server does not outlive the program that started it.
    #[arg(long)]
    pub exit_with_stdin: bool,
}

/// Binds, prints `listening on http://ADDRESS` and serves until SIGINT or SIGTERM.
///
/// # Errors
/// When the port cannot be bound or standard output is closed.
pub async fn serve<S>(args: &ListenArgs, service: S) -> anyhow::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another --port, or 0"))?;
    if args.exit_with_stdin {
        std::thread::spawn(exit_with_stdin);
    }
    {
        let mut out = io::stdout().lock();
        writeln!(out, "listening on http://{}", listener.local_addr()?)?;
        out.flush()?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let connections = TaskTracker::new();
    tokio::select! {
        never = accept(listener, service, &connections) => match never {},
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn accept<S>(listener: TcpListener, service: S, connections: &TaskTracker) -> Infallible
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely no descriptor is free; some become free when connections end.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let service = service.clone();
        connections.spawn(async move {
            // Ignored: every run ends with a client that disconnects.
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
        });
    }
}

fn exit_with_stdin() {
    let mut rest = [0; 64];
    while io::stdin().read(&mut rest).is_ok_and(|read| read > 0) {}
    std::process::exit(0);
}
