//! `tidegate warnings` and `/admin/warnings` of the built binary: nothing in a quiet proxy, and what is not as it should be with its
//! page of the runbook.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::authority::Authority;
use support::client::Client;
use support::host::{BoundHost, Host};
use support::json::{Gated, register, send};
use support::namespace::run_on_device;
use support::proxy::{Proxy, embedded};
use support::tool::run;
use tempfile::TempDir;
use tidegate::store::FreeSpace;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);

/// A proxy with a shop that can be closed.
struct World {
    shop: Arc<Gated>,
    open: watch::Sender<bool>,
    host: Option<Host>,
    proxy: Proxy,
    client: Client,
    calls: JoinSet<u16>,
    _directory: TempDir,
}

impl World {
    async fn new(settings: &[(&str, &str)]) -> Self {
        Self::on(tempfile::tempdir().unwrap(), settings).await
    }

    /// With its store in a directory.
    async fn on(directory: TempDir, settings: &[(&str, &str)]) -> Self {
        let (shop, open) = Gated::new(true);
        let host = Host::start(shop.clone());
        let port = host.port();
        let common = [("TIDEGATE_START_TIMEOUT", "300s"), ("TIDEGATE_HOST_TIMEOUT", "300s")];
        let all = [&embedded(directory.path(), &port)[..], &common, settings].concat();
        let proxy = Proxy::start(&all).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actions = ["add", "wait", "drop"];
        let actors = ["joe", "ann", "sink"].map(|name| json!({"name": name, "actions": actions}));
        register(&mut client, &port, &json!(actors)).await;
        let (host, calls) = (Some(host), JoinSet::new());
        Self { shop, open, host, proxy, client, calls, _directory: directory }
    }

    /// Begins a call in the background.
    fn begin(&mut self, actor: &'static str, body: Value) {
        let address = self.proxy.address().to_owned();
        self.calls.spawn(async move {
            let mut client = Client::connect(&address).await.unwrap();
            let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
            send(&mut client, ("POST", &path), &[], &body.to_string()).await.0.status
        });
    }

    /// Waits until all calls have succeeded.
    async fn answered(&mut self) {
        while let Some(status) = timeout(PATIENCE, self.calls.join_next()).await.unwrap() {
            assert_eq!(status.unwrap(), 200);
        }
    }

    async fn warnings(&mut self) -> Vec<Value> {
        let (reply, list) = send(&mut self.client, ("GET", "/admin/warnings"), &[], "").await;
        assert_eq!(reply.status, 200, "{list}");
        list["warnings"].as_array().unwrap().clone()
    }

