//! App: connects all parts, and shuts them down in order.

mod address;
mod admin;
mod end;
mod nats;
mod descriptors;
mod backend;
pub(crate) mod notices;
mod notify;
pub(crate) mod stores;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tidegate_stages::access::CurrentPolicies;
use tidegate_stages::ports::Clock;
use tidegate_stages::traces::Tracer;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::audit::Audit;
use crate::clock::{self, BEFORE_1970, SystemClock};
use crate::config::{self, Config, Drain, Listen, Mistakes, Settings, TraceSettings};
use crate::host::{HttpHost, SystemConnector};
use crate::ingress::{
    Auth, BindError, Calls, Described, Ingress, Lifecycle, Parts, Phase, Scrape, Socket,
};
use crate::metrics::{STORE_OPEN_SECONDS, summary};
use crate::offline::OfflineError;
use crate::reload::{self, Watch};
use crate::store::{KeyError, Owner};
use crate::telemetry::{self, Metrics};
use crate::tls::{ClientTls, ServerTls, Servers, TlsError};
use crate::traces::{self, Kept, OtlpError};
use crate::wire::json::Types;
use admin::Ports;
use backend::Backend;
use end::Signals;
use nats::{Nats, Taking};
use notices::Notice;
use notify::Notify;

/// The least time in which connections may take their responses, even when the drain has used up its own time.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long the end waits for audit lines to be on disk.
const AUDIT_WRITTEN: Duration = Duration::from_secs(2);

/// How long admitted calls may take to finish when a stage has ended.
const AFTER_A_DEFECT: Duration = Duration::from_secs(5);

/// Why the proxy, or a command, ended with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Settings are wrong.
    #[error("{0}")]
    Config(#[from] Mistakes),
    /// Data on disk is damaged, or has a format that this version does not know.
    #[error("{0}")]
    Format(String),
    /// There is no store, and the command does not create one.
    #[error("{0}")]
    NoStore(String),
    /// The data directory cannot be used.
    #[error("{0}")]
    DataDirectory(String),
    /// A file, or the directory for it, cannot be made, or is there already: nothing was written to it.
    #[error("{0}")]
    NotMade(String),
    /// A file cannot be read, or cannot be written to its end; the command may be run again.
    #[error("{doing}: {error}")]
    File {
        /// What failed, with the name of the file.
        doing: String,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The database cannot be used.
    #[error("{0}")]
    Database(String),
    /// The clock stands before 1970.
    #[error("{BEFORE_1970}")]
    Clock,
    /// The configured keys are not the keys that sealed the store.
    #[error("{0}")]
    Key(KeyError),
    /// Certificates or keys cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The command cannot run with these settings.
    #[error("{0}")]
    Usage(String),
    /// A command on a stopped store failed.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The listener cannot be opened.
    #[error("{error}; {setting} says where to listen")]
    Bind {
        /// The error.
        error: BindError,
        /// The settings that name the address.
        setting: &'static str,
    },
    /// The demo did not have its expected result.
    #[error("{0:#}")]
    Demo(anyhow::Error),
    /// The proxy that was asked is not ready.
    #[error("not ready: {0:#}")]
    NotReady(anyhow::Error),
    /// A stage of the running proxy ended by itself, which is a defect.
    #[error("stage {0:?} ended by itself: the proxy has ended, start it again")]
    StageEnded(&'static str),
    /// Another proxy lives on the same database; nothing was claimed.
    #[error(
        "{0} owns the database: end it first, or take the database over from it with `tidegate serve --take-over` (once; \
         TIDEGATE_TAKE_OVER)"
    )]
    Owned(Owner),
    /// A later owner has claimed the database.
    #[error(
        "{0} has claimed the database: this proxy has ended, and has told nobody of a change that does not count"
    )]
    Fenced(Owner),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl StartError {
    /// Returns the exit code, as in `sysexits.h`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Demo(_) => 1,
            Self::Config(_) | Self::Usage(_) => 64,
            Self::Format(_) => 65,
            Self::NoStore(_) => 66,
            Self::File { error, .. } if error.kind() == io::ErrorKind::NotFound => 66,
            Self::Bind { .. } | Self::Database(_) | Self::NotReady(_) => 69,
            Self::Other(_) => 70,
            Self::StageEnded(_) => 71,
            Self::DataDirectory(_) | Self::NotMade(_) => 73,
            Self::File { .. } => 74,
            Self::Owned(_) | Self::Fenced(_) => 75,
            Self::Clock | Self::Key(_) | Self::Tls(_) => 78,
            Self::Offline(error) => error.exit_code(),
        }
    }
}

