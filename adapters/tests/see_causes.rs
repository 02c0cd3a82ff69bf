//! Metrics of the built binary move when their causes happen, and say what waits for what.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use support::client::Client;
use support::counter::{ADD, Added, Counter, Gate, SYSTEM, add, call, definition, register};
use support::host::Host;
use support::letters::Post;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::schedules;
use support::scrape::{Scrape, until};
use support::tool::run;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The least that can be set: eight calls wait, and one more is in the worker's hands.
const TINY: [(&str, &str); 3] = [
    ("TIDEGATE_ADMISSION_EVENTS", "8"),
    ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "1"),
    ("TIDEGATE_START_TIMEOUT", "300s"),
];
const ADMITTED: f64 = 9.0;

/// A proxy whose host answers when it is told to.
struct World {
    proxy: Proxy,
    _host: Host,
    open: watch::Sender<bool>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (open, seen) = watch::channel(false);
        let host = Host::start(Arc::new(Gate { counter: Arc::default(), open: seen }));
        let (directory, port) = (tempfile::tempdir().unwrap(), host.port());
        let all = [&embedded(directory.path(), &port)[..], &TINY, settings].concat();
        let proxy = Proxy::start(&all).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = (0..12).map(|at| definition(&format!("a{at}"), Kind::Named));
        register(&mut client, actors.collect()).await;
        // Nothing else runs any more.
        until(&proxy, "tidegate_live_actors", &[], |live| live > 11.5).await;
        until(&proxy, "tidegate_in_flight_events", &["stage=\"caller\""], |turns| turns < 0.5)
            .await;
        Self { proxy, _host: host, open, _directory: directory }
    }

    /// One call of each of these actors, which wait; their answers.
    fn call(&self, actors: impl IntoIterator<Item = usize>) -> JoinSet<u16> {
        let mut calls = JoinSet::new();
        for at in actors {
            let address = self.proxy.address().to_owned();
            calls.spawn(async move {
                let mut client = Client::connect(&address).await.unwrap();
                client.invoke(&call(&format!("a{at}"), ADD)).await.unwrap().0
            });
        }
        calls
    }

    async fn until(&self, name: &str, labels: &[&str], value: f64) {
        until(&self.proxy, name, labels, |found| (found - value).abs() < 0.5).await;
    }

    async fn blocked(&self, reason: &str, turns: f64) {
        let reason = format!("reason=\"{reason}\"");
        self.until("tidegate_blocked_turns", &[&reason], turns).await;
        if turns > 0.0 {
            until(&self.proxy, "tidegate_blocked_oldest_seconds", &[&reason], |age| age > 0.0)
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_for_a_slot_a_place_or_their_actor_are_counted_by_what_they_wait_for() {
    let world = World::start(&[("TIDEGATE_ADMISSION_FULL", "wait:60s")]).await;
    let caller = ["stage=\"caller\""];
    world.until("tidegate_buffer_limit_events", &caller, ADMITTED).await;
    world.until("tidegate_demand_events", &caller, 1.0).await;
    let mut calls = world.call(0..12);
    // One runs, eight wait for its slot, three for a place.
    world.until("tidegate_in_flight_events", &caller, 1.0).await;
    world.until("tidegate_demand_events", &caller, 0.0).await;
    world.blocked("worker", 8.0).await;
    world.until("tidegate_queued_events", &caller, 8.0).await;
    world.until("tidegate_buffer_events", &caller, ADMITTED).await;
    world.until("tidegate_blocked_turns", &["reason=\"admission\""], 3.0).await;
    world.until("tidegate_mailboxes", &["depth=\"1\""], 8.0).await;
    // What somebody on call asks next.
    let said = run(&["actors", "list", "--proxy", world.proxy.address()], &[]).await.said();
    assert!(said.contains("worker"), "{said}");
    sleep(Duration::from_secs(1)).await;
    world.open.send_replace(true);
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    world.blocked("worker", 0.0).await;
    world.until("tidegate_blocked_turns", &["reason=\"admission\""], 0.0).await;
    world.until("tidegate_mailboxes", &["depth=\"1\""], 0.0).await;
    // Three callers waited for a second and more.
    until(&world.proxy, "tidegate_backpressure_seconds_total", &caller, |waited| waited >= 3.0)
        .await;
    let scrape = Scrape::of(&world.proxy).await;
    assert!(scrape.get("tidegate_queue_duration_seconds_count", &caller).unwrap() >= 12.0);
    assert!(scrape.get("tidegate_queue_duration_seconds_sum", &caller).unwrap() > 1.0);
    assert_eq!(scrape.get("tidegate_invoke_duration_seconds_count", &[]), Some(12.0));
    assert!(scrape.get("tidegate_store_commit_bytes_count", &[]).unwrap() >= 1.0);
    assert!(scrape.get("tidegate_store_open_seconds", &[]).unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_a_pause_and_a_shed_call_are_counted() {
    // Two calls of one actor may wait, and one runs.
    let world = World::start(&[("TIDEGATE_ADMISSION_EVENTS", "16")]).await;
    let mut first = world.call([0]);
    world.until("tidegate_in_flight_events", &["stage=\"caller\""], 1.0).await;
    let mut calls = world.call([0; 5]);
    world.until("tidegate_calls_shed_total", &["reason=\"key_full\""], 3.0).await;
    world.blocked("actor_turn", 2.0).await;
    world.until("tidegate_mailbox_deepest_turns", &[], 2.0).await;
    world.until("tidegate_mailboxes", &["depth=\"2-4\""], 1.0).await;
    world.until("tidegate_errors_total", &["kind=\"overloaded\"", "source=\"proxy\""], 3.0).await;
    let pause = ["actors", "pause", &format!("{SYSTEM}/a1"), "--proxy", world.proxy.address()];
    run(&pause, &[]).await.said();
    world.until("tidegate_paused_actors", &[], 1.0).await;
    let mut paused = world.call([1]);
    world.blocked("paused", 1.0).await;
    world.open.send_replace(true);
    let mut answers = Vec::new();
    while let Some(status) = calls.join_next().await {
        answers.push(status.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, [200, 200, 503, 503, 503]);
    assert_eq!(first.join_next().await.unwrap().unwrap(), 200);
    let resume = ["actors", "resume", &format!("{SYSTEM}/a1"), "--proxy", world.proxy.address()];
    run(&resume, &[]).await.said();
    assert_eq!(paused.join_next().await.unwrap().unwrap(), 200);
    world.blocked("paused", 0.0).await;
    // All admission is taken: a call is shed.
    world.open.send_replace(false);
    let mut calls = world.call((0..12).chain(0..12));
    let full = ["stage=\"caller\"", "reason=\"full\""];
    until(&world.proxy, "tidegate_calls_shed_total", &full, |shed| shed >= 1.0).await;
    world.open.send_replace(true);
    while calls.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_away_shows_in_its_state_in_what_waits_for_it_and_in_errors() {
    let host = Host::start_on(0, Arc::new(Counter::default())).await;
    let (directory, port) = (tempfile::tempdir().unwrap(), host.port());
    let settings =
        [&embedded(directory.path(), &port)[..], &[("TIDEGATE_ASYNC_PATIENCE", "300s")]].concat();
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, ["joe", "moe"].map(|name| definition(name, Kind::Named)).into()).await;
    assert!(matches!(add(&mut client, "joe").await.unwrap(), Added::To(1)));
    let reached = ["state=\"reached\""];
    until(&proxy, "tidegate_hosts", &reached, |hosts| hosts > 0.5).await;
    host.stop().await;
    let mut later = call("moe", ADD);
    later.r#async = true;
    assert_eq!(client.invoke(&later).await.unwrap().0, 200);
    let blocked = ["stage=\"caller\"", "reason=\"host_breaker\""];
    until(&proxy, "tidegate_blocked_turns", &blocked, |turns| turns > 0.5).await;
    until(&proxy, "tidegate_blocked_oldest_seconds", &blocked, |age| age > 0.0).await;
    until(&proxy, "tidegate_turns_parked_total", &["reason=\"host\""], |turns| turns >= 1.0).await;
    until(&proxy, "tidegate_hosts", &["state=\"open\""], |hosts| hosts > 0.5).await;
    until(&proxy, "tidegate_hosts_away_seconds_total", &[], |seconds| seconds >= 2.0).await;
    assert_eq!(client.invoke(&call("joe", ADD)).await.unwrap().0, 502);
    let failed = ["kind=\"host_failed\"", "source=\"host\"", "status=\"502\""];
    assert_eq!(Scrape::of(&proxy).await.get("tidegate_errors_total", &failed), Some(1.0));
    let back = Host::start_on(port.parse().unwrap(), Arc::new(Counter::default())).await;
    until(&proxy, "tidegate_hosts", &reached, |hosts| hosts > 0.5).await;
    until(&proxy, "tidegate_blocked_turns", &blocked, |turns| turns == 0.0).await;
    drop(back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let settings = embedded(directory.path(), "1").into_iter();
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let post = Post::with(settings, 1).await;
    let mut client = post.client().await;
    let scrape = client.get("/metrics").await.unwrap();
    let scrape = Scrape(String::from_utf8(scrape.body.to_vec()).unwrap());
    assert_eq!(scrape.get("tidegate_effects_total", &["outcome=\"dead\""]), Some(2.0));
    post.end().await;
}

async fn scheduling(host: &Host, directory: &Path) -> (Proxy, Client) {
    let port = host.port();
    let proxy = Proxy::start(&embedded(directory, &port)).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_schedule_that_an_outage_took_are_counted_as_missed() {
    let (host, directory) =
        (Host::start(Arc::new(Counter::default())), tempfile::tempdir().unwrap());
    let (proxy, mut client) = scheduling(&host, directory.path()).await;
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    schedules::create(&mut client, "tick", "joe", json!({ "catch_up": "none" })).await;
    let answered = ["outcome=\"answered\""];
    until(&proxy, "tidegate_schedule_runs_total", &answered, |runs| runs >= 1.0).await;
    until(&proxy, "tidegate_due_pending_calls", &[], |pending| pending >= 1.0).await;
    until(&proxy, "tidegate_schedules_pending", &[], |schedules| {
        (schedules - 1.0).abs() < f64::EPSILON
    })
    .await;
    proxy.kill().await;
    // Runs that are late by at most ten seconds are made in any case.
    sleep(Duration::from_secs(13)).await;
    let (proxy, _) = scheduling(&host, directory.path()).await;
    let missed = ["outcome=\"missed\""];
    until(&proxy, "tidegate_schedule_runs_total", &missed, |runs| runs >= 1.0).await;
}
