//! The store of the built binary becomes slow, then silent, then fails, under load: the actions whose change could not be
//! kept are at most those in flight at that moment, and what does not need the store is served.
//!
//! The faults are those of the system call that makes writes durable: `strace` is attached to the running proxy, delays
//! the call or lets it fail, and leaves again.

mod support;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::BoxFuture;
use support::client::Client;
use support::counter::{
    Added, Counter, SYSTEM, add, definition, get, get_state, register, stateless,
};
use support::host::{Answer, Call, Host, Script};
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const PLACES: usize = 16;
const ACTORS: usize = 100;
/// How long the tracer may take to come and to go.
const TRACER_LIMIT: Duration = Duration::from_secs(30);

/// Counts the actions of stateful actors that ran.
#[derive(Default)]
struct Counting {
    counter: Arc<Counter>,
    ran: AtomicUsize,
}

impl Script for Counting {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        if !call.body.windows(9).any(|part| part == b"stateless") {
            self.ran.fetch_add(1, SeqCst);
        }
        self.counter.clone().answer(call)
    }
}

/// A fault of the store, while it exists.
struct Fault {
    tracer: Child,
    /// Reads what the tracer says, so that it is never held up.
    _reader: JoinSet<()>,
}

impl Fault {
    async fn begin(proxy: &Proxy, fault: &str) -> Self {
        let pid = proxy.pid().to_string();
        let inject = format!("inject=fsync,fdatasync:{fault}");
        let mut command = Command::new("strace");
        command.args(["-f", "-p", &pid, "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", &inject]).stderr(Stdio::piped()).kill_on_drop(true);
        let mut tracer = command.spawn().expect("strace is there");
        let mut lines = BufReader::new(tracer.stderr.take().expect("it is piped")).lines();
        let attached = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("attached") {
                    return;
                }
                eprintln!("{line}");
            }
            panic!("strace did not attach");
        };
        timeout(TRACER_LIMIT, attached).await.expect("strace attaches in time");
        let mut reader = JoinSet::new();
        reader.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { tracer, _reader: reader }
    }

    async fn end(mut self) {
        let pid = i32::try_from(self.tracer.id().expect("it runs")).expect("a pid fits");
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid is not 0");
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        timeout(TRACER_LIMIT, self.tracer.wait()).await.expect("it ends").expect("it is a child");
    }
}

/// Answers of a stateless action and of a read in two seconds.
async fn rates(address: &str) -> (usize, usize) {
    let mut client = Client::connect(address).await.expect("the proxy is there");
    let (mut calls, mut reads) = (0, 0);
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let added = add(&mut client, "stateless").await.expect("an answer");
        assert!(matches!(added, Added::To(_)), "{added:?}");
        calls += 1;
    }
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert_eq!(get(&mut client, "read").await, 1);
        assert_eq!(get_state(&mut client, "read").await, 1);
        reads += 1;
    }
    (calls, reads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_slow_then_silent_then_fails_costs_what_was_in_flight() {
    let directory = tempfile::tempdir().expect("a directory");
    let host = Arc::new(Counting::default());
    let listening = Host::start(host.clone());
    let port = listening.port();
    let mut settings = embedded(directory.path(), &port);
    let places = PLACES.to_string();
    settings.extend([
        ("TIDEGATE_CHECKPOINT_EVENTS", places.as_str()),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "32"),
    ]);
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    let names: Vec<_> = (0..ACTORS).map(|number| format!("a{number:02}")).collect();
    let mut all: Vec<_> = names.iter().map(|name| definition(name, Kind::Named)).collect();
    all.extend([stateless("stateless"), definition("read", Kind::Named)]);
    register(&mut client, all).await;
    assert!(matches!(add(&mut client, "read").await, Ok(Added::To(1))));

    let (stop, mut callers) = (CancellationToken::new(), JoinSet::new());
    let acknowledged = Arc::new(AtomicUsize::new(1));
    for name in names.clone() {
        let (address, stop) = (proxy.address().to_owned(), stop.clone());
        let acknowledged = acknowledged.clone();
        callers.spawn(async move {
            let mut client = Client::connect(&address).await.expect("the proxy is there");
            let mut newest = 0;
            while !stop.is_cancelled() {
                match add(&mut client, &name).await {
                    Ok(Added::To(value)) => {
                        newest = value;
                        acknowledged.fetch_add(1, SeqCst);
                    }
                    Ok(Added::Refused(..)) => sleep(Duration::from_millis(20)).await,
                    // It took longer than this client waits.
                    Err(_) => client = Client::connect(&address).await.expect("it is there"),
                }
            }
            (name, newest)
        });
    }
    let unkept = || host.ran.load(SeqCst) - acknowledged.load(SeqCst);
    sleep(Duration::from_secs(2)).await;
    let with_store = rates(proxy.address()).await;
    let healthy = acknowledged.load(SeqCst);

    let slow = Fault::begin(&proxy, "delay_enter=2s").await;
    sleep(Duration::from_secs(15)).await;
    let in_flight = unkept();
    eprintln!("slow: {} kept, {in_flight} in flight", acknowledged.load(SeqCst) - healthy);
    assert!(in_flight <= PLACES, "{in_flight}");
    slow.end().await;

    let silent = Fault::begin(&proxy, "delay_enter=600s").await;
    sleep(Duration::from_secs(5)).await;
    let without_store = rates(proxy.address()).await;
    sleep(Duration::from_secs(5)).await;
    let in_flight = unkept();
    eprintln!(
        "silent: {in_flight} in flight; calls and reads in a second: {without_store:?}, with the store {with_store:?}"
    );
    assert!(in_flight <= PLACES, "{in_flight}");
    assert!(without_store.0 > 0 && without_store.1 > 0);
    silent.end().await;

    let failing = Fault::begin(&proxy, "error=EIO").await;
    let before = unkept();
    sleep(Duration::from_secs(10)).await;
    let after = unkept();
    eprintln!("failing: {before} in flight when it began, {after} not kept now");
    failing.end().await;
    // Reads work: each pause of two seconds costs one action more.
    assert!(after <= PLACES + 15, "{after}");

    let recovered = acknowledged.load(SeqCst);
    let until = Instant::now() + Duration::from_mins(1);
    while acknowledged.load(SeqCst) < recovered + 100 {
        assert!(Instant::now() < until, "it does not go on");
        sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    let newest: BTreeMap<_, _> = callers.join_all().await.into_iter().collect();
    eprintln!("in all: {} of {} actions were not kept", unkept(), host.ran.load(SeqCst));
    for (name, newest) in newest {
        let kept = kept_state(&mut client, &name).await;
        assert!(kept >= newest, "{name}: {newest} acknowledged, {kept} kept");
    }
}

/// The state of an actor, once no commit of it is in doubt any more.
async fn kept_state(client: &mut Client, name: &str) -> u32 {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{name}");
    let until = Instant::now() + Duration::from_mins(1);
    while client.get(&path).await.expect("an answer").status == 503 {
        assert!(Instant::now() < until, "{name} stays in doubt");
        sleep(Duration::from_millis(100)).await;
    }
    get_state(client, name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_hold_no_three_states_are_a_mistake_of_the_settings() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut settings = embedded(directory.path(), "1");
    settings.push(("TIDEGATE_CHECKPOINT_BYTES", "11MiB"));
    let (code, said) = Proxy::refused(&settings).await;
    assert_eq!(code, Some(64), "{said}");
    for part in ["TIDEGATE_CHECKPOINT_BYTES", "12582912", "TIDEGATE_MAX_STATE_BYTES"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
}