    /// Asks until there is a warning, which must be the only one and of this kind. Compares its subject and its page of the runbook,
    /// and has the binary print that page.
    async fn warned(&mut self, kind: &str, what: &str, page: &str) -> String {
        let found = async {
            loop {
                let all = self.warnings().await;
                if !all.is_empty() {
                    return all;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        let found = timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {kind}"));
        let kinds: Vec<_> = found.iter().map(|warning| &warning["kind"]).collect();
        assert_eq!(kinds, [kind], "{found:#?}");
        assert_eq!((&found[0]["what"], &found[0]["runbook"]), (&json!(what), &json!(page)));
        let text = run(&["warnings", "--runbook", page], &[]).await.said();
        assert!(text.starts_with("# Tidegate"), "{text}");
        found[0]["sentence"].as_str().unwrap().to_owned()
    }

    /// Asks until there is no warning any more.
    async fn over(&mut self) {
        let is_over = async {
            while !self.warnings().await.is_empty() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, is_over).await.expect("it is over");
    }
}

#[tokio::test]
async fn a_quiet_proxy_has_none_and_a_turn_that_takes_longer_than_the_others_is_one() {
    let mut world = World::new(&[]).await;
    // How long turns take is known after twenty.
    for _ in 0..30 {
        world.begin("joe", json!({"action": "add"}));
    }
    world.answered().await;
    assert_eq!(world.warnings().await, Vec::<Value>::new(), "it is quiet");
    let address = world.proxy.address().to_owned();
    let asked = ["warnings", "--proxy", &address];
    assert_eq!(run(&asked, &[]).await.said(), "no warnings\n");
    world.open.send_replace(false);
    world.begin("joe", json!({"action": "wait"}));
    let sentence = world.warned("stuck_turn", "shop/joe", "turns-stuck").await;
    assert!(sentence.starts_with("wait has run for "), "{sentence}");
    assert!(sentence.ends_with("99 % of the last turns of its host took at most 1s"), "{sentence}");
    let told = run(&asked, &[]).await;
    assert!(told.code == Some(1) && told.stdout.contains("shop/joe"), "{}", told.stdout);
    let told = run(&[&asked[..], &["--output", "json"]].concat(), &[]).await;
    let told: Value = serde_json::from_str(&told.stdout).expect(&told.stdout);
    assert_eq!(told["warnings"][0]["kind"], "stuck_turn", "{told}");
    world.open.send_replace(true);
    world.answered().await;
    world.over().await;
}

#[tokio::test]
async fn a_mailbox_that_takes_hardly_any_more_is_one() {
    // An eighth of all calls that may wait or run, for one actor.
    let settings =
        [("TIDEGATE_ADMISSION_EVENTS", "72"), ("ACTORS_GLOBAL_BACKPRESSURE_MAX_DEMAND", "8")];
    let mut world = World::new(&settings).await;
    world.open.send_replace(false);
    world.begin("joe", json!({"action": "wait"}));
    let runs = async {
        loop {
            let path = ("GET", "/api/v1/actors?system=shop&name=joe");
            let (_, listed) = send(&mut world.client, path, &[], "").await;
            if listed["actors"][0]["running"]["action"] == "wait" {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, runs).await.expect("it runs");
    for _ in 0..9 {
        world.begin("joe", json!({"action": "add"}));
    }
    let sentence = world.warned("full_mailbox", "shop/joe", "calls-shed").await;
    assert!(sentence.starts_with("9 of 10 calls wait; the first for "), "{sentence}");
    world.open.send_replace(true);
    world.answered().await;
    world.over().await;
}

#[tokio::test]
async fn a_host_that_is_away_again_and_again_is_one() {
    let mut world = World::new(&[]).await;
    world.begin("joe", json!({"action": "add"}));
    world.answered().await;
    let mut address = String::new();
    for outage in 1..=3 {
        assert_eq!(world.warnings().await, Vec::<Value>::new(), "before outage {outage}");
        let port = world.host.take().unwrap().stop().await;
        address = format!("127.0.0.1:{port}");
        // Refuses connections, and nobody else takes the port.
        let bound = BoundHost::bind_to(port);
        world.begin("joe", json!({"action": "add"}));
        let away = async {
            loop {
                let path = ("GET", "/api/v1/system/shop/hosts");
                let (_, shown) = send(&mut world.client, path, &[], "").await;
                if shown["hosts"][0]["away_seconds"].is_u64() {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, away).await.expect("it is away");
        world.host = Some(bound.listen(world.shop.clone()));
        world.answered().await;
    }
    let sentence = world.warned("flapping_host", &address, "host-away").await;
    assert!(sentence.starts_with("3 outages within the last 10 min, "), "{sentence}");
}

#[tokio::test]
async fn a_host_that_is_away_is_one_and_is_what_holds_calls_up() {
    let settings = [("TIDEGATE_HOST_GRACE", "500ms"), ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0")];
    let mut world = World::new(&settings).await;
    world.begin("joe", json!({"action": "add"}));
    world.answered().await;
    let port = world.host.take().unwrap().stop().await;
    // Refuses connections, and nobody else takes the port.
    let bound = BoundHost::bind_to(port);
    world.begin("joe", json!({"action": "add"}));
    let refused = timeout(PATIENCE, world.calls.join_next()).await.unwrap();
    assert_eq!(refused.unwrap().unwrap(), 502);
    let address = format!("127.0.0.1:{port}");
    let sentence = world.warned("host_away", &address, "host-away").await;
    assert!(sentence.starts_with("it has accepted no connection for "), "{sentence}");
    assert!(sentence.contains(": calls that need it are refused. The reason: "), "{sentence}");
    // No call waits.
    let mut admin = Client::connect(&world.proxy.admin().await).await.unwrap();
    let (_, flow) = send(&mut admin, ("GET", "/admin/flow"), &[], "").await;
    let found = &flow["bottleneck"];
    let begins = format!("host {address} has accepted no connection for ");
    assert!(found["sentence"].as_str().unwrap_or_default().starts_with(&begins), "{flow:#}");
    assert_eq!((&found["host"], &found["turns"]), (&json!(address), &json!(0)));
    world.host = Some(bound.listen(world.shop.clone()));
    world.over().await;
}

#[tokio::test]
async fn an_effect_that_is_tried_again_is_one() {
    let mut world = World::new(&[]).await;
    let effects = json!([{"actor": "sink", "action": "drop"}]);
    let told = json!({"answer": {"state": {"count": 1}, "effects": effects}});
    world.begin("ann", json!({"action": "add", "payload": told}));
    world.answered().await;
    let sentence = world.warned("retrying_effect", "shop/ann", "effects-late").await;
    assert!(sentence.starts_with("1 side effect is tried again, "), "{sentence}");
}

#[tokio::test]
async fn a_schedule_whose_run_does_not_come_is_one() {
    let mut world = World::new(&[]).await;
    let every = json!({"name": "hourly", "actor": "joe", "action": "add", "every_ms": 3_600_000});
    let path = "/api/v1/system/shop/schedules";
    let created = send(&mut world.client, ("POST", path), &[], &every.to_string()).await;
    assert_eq!(created.0.status, 200, "{}", created.1);
    let pause = ("POST", "/api/v1/actors/pause?system=shop&name=joe");
    assert_eq!(send(&mut world.client, pause, &[], "").await.0.status, 200);
    let run_now = format!("{path}/hourly/run");
    assert_eq!(send(&mut world.client, ("POST", &run_now), &[], "").await.0.status, 200);
    let sentence = world.warned("overdue_schedule", "shop/hourly", "due-work-late").await;
    assert!(sentence.contains("due since 1"), "{sentence}");
    let resume = ("POST", "/api/v1/actors/resume?system=shop&name=joe");
    assert_eq!(send(&mut world.client, resume, &[], "").await.0.status, 200);
    world.over().await;
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path(), "authority");
    for (file, days, is_soon) in [("lasting", 30, false), ("ending", 7, true)] {
        let issued = authority.server(file, days);
        let settings = [
            ("PROXY_DATABASE_TYPE", "memory"),
            ("TIDEGATE_DRAIN_DELAY", "0"),
            ("TIDEGATE_TLS_CERT", &*issued.certificate),
            ("TIDEGATE_TLS_KEY", &*issued.key),
        ];
        let proxy = Proxy::start(&settings).await;
        let at = format!("https://{}", proxy.address());
        let args = ["warnings", "--proxy", &at, "--output", "json"];
        let told = run(&args, &[("TIDEGATE_PROXY_TLS_CA", &*authority.root)]).await;
        assert_eq!(told.code, Some(i32::from(is_soon)), "{told:?}");
        let told: Value = serde_json::from_str(&told.stdout).unwrap();
        let found = told["warnings"].as_array().unwrap();
        assert_eq!(found.len(), usize::from(is_soon), "{found:#?}");
        for warning in found {
            assert_eq!(warning["kind"], "certificate_ending");
            assert_eq!(warning["what"], "TIDEGATE_TLS_CERT");
            assert_eq!(warning["runbook"], "certificate-ends");
            let sentence = warning["sentence"].as_str().unwrap();
            assert!(sentence.starts_with("a certificate ends at "), "{sentence}");
        }
    }
}

#[test]
fn a_disk_with_little_left_is_one() {
    run_on_device("64m", "inside_a_device_that_fills");
}

#[tokio::test]
#[ignore = "started by the test above"]
async fn inside_a_device_that_fills() {
    // The reserve is an eighth of the device.
    let mut world = World::on(tempfile::tempdir_in(".").unwrap(), &[]).await;
    assert_eq!(world.warnings().await, Vec::<Value>::new());
    let leave = |mib: u64| {
        let mut ballast = File::options().create(true).append(true).open("ballast").unwrap();
        let free = FreeSpace::of(Path::new(".")).unwrap().free;
        let more = usize::try_from(free - (mib << 20)).unwrap();
        ballast.write_all(&vec![1; more]).unwrap();
    };
    leave(12);
    let sentence = world.warned("disk_reserve_low", "store", "disk-full").await;
    assert!(sentence.contains("; changes are refused when less than "), "{sentence}");
    leave(2);
    let full = async {
        while !world.warned("disk_reserve_low", "store", "disk-full").await.ends_with("are refused")
        {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, full).await.expect("it is full");
    fs::remove_file("ballast").unwrap();
    world.over().await;
}
