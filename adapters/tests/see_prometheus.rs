//! A real Prometheus watches the built binary, with the files that `tidegate dashboards` writes: every query of every panel and every
//! rule returns data, and each alert fires when its trouble is caused.
//!
//! To be quick, all windows are 30 s, no alert waits before it fires, Prometheus asks each second, and alerts fire after three
//! seconds where they wait for minutes ([`SOONER`]).
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Request;
use http_body_util::Full;
use prost::Message;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::{Value, json};
use support::client::Client;
use support::counter::{ADD, Counter, SYSTEM, call, definition, register, register_at};
use support::host::{Answer, Call, Host, Script};
use support::namespace::run_on_device;
use support::prometheus::{Prometheus, Series};
use support::proto::{Action, ActorInvocation, ActorInvocationResponse, Kind};
use support::proxy::{BINARY, Proxy, embedded};
use support::schedules;
use support::scrape::until;
use support::tool::run;
use tidegate::clock::SystemClock;
use tidegate::proto::eigr::functions::protocol::actors::{Channel, FixedTimerAction};
use tidegate::proto::eigr::functions::protocol::{SideEffect, Workflow};
use tidegate::store::FreeSpace;
use tidegate_stages::ports::Clock;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The window of all rates here.
const WINDOW: &str = "[30s]";
/// Alerts about how long something has waited, with their thresholds and those of the test, in seconds.
const SOONER: [(&str, &str, &str); 3] = [
    ("tidegate_blocked_oldest_seconds{reason!=\"paused\"}) >", "30", "3"),
    ("tidegate_effects_oldest_seconds) >", "300", "3"),
    ("tidegate_due_lag_seconds) >", "60", "3"),
];
/// Longer than the ten seconds by which a run of a schedule may be late.
const STOPPED: Duration = Duration::from_secs(13);
/// More calls for a later time than memory holds for one actor.
const LATER: usize = 1_100;

/// Queries that may stay 0 here, with the reason. Each has data nevertheless.
const QUIET: [(&str, &str); 12] = [
    (
        "actors: Activations and deactivations stateless, for want of memory",
        "needs more actors than memory holds",
    ),
    (
        "actors: Connections that the proxy ends refused: {{reason}}",
        "this machine has no bound, and files never run out: `edge_connections.rs`",
    ),
    (
        "actors: Other systems, over NATS connected",
        "there is no NATS server: the suite `nats` has one",
    ),
    ("actors: Other systems, over NATS dropped", "as above"),
    ("actors: Other systems, over NATS in: {{outcome}}", "as above"),
    ("flow: Failed {{stage}}", "the services of stages answer for their calls"),
    ("flow: Panicked {{stage}}", "a defect that is not known"),
    (
        "flow: Parked and tried again tried again: {{reason}}",
        "a host has to break off at the right moment: `retries.rs`",
    ),
    (
        "flow: To backpressure {{stage}}",
        "calls are refused here, and do not wait for a place: `see_causes.rs`",
    ),
    (
        "overview: Lines and spans that were lost audit",
        "needs an audit file on a full disk: `edge_audit.rs`",
    ),
    ("overview: Lines and spans that were lost spans", "traces are off: `see_traces.rs`"),
    ("stores: Embedded store {{part}}", "tables are written when there is more than memory holds"),
];

/// Counts. Actors that are called `stuck` answer when they are told to, `source` has effects, other actions than `add` fail.
#[derive(Debug)]
struct Cast {
    counter: Arc<Counter>,
    open: watch::Receiver<bool>,
}

impl Script for Cast {
    fn answer(self: Arc<Self>, asked: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let invocation = ActorInvocation::decode(asked.body.clone()).unwrap();
            let name = invocation.actor.unwrap().name;
            if name == "stuck" {
                self.open.clone().wait_for(|open| *open).await.unwrap();
            }
            let answer = Arc::clone(&self.counter).answer(asked).await?;
            if invocation.action_name != ADD {
                return Some(Answer { status: 500, ..Answer::message(&()) });
            }
            if name != "source" {
                return Some(answer);
            }
            let mut answer = ActorInvocationResponse::decode(answer.body).unwrap();
            let effects = ["nobody", "stuck", "a0"];
            let effects = effects.map(|to| SideEffect { request: Some(call(to, ADD)) }).into();
            answer.workflow = Some(Workflow { effects, ..Workflow::default() });
            Some(Answer::message(&answer))
        })
    }
}