/// Runs the proxy until a signal ends it.
///
/// # Errors
/// When it does not start, or a stage ends by itself.
pub async fn serve(config: Config) -> Result<(), StartError> {
    let mut settings = config.settings()?;
    telemetry::log(&settings.log)?;
    for Notice { is_warning, text } in notices::of(&config) {
        if is_warning {
            warn!("{text}");
        } else {
            info!("{text}");
        }
    }
    if let Some(text) = clock::concern(SystemClock.now()) {
        warn!("{text}");
    }
    let types = Types::load(settings.descriptors.as_deref())
        .map_err(|error| StartError::Usage(format!("TIDEGATE_DESCRIPTORS: {error}")))?;
    descriptors::share(&mut settings);
    let mut signals = Signals::new()?;
    let (background, ended) = (TaskTracker::new(), CancellationToken::new());
    let scrape = scrape(&settings)?;
    let policies = CurrentPolicies::default();
    let (auth, mut watched) = watch(&settings, &policies)?;
    let (tracer, kept) = traces(&settings, &background, &ended, &mut watched)?;
    let tls = match settings.http.tls.clone().map(ServerTls::watch).transpose()? {
        Some((tls, certificates)) => {
            watched.push(Box::new(certificates));
            Some(tls)
        }
        None => None,
    };
    let (host_tls, certificates) = ClientTls::watch(Servers::Hosts, settings.host_tls.clone())?;
    watched.extend(certificates.map(|certificates| Box::new(certificates) as Box<dyn Watch>));
    let reloads = watched.iter().map(|files| files.status()).collect();
    background.spawn(reload::run(watched, end::hangups()?, ended.clone()));
    // The listener is bound first: a second proxy on the same port fails before it waits for the data of the first.
    let socket = bind(&settings.http.listen).await?;
    let admin = admin::bind(settings.http.admin).await?;
    let url = socket.url().map_err(anyhow::Error::from)?;
    let url = if tls.is_some() { url.replacen("http:", "https:", 1) } else { url };
    let host = HttpHost::with_types(SystemConnector::new(host_tls), settings.host, types.clone());
    background.spawn(host.clone().trim(ended.clone()));
    let (audit, audit_written) = audit(settings.http.audit_file.as_deref())?;
    let lifecycle = Lifecycle::default();
    let ingress = Ingress::new(Parts {
        limits: settings.http.limits,
        tls,
        hosts: settings.hosts.clone(),
        trust: settings.http.trust.clone(),
        auth,
        audit,
        lifecycle: lifecycle.clone(),
        reloads,
        types,
        scrape: Some(scrape),
    });
    ingress.show_kept(kept);
    describe(&ingress, &config, &url);
    let nats = Nats::connect(&settings, &background, &ended).await?;
    // Health is answered while the store opens, which may take long.
    let opening = Instant::now();
    let serving = Ports::serve(socket, admin, &ingress);
    let opened = tokio::select! {
        opened = Backend::open(&settings, host, (policies, nats.others(), tracer), address::of(&url)) => opened,
        signal = signals.next() => {
            info!(signal, "ended while the store was being opened");
            // What opens the store may not be interrupted, and does not need to end: a store is opened again after any end.
            serving.close(Duration::ZERO).await;
            end::at_once();
        }
    };
    let outcome = match opened {
        Ok(backend) => {
            gauge!(STORE_OPEN_SECONDS).set(opening.elapsed());
            if let Some(store) = backend.backed_up() {
                ingress.back_up(store);
            }
            ingress.owned_as(backend.ownership());
            ingress.control(backend.mesh());
            ingress.open(backend.mesh(), backend.health());
            if settings.http.console_metrics {
                let ingress = ingress.clone();
                background.spawn(summary::log(move || ingress.metrics(), ended.clone()));
            }
            announce(&url);
            let (taking, notify) = (nats.serve(&backend.mesh()), Notify::new());
            notify.ready(&url);
            Box::pin(run(signals, settings.drain, lifecycle, (backend, taking), (serving, &notify)))
                .await
        }
        Err(error) => {
            serving.close(Duration::ZERO).await;
            Err(error)
        }
    };
    ended.cancel();
    background.close();
    background.wait().await;
    // The last to hold the audit; a disk that hangs holds nobody up.
    drop(ingress);
    if timeout(AUDIT_WRITTEN, audit_written).await.is_err() {
        warn!("the last audit lines are not written");
    }
    info!("ended");
    outcome
}

/// Says what recordings tell of this proxy.
fn describe<C: Calls>(ingress: &Ingress<C>, config: &Config, url: &str) {
    let (address, settings) = (address::of(url), config::effective(config));
    ingress.described_as(Described { address, settings });
}

/// Reads the files that are read again when they change.
fn watch(
    settings: &Settings,
    policies: &CurrentPolicies,
) -> Result<(Auth, Vec<Box<dyn Watch>>), StartError> {
    let policies = settings.policies.clone().watch(policies.clone());
    let policies = policies.map_err(|error| StartError::Usage(error.to_string()))?;
    let auth = Auth::open(settings.http.auth.clone(), settings.http.trust.admin_token.clone());
    let (auth, mut watched) = auth.map_err(|error| StartError::Usage(error.to_string()))?;
    watched.push(Box::new(policies));
    Ok((auth, watched))
}

fn scrape(settings: &Settings) -> Result<Scrape, StartError> {
    let metrics = Metrics::start()?;
    let scrape = Scrape::new(move || metrics.render());
    Ok(match (settings.http.metrics, settings.http.spawn_metrics) {
        (false, _) => scrape.for_itself(),
        (true, true) => scrape.with_spawn_names(),
        (true, false) => scrape,
    })
}

/// Starts what exports traces, and what keeps some calls in memory.
fn traces(
    settings: &Settings,
    background: &TaskTracker,
    ended: &CancellationToken,
    watched: &mut Vec<Box<dyn Watch>>,
) -> Result<(Tracer, Option<Arc<Kept>>), StartError> {
    let TraceSettings { rules, otlp, kept_calls } = &settings.traces;
    let kept = (*kept_calls > 0).then(|| Arc::new(Kept::new(*kept_calls)));
    let Some(otlp) = otlp else {
        let tracer = kept.clone().map(|kept| traces::keep(*rules, kept));
        return Ok((tracer.unwrap_or_default(), kept));
    };
    let started = traces::start(*rules, otlp, kept.clone(), ended.clone());
    let (tracer, export, certificates) = started.map_err(|error| match error {
        OtlpError::Tls(error) => StartError::Tls(error),
        error => StartError::Usage(error.to_string()),
    })?;
    background.spawn(export);
    watched.extend(certificates.map(|certificates| Box::new(certificates) as Box<dyn Watch>));
    Ok((tracer, kept))
}