#[test]
fn every_query_has_data_and_every_alert_fires_in_its_trouble() {
    run_on_device("256m", "inside_a_device_that_prometheus_watches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test above, on a device of its own"]
async fn inside_a_device_that_prometheus_watches() {
    let mut world = World::start().await;
    let _load = world.load();
    tokio::join!(world.miss_schedules(), world.trouble_of_calls());
    world.trouble_of_the_process().await;
    world.trouble_of_the_store().await;
    for alert in told_by("alert", &world.alerts()) {
        world.fires(&alert).await;
    }
    world.queries().await;
}

struct World {
    proxy: Proxy,
    /// It is stopped for a while.
    stopped: Proxy,
    /// It speaks TLS, with a certificate that ends soon.
    encrypted: Proxy,
    prometheus: Prometheus,
    host: Host,
    files: tempfile::TempDir,
    _open: watch::Sender<bool>,
}

impl World {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let policies = files.path().join("policies");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("deny.policy"), "type: deny\ntargets: forbidden\n").unwrap();
        let policies = policies.display().to_string();
        let keys = files.path().join("keys").display().to_string();
        fs::write(&keys, "a secret of more than thirty-two bytes").unwrap();
        let (open, is_open) = watch::channel(false);
        let host = Host::start(Arc::new(Cast { counter: Arc::default(), open: is_open }));
        let port = host.port();
        let more = [
            ("TIDEGATE_POLICIES_DIR", policies.as_str()),
            ("TIDEGATE_SPAWN_METRICS", "true"),
            ("TIDEGATE_ADMISSION_EVENTS", "64"),
            ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "16"),
            ("TIDEGATE_ASYNC_PATIENCE", "1s"),
            ("TIDEGATE_HOST_GRACE", "500ms"),
            ("TIDEGATE_REVISIONS", "every"),
            ("TIDEGATE_RETENTION_REVISIONS", "5"),
            ("TIDEGATE_HTTP_HEAD_TIMEOUT", "1s"),
            ("TIDEGATE_TOKEN_KEYS", keys.as_str()),
            ("SPAWN_PROXY_LOGGER_LEVEL", "warning"),
            ("SPAWN_USE_INTERNAL_NATS", "true"),
            ("SPAWN_INTERNAL_NATS_HOSTS", "nats://127.0.0.1:1"),
        ];
        // Without the signal that ends a process whose file may not grow: then writes fail.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" serve", BINARY]);
        let settings = [&embedded(Path::new("data"), &port)[..], &more].concat();
        let proxy = Proxy::spawn(command, &settings).await;
        let memory = [("PROXY_DATABASE_TYPE", "memory"), ("USER_FUNCTION_HOST", "127.0.0.1")];
        let stopped = Proxy::start(&memory).await;
        let tls = files.path().join("tls").display().to_string();
        run(&["tls", "bootstrap", &tls, "--days", "10"], &[]).await.said();
        let (certificate, key) = (format!("{tls}/server.pem"), format!("{tls}/server.key"));
        let tls = [("TIDEGATE_TLS_CERT", certificate.as_str()), ("TIDEGATE_TLS_KEY", &key)];
        let encrypted = Proxy::start(&[&memory[..], &tls].concat()).await;
        let config = configure(files.path(), &[&proxy, &stopped], (&encrypted, &tls)).await;
        let prometheus = Prometheus::start(&config, &files.path().join("tsdb")).await;
        // Counters are known before they count.
        prometheus.until("count(up == 1) == 3").await;
        Self { proxy, stopped, encrypted, prometheus, host, files, _open: open }
    }

    async fn client(&self) -> Client {
        Client::connect(self.proxy.address()).await.unwrap()
    }

    fn alerts(&self) -> String {
        fs::read_to_string(self.files.path().join("watch/prometheus/alerts.yaml")).unwrap()
    }

    /// Waits until an alert has fired at least once.
    async fn fires(&self, alert: &str) {
        let alert = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        self.prometheus.until(&format!("count_over_time({alert}[10m])")).await;
    }

    /// Calls, until the test ends, whatever their outcome is.
    fn load(&self) -> JoinSet<()> {
        let mut load = JoinSet::new();
        for actor in ["a0", "a1", "a2", "away"] {
            let address = self.proxy.address().to_owned();
            load.spawn(async move {
                loop {
                    if let Ok(mut client) = Client::connect(&address).await {
                        while client.invoke(&call(actor, ADD)).await.is_ok() {
                            sleep(Duration::from_millis(20)).await;
                        }
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
        load
    }

    /// A process that stands still for a while misses runs of its schedules.
    async fn miss_schedules(&self) {
        let mut client = Client::connect(self.stopped.address()).await.unwrap();
        let host = format!("http://127.0.0.1:{}", self.host.port());
        register_at(&mut client, &host, vec![definition("joe", Kind::Named)]).await;
        schedules::create(&mut client, "tick", "joe", json!({ "catch_up": "none" })).await;
        self.prometheus.until("tidegate_schedule_runs_total{outcome=\"answered\"} > 0").await;
        self.stopped.signal(Signal::STOP);
        sleep(STOPPED).await;
        self.stopped.signal(Signal::CONT);
        self.fires("TidegateSchedulesMissed").await;
    }

    async fn trouble_of_calls(&self) {
        let away = Host::start_on(0, Arc::new(Counter::default())).await;
        let mut client = self.client().await;
        let names = ["a0", "a1", "a2", "stuck", "source"];
        let mut actors = names.map(|name| definition(name, Kind::Named));
        actors[0].actions.push(Action { name: "fail".into() });
        let tick = Some(Action { name: ADD.into() });
        actors[1].timer_actions = vec![FixedTimerAction { seconds: 200, action: tick }];
        let topic = Channel { topic: "news".into(), action: ADD.into() };
        actors[1].metadata.as_mut().unwrap().channel_group = vec![topic.encode_to_vec().into()];
        register(&mut client, actors.into()).await;
        let at = format!("http://127.0.0.1:{}", away.port());
        register_at(&mut client, &at, vec![definition("away", Kind::Named)]).await;
        until(&self.proxy, "tidegate_hosts", &["state=\"reached\""], |hosts| hosts > 1.5).await;
        assert_eq!(client.invoke(&call("forbidden", ADD)).await.unwrap().0, 403);
        // A host that is away: calls fail at once, and those that are accepted are given up.
        away.stop().await;
        // And one that does not answer: calls wait for each other.
        for actor in ["away", "stuck", "away", "stuck", "away", "stuck"] {
            let mut accepted = call(actor, ADD);
            accepted.r#async = true;
            assert_eq!(client.invoke(&accepted).await.unwrap().0, 200);
        }
        // Effects for nobody, and for an actor that does not answer.
        for _ in 0..5 {
            assert_eq!(client.invoke(&call("source", ADD)).await.unwrap().0, 200);
        }
        tokio::join!(self.call_later(), self.call_too_often());
        self.small_things().await;
        for alert in ["CallsLost", "HostAway", "DeadLetters", "EffectsLate", "TurnsStuck"] {
            self.fires(&format!("Tidegate{alert}")).await;
        }
    }

    /// What is no trouble, or none that an alert is for.
    async fn small_things(&self) {
        let mut client = self.client().await;
        let topic = format!("/api/v1/system/{SYSTEM}/channels/news");
        assert_eq!(client.post(&topic, Bytes::new()).await.unwrap().status, 200);
        // There is no NATS server to reach other systems by.
        let mut elsewhere = call("a0", ADD);
        elsewhere.system.as_mut().unwrap().name = "elsewhere".into();
        elsewhere.actor.as_mut().unwrap().id.as_mut().unwrap().system = "elsewhere".into();
        assert_ne!(client.invoke(&elsewhere).await.unwrap().0, 200);
        let wrong = Request::get(format!("/api/v1/system/{SYSTEM}/actors/a0"))
            .header("host", "localhost")
            .header("authorization", "Bearer wrong")
            .body(Full::default())
            .unwrap();
        assert_eq!(client.send(wrong).await.unwrap().status, 401);
        let mut slow = TcpStream::connect(self.proxy.address()).await.unwrap();
        slow.write_all(b"GET /").await.unwrap();
        self.prometheus.until("tidegate_dead_letters > 0").await;
        self.told(&["effects", "drop", "--yes", "--all"]).await;
        let actor = format!("{SYSTEM}/a2");
        self.told(&["actors", "deactivate", &actor]).await;
        self.told(&["actors", "pause", &actor]).await;
        self.prometheus.until("tidegate_paused_actors > 0").await;
        self.told(&["actors", "resume", &actor]).await;
        self.prometheus.until("tidegate_http_connections_closed_total{reason=\"head\"} > 0").await;
        drop(slow);
    }

    /// Runs a command that asks the proxy.
    async fn told(&self, args: &[&str]) {
        run(&[args, &["--proxy", self.proxy.address()]].concat(), &[]).await.said();
    }

    /// More calls for a later time than memory holds, of an actor that does not answer.
    async fn call_later(&self) {
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let mut client = self.client().await;
            callers.spawn(async move {
                for _ in 0..LATER / 4 {
                    let mut later = call("stuck", ADD);
                    later.scheduled_to = i64::try_from(SystemClock.now().0 / 1000).unwrap() + 100;
                    assert_eq!(client.invoke(&later).await.unwrap().0, 200);
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.unwrap();
        }
    }

    /// More calls at once than there are places.
    async fn call_too_often(&self) {
        let mut calls = JoinSet::new();
        for _ in 0..100 {
            let mut client = self.client().await;
            let mut stuck = call("stuck", ADD);
            stuck.metadata.insert("request-timeout".into(), "2000".into());
            calls.spawn(async move { client.invoke(&stuck).await.unwrap().0 });
        }
        let statuses: Vec<u16> = calls.join_all().await;
        assert!(statuses.contains(&503), "{statuses:?}");
    }

    async fn trouble_of_the_process(&mut self) {
        let mut client = self.client().await;
        let broken = self.files.path().join("policies/broken.policy");
        fs::write(&broken, "no policy").unwrap();
        self.proxy.signal(Signal::HUP);
        let mut garbage = TcpStream::connect(self.encrypted.address()).await.unwrap();
        garbage.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        // Few more files than are open.
        let open = fs::read_dir(format!("/proc/{}/fd", self.proxy.pid())).unwrap().count();
        let before = self.limit(Resource::Nofile, (open + open / 10) as u64);
        self.fires("TidegateFewDescriptors").await;
        self.restore(Resource::Nofile, before);
        self.fires("TidegateReloadBroken").await;
        fs::remove_file(broken).unwrap();
        self.proxy.signal(Signal::HUP);
        // Whatever is logged now is lost.
        self.proxy.stop_reading().await;
        let mut failing = call("a0", "fail");
        failing.r#async = true;
        for _ in 0..10 {
            assert_eq!(client.invoke(&failing).await.unwrap().0, 200);
            sleep(Duration::from_millis(50)).await;
        }
        self.fires("TidegateLogDropped").await;
    }

    async fn trouble_of_the_store(&self) {
        let is_doubted = "max_over_time(tidegate_commits_in_doubt[10m]) > 0";
        // No file can be opened, then none may grow either: a write fails, and the store cannot be opened again, so that it is not
        // known what became of the write. Unless the store was being opened again just then for its own reasons.
        for _ in 0..5 {
            let open = self.limit(Resource::Nofile, 3);
            let files = self.limit(Resource::Fsize, 0);
            self.prometheus.until("tidegate_store_breaker_open > 0").await;
            sleep(Duration::from_secs(3)).await;
            self.restore(Resource::Fsize, files);
            self.restore(Resource::Nofile, open);
            until(&self.proxy, "tidegate_store_breaker_open", &[], |open| open < 0.5).await;
            until(&self.proxy, "tidegate_commits_in_doubt", &[], |doubts| doubts < 0.5).await;
            if !self.prometheus.query(is_doubted).await.is_empty() {
                break;
            }
        }
        self.fires("TidegateStoreFails").await;
        self.fires("TidegateCommitsInDoubt").await;
        let free = FreeSpace::of(Path::new(".")).unwrap().free;
        let ballast = usize::try_from(free.saturating_sub(10 << 20)).unwrap();
        fs::write("ballast", vec![1; ballast]).unwrap();
        self.fires("TidegateDiskFull").await;
        // An alert may see what the panels' steps of a second miss.
        self.prometheus.until("max_over_time(tidegate_store_disk_full[1m:1s]) > 0").await;
        fs::remove_file("ballast").unwrap();
    }

    /// Sets a limit of the proxy; the one before.
    fn limit(&self, resource: Resource, most: u64) -> Rlimit {
        let pid = Pid::from_raw(self.proxy.pid()).unwrap();
        // It has inherited the upper limit of this process.
        let maximum = getrlimit(resource).maximum;
        prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum }).unwrap()
    }

    fn restore(&self, resource: Resource, limit: Rlimit) {
        prlimit(Pid::from_raw(self.proxy.pid()), resource, limit).unwrap();
    }

    /// Asks for everything that dashboards, rules and alerts ask for.
    async fn queries(&self) {
        let mut wrong = Vec::new();
        let (mut asked, mut quiet, mut titles) = (0, BTreeSet::new(), BTreeSet::new());
        for (panel, expression, legend) in panels(self.files.path()) {
            asked += 1;
            let title = format!("{panel} {legend}");
            titles.insert(title.clone());
            let found = self.prometheus.query(&expression).await;
            if !found.iter().any(|series| !series.value.is_nan()) {
                wrong.push(format!("{panel} has no data: {expression}"));
            }
            let has = |series: &Series, label: &str| series.labels.get(label).is_some();
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                if !found.iter().all(|series| has(series, label)) {
                    wrong.push(format!("{panel} has series without {label}: {expression}"));
                }
            }
            let moved = format!("max_over_time(({expression})[10m:1s]) > 0");
            if self.prometheus.query(&moved).await.is_empty() {
                quiet.insert(title);
            }
        }
        let folder = self.files.path().join("watch/prometheus");
        let rules = fs::read_to_string(folder.join("rules.yaml")).unwrap();
        for name in told_by("record", &rules) {
            asked += 1;
            if self.prometheus.query(&name).await.is_empty() {
                wrong.push(format!("{name} is not recorded"));
            }
        }
        for expression in told_by("expr", &self.alerts()) {
            asked += 1;
            let value = expression.split(['<', '>']).next().unwrap();
            if self.prometheus.query(value).await.is_empty() {
                wrong.push(format!("an alert has no data: {value}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        for (panel, reason) in QUIET {
            assert!(titles.contains(panel), "there is no {panel}");
            if quiet.remove(panel) {
                eprintln!("{panel} stays 0: {reason}");
            }
        }
        assert!(quiet.is_empty(), "0 all the time: {quiet:?}");
        let rules = self.prometheus.get("/api/v1/rules").await;
        let groups = rules["data"]["groups"].as_array().unwrap().iter();
        let rules: Vec<&Value> =
            groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
        for rule in &rules {
            assert_eq!(rule["health"], "ok", "{rule}");
        }
        eprintln!("{asked} queries have data, {} rules are evaluated", rules.len());
    }
}

/// The queries of all panels: where they are, what they ask, and the legend.
fn panels(files: &Path) -> Vec<(String, String, String)> {
    let mut queries = Vec::new();
    for name in ["overview", "flow", "actors", "stores", "effects"] {
        let path = files.join(format!("watch/grafana/dashboards/{name}.json"));
        let board: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let asked = text(&target["expr"]).replace("[$__rate_interval]", WINDOW);
                let asked = ["$job", "$instance", "$system"]
                    .iter()
                    .fold(asked, |asked, variable| asked.replace(variable, ".*"));
                let title = format!("{name}: {}", text(&panel["title"]));
                queries.push((title, asked, text(&target["legendFormat"])));
            }
        }
    }
    queries
}

/// The values of a key in the file of a rule or alert.
fn told_by(key: &str, rules: &str) -> Vec<String> {
    let key = format!("{key}: ");
    let lines = rules.lines().map(|line| line.trim().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(&key)).map(str::to_owned).collect()
}

/// Has the files written for these proxies, and makes Prometheus and the rules quicker. Returns the configuration of Prometheus.
async fn configure(
    files: &Path,
    plain: &[&Proxy],
    (encrypted, tls): (&Proxy, &[(&str, &str)]),
) -> PathBuf {
    let dir = files.join("watch");
    let mut args = vec!["dashboards", dir.to_str().unwrap()];
    for proxy in plain {
        args.extend(["--target", proxy.address()]);
    }
    run(&args, &[]).await.said();
    let beside = files.join("watch-tls");
    let (_, port) = encrypted.address().rsplit_once(':').unwrap();
    let settings = [&[("PROXY_HTTP_PORT", port)], tls].concat();
    run(&["dashboards", beside.to_str().unwrap()], &settings).await.said();
    for dir in [&dir, &beside] {
        check(&dir.join("prometheus/prometheus.yml")).await;
    }
    let folder = dir.join("prometheus");
    let config = folder.join("prometheus.yml");
    let job = fs::read_to_string(beside.join("prometheus/prometheus.yml")).unwrap();
    let (_, job) = job.split_once("scrape_configs:\n").unwrap();
    let all = fs::read_to_string(&config).unwrap().replace("15s", "1s");
    fs::write(&config, all + &job.replace("job_name: tidegate", "job_name: encrypted")).unwrap();
    for name in ["rules.yaml", "alerts.yaml"] {
        let path = folder.join(name);
        let mut rules = fs::read_to_string(&path).unwrap();
        for window in ["[5m]", "[15m]"] {
            rules = rules.replace(window, WINDOW);
        }
        for wait in ["1m", "5m"] {
            rules = rules.replace(&format!("for: {wait}\n"), "for: 0m\n");
        }
        for (metric, seconds, sooner) in SOONER {
            let (now, then) = (format!("{metric} {sooner}\n"), format!("{metric} {seconds}\n"));
            assert!(name == "rules.yaml" || rules.contains(&then), "{metric}");
            rules = rules.replace(&then, &now);
        }
        fs::write(path, rules).unwrap();
    }
    config
}

/// Has promtool look at a configuration.
async fn check(config: &Path) {
    let mut command = Command::new("promtool");
    let output = command.args(["check", "config"]).arg(config).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn files_for_prometheus_and_grafana_are_written_once_and_only_where_there_is_a_port() {
    let files = tempfile::tempdir().unwrap();
    let dir = files.path().join("watch");
    let at = dir.to_str().unwrap();
    let port = [("PROXY_HTTP_PORT", "9001"), ("TIDEGATE_HTTP_ADDRESS", "0.0.0.0")];
    for (settings, word) in [
        (&[("PROXY_HTTP_PORT", "0")][..], "--target"),
        (&[("SPAWN_DISABLE_METRICS", "true")], "SPAWN_DISABLE_METRICS"),
        (&[("PROXY_UDS_ENABLED", "true")], "PROXY_UDS_ENABLED"),
        (
            &[("TIDEGATE_TLS_CERT", "/no/file"), ("TIDEGATE_TLS_KEY", "/no/file")],
            "TIDEGATE_TLS_CERT",
        ),
    ] {
        let settings = [&port[..], settings].concat();
        let ran = run(&["dashboards", at], &settings).await;
        assert!(ran.code != Some(0) && ran.stderr.contains(word), "{ran:?}");
        assert!(!dir.exists());
    }
    run(&["dashboards", at, "--target", "nowhere"], &port).await.refused(2);
    let told = run(&["dashboards", at], &port).await.said();
    assert!(told.contains("prometheus --config.file="), "{told}");
    let config = dir.join("prometheus/prometheus.yml");
    check(&config).await;
    let written = fs::read_to_string(&config).unwrap();
    assert!(written.contains("targets: [\"127.0.0.1:9001\"]\n"), "{written}");
    let provider = dir.join("grafana/provisioning/dashboards/tidegate.yaml");
    let provider = fs::read_to_string(provider).unwrap();
    assert!(provider.contains(&format!("path: \"{at}/grafana/dashboards\"\n")), "{provider}");

    fs::write(&config, "mine").unwrap();
    let refused = run(&["dashboards", at], &port).await.refused(73);
    assert!(refused.contains("--force"), "{refused}");
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");
    run(&["dashboards", at, "--force", "--target", "shop:1"], &port).await.said();
    assert!(fs::read_to_string(&config).unwrap().contains("targets: [\"shop:1\"]\n"));
}