/// Starts the thread that writes audit lines, if there is a file for them; also what tells that all of them are written.
fn audit(path: Option<&Path>) -> Result<(Audit, oneshot::Receiver<()>), StartError> {
    let (written, is_written) = oneshot::channel();
    let Some(path) = path else { return Ok((Audit::on_log(), is_written)) };
    let (audit, writer) = Audit::in_file(path.to_owned()).map_err(|error| {
        StartError::DataDirectory(format!(
            "cannot write audit lines to {} (TIDEGATE_AUDIT_FILE): {error}",
            path.display()
        ))
    })?;
    let write = move || {
        writer.run();
        // Nobody waits when the end is a signal's.
        written.send(()).unwrap_or_default();
    };
    std::thread::Builder::new().name("audit".into()).spawn(write).map_err(anyhow::Error::from)?;
    Ok((audit, is_written))
}

/// Listens where the settings say.
pub(crate) async fn bind(listen: &Listen) -> Result<Socket, StartError> {
    match listen {
        Listen::Tcp(address) => {
            let setting = "PROXY_HTTP_PORT (with TIDEGATE_HTTP_ADDRESS)";
            Socket::tcp(*address).await.map_err(|error| StartError::Bind { error, setting })
        }
        Listen::Unix { path, mode } => {
            let setting = "PROXY_UDS_ADDRESS";
            Socket::unix(path, *mode).await.map_err(|error| StartError::Bind { error, setting })
        }
    }
}

/// Prints to stdout where the proxy listens. With port 0, a parent process reads the address from this line.
///
/// Runs on its own thread, because a write to an unread stdout blocks. Nothing waits for that thread.
fn announce(url: &str) {
    info!(version = env!("CARGO_PKG_VERSION"), "listening on {url}");
    let line = format!("listening on {url}\n");
    let say = move || {
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
            warn!(%error, "stdout is closed, nobody is told where the proxy listens");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("announce".into()).spawn(say) {
        warn!(%error, "no thread, nobody is told where the proxy listens");
    }
}

/// Waits for a signal, then shuts down in order (decision 6). A second signal ends the process at once. A stage that ends by
/// itself ends the process too, with an error: a new start is better than a path without one of its stages. So does a later owner
/// of the database: calls under way are told of it.
async fn run(
    mut signals: Signals,
    limits: Drain,
    lifecycle: Lifecycle,
    (backend, taking): (Backend, Taking),
    (serving, notify): (Ports, &Notify),
) -> Result<(), StartError> {
    let (mesh, ownership) = (backend.mesh(), backend.ownership());
    let reason = tokio::select! {
        signal = signals.next() => Ok(signal),
        stage = mesh.stage_ended() => Err(StartError::StageEnded(stage)),
        () = serving.stopped() => Err(StartError::StageEnded("ingress")),
        owner = ownership.lost() => Err(StartError::Fenced(owner)),
    };
    let limits = match &reason {
        Ok(signal) => {
            info!(signal, delay = ?limits.delay, timeout = ?limits.timeout, "ending: not ready any more, calls are still served");
            limits
        }
        Err(StartError::Fenced(_)) => {
            // The store has logged it.
            info!("ending: the database has a later owner");
            Drain { delay: Duration::ZERO, ..limits }
        }
        Err(error) => {
            error!(%error, "the proxy ends");
            Drain { delay: Duration::ZERO, timeout: AFTER_A_DEFECT }
        }
    };
    notify.stopping();
    let until = Instant::now() + limits.timeout;
    let ending = async {
        lifecycle.advance(Phase::Leaving);
        taking.leave();
        sleep(limits.delay).await;
        lifecycle.advance(Phase::Draining);
        info!("draining: new calls are refused, what was admitted finishes");
        backend.finish(until - Instant::now()).await;
        taking.finish((until - Instant::now()).max(LAST_ANSWERS)).await;
        serving.close((until - Instant::now()).max(LAST_ANSWERS)).await;
    };
    tokio::select! {
        () = ending => {}
        signal = signals.next() => {
            warn!(signal, "a second signal: ended at once");
            end::at_once();
        }
    }
    reason.map(drop)
}
