//! Channels: broadcasts between Tidegates of one system.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::server::Nats;
use super::support::client::Client;
use super::support::host::{Answer, Call, Host, Script};
use super::support::json::{answer, register, send};
use super::support::proxy::Proxy;
use super::support::scrape::{Scrape, count};
use super::{Caller, LIMIT, until};

const CONNECTED: &str = "tidegate_nats_broadcasts_connected";
const IN: &str = "tidegate_nats_broadcasts_in_total";
const OUT: &str = "tidegate_nats_broadcasts_out_total";
const MISSED: &str = "tidegate_nats_broadcasts_missed_total";

/// A host whose actors note the numbers that they hear. `cry` broadcasts its payload to `news`.
#[derive(Debug)]
struct Square {
    heard: Mutex<Vec<Heard>>,
    /// Whether `hear` comes to its end.
    open: watch::Sender<bool>,
}

#[derive(Debug, Clone)]
struct Heard {
    actor: String,
    number: u64,
    caller: Value,
    trace: [String; 2],
}

impl Script for Square {
    fn answer(self: Arc<Self>, call: Call) -> BoxFuture<'static, Option<Answer>> {
        Box::pin(async move {
            let body: Value = serde_json::from_slice(&call.body).unwrap();
            if body["action"] == "cry" {
                let sent = json!({ "channel": "news", "payload": body["payload"] });
                return Some(answer(200, &json!({ "broadcast": sent }).to_string()));
            }
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.unwrap();
            if let Some(number) = body["payload"]["number"].as_u64() {
                self.heard.lock().push(Heard {
                    actor: body["self"]["name"].as_str().unwrap().to_owned(),
                    number,
                    caller: body["caller"]["name"].clone(),
                    trace: ["traceparent", "tracestate"]
                        .map(|name| call.header(name).unwrap_or_default().to_owned()),
                });
            }
            Some(answer(200, "{}"))
        })
    }
}

/// A Tidegate with the system `shop`, whose actors `joe` and `moe` subscribe to `news` and to a topic with a strange name.
struct Member {
    caller: Caller,
    square: Arc<Square>,
    _host: Host,
}

/// No part of a subject can carry it as it is.
const STRANGE: &str = "a.b *>é";

impl Member {
    async fn start(nats: &Nats, more: &[(&str, &str)]) -> Self {
        let square = Arc::new(Square { heard: Mutex::default(), open: watch::Sender::new(true) });
        let host = Host::start(square.clone());
        let settings = [
            ("PROXY_DATABASE_TYPE", "memory"),
            ("TIDEGATE_DRAIN_DELAY", "0"),
            ("SPAWN_PUBSUB_ADAPTER", "nats"),
            ("SPAWN_PUBSUB_NATS_HOSTS", nats.servers.as_str()),
        ];
        let proxy = Proxy::start(&[&settings, more].concat()).await;
        let client = Client::connect(proxy.address()).await.unwrap();
        let mut caller = Caller { proxy, client };
        let bound =
            json!([{ "topic": "news", "action": "hear" }, { "topic": STRANGE, "action": "hear" }]);
        let actors = json!([
            { "name": "crier", "actions": ["cry"] },
            { "name": "joe", "actions": ["hear"], "channels": bound },
            { "name": "moe", "actions": ["hear"], "channels": bound },
        ]);
        register(&mut caller.client, &host.port(), &actors).await;
        let mut member = Self { caller, square, _host: host };
        member.until_connected(true).await;
        member
    }

    async fn until_connected(&mut self, is: bool) {
        let value = u64::from(is);
        until("the proxy knows its connection", async || self.count(CONNECTED).await == value)
            .await;
    }

    async fn count(&self, name: &str) -> u64 {
        count(&self.caller.proxy, name).await
    }

    async fn outcome(&mut self, name: &str, outcome: &str) -> u64 {
        self.count(&format!("{name}{{outcome=\"{outcome}\"}}")).await
    }

    /// Lets `crier` broadcast a number.
    async fn cry(&mut self, number: u64) {
        let call = json!({ "action": "cry", "payload": { "number": number } });
        let (reply, answer) = self.caller.call("shop", "crier", call).await;
        assert_eq!(reply.status, 200, "{answer}");
    }

    /// Publishes a number from outside.
    async fn publish(&mut self, topic: &str, payload: &Value) {
        let topic =
            percent_encoding::utf8_percent_encode(topic, percent_encoding::NON_ALPHANUMERIC);
        let path = format!("/api/v1/system/shop/channels/{topic}");
        let body = json!({ "payload": payload }).to_string();
        let headers = [("traceparent", TRACE), ("tracestate", "a=1")];
        let (reply, answer) = send(&mut self.caller.client, ("POST", &path), &headers, &body).await;
        // Whom it reached is said of this proxy.
        assert_eq!((reply.status, &answer["subscribers"]), (200, &json!(2)), "{answer}");
    }

    /// The numbers that an actor has heard, above `least`.
    fn heard(&self, actor: &str, least: u64) -> Vec<u64> {
        let heard = self.square.heard.lock();
        let ours = heard.iter().filter(|heard| heard.actor == actor && heard.number > least);
        ours.map(|heard| heard.number).collect()
    }

    /// Waits until both actors have heard this number.
    async fn until_heard(&self, number: u64) {
        let is_heard = |actor| self.heard(actor, number - 1).contains(&number);
        until(&format!("{number} is heard"), async || is_heard("joe") && is_heard("moe")).await;
    }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Broadcasts numbers from `first` on until another member hears one; returns how many.
async fn until_reached(from: &mut Member, to: &Member, first: u64) -> u64 {
    let mut sent = 0;
    until("a broadcast reaches the other member", async || {
        from.cry(first + sent).await;
        sent += 1;
        !to.heard("joe", first - 1).is_empty()
    })
    .await;
    to.until_heard(first + sent - 1).await;
    sent
}

#[tokio::test]
async fn a_broadcast_reaches_the_subscribers_of_every_member_once_and_in_order() {
    let nats = Nats::start().await;
    let (mut here, mut there) = (Member::start(&nats, &[]).await, Member::start(&nats, &[]).await);
    let sent = until_reached(&mut here, &there, 1_000).await;
    for number in 2_001..=2_100 {
        here.cry(number).await;
    }
    let expected: Vec<u64> = (2_001..=2_100).collect();
    for member in [&here, &there] {
        member.until_heard(2_100).await;
    }
    // And the other way, from outside, to a topic of a name that no subject carries.
    there.publish(STRANGE, &json!({ "number": 3_001 })).await;
    here.until_heard(3_001).await;
    there.until_heard(3_001).await;
    for member in [&here, &there] {
        for actor in ["joe", "moe"] {
            let heard = member.heard(actor, 2_000);
            assert_eq!(heard[..100], expected, "{actor}");
            assert_eq!(heard[100..], [3_001], "{actor}");
        }
        let heard = member.square.heard.lock();
        let of = |number| heard.iter().find(|heard| heard.number == number).unwrap().clone();
        assert_eq!((of(2_001).caller, of(3_001).caller), (json!("crier"), Value::Null));
        let [parent, state] = of(3_001).trace;
        assert!(parent.contains(&TRACE[3..35]) && state == "a=1", "{parent} {state}");
    }
    // What one sent did not come back to it.
    assert_eq!(here.outcome(IN, "taken").await, 1);
    assert_eq!(there.outcome(OUT, "sent").await, 1);
    assert_eq!(here.outcome(OUT, "sent").await, sent + 100);
    assert_eq!(there.outcome(IN, "taken").await + there.count(MISSED).await, sent + 100);
}

#[tokio::test]
async fn without_nats_the_subscribers_here_are_served_and_what_others_miss_is_counted() {
    let nats = Nats::start().await;
    let (mut here, mut there) = (Member::start(&nats, &[]).await, Member::start(&nats, &[]).await);
    let mut sent = until_reached(&mut here, &there, 1_000).await;
    nats.kill(1).await;
    here.until_connected(false).await;
    there.until_connected(false).await;
    for number in 2_001..=2_020 {
        here.cry(number).await;
    }
    sent += 20;
    here.until_heard(2_020).await;
    assert_eq!(here.heard("joe", 2_000), (2_001..=2_020).collect::<Vec<_>>());
    assert_eq!(here.caller.client.get("/health/readiness").await.unwrap().status, 200);
    until("they are counted", async || here.outcome(OUT, "unsent").await >= 20).await;
    assert!(there.heard("joe", 2_000).is_empty());
    nats.restart(1).await;
    here.until_connected(true).await;
    there.until_connected(true).await;
    sent += until_reached(&mut here, &there, 3_000).await;
    let missed = there.count(MISSED).await;
    assert!(missed >= 20, "{missed}");
    assert_eq!(there.outcome(IN, "taken").await + missed, sent);
    // A proxy that starts without NATS serves, too, and has missed nothing that was sent before.
    let late = Member::start(&nats, &[]).await;
    until_reached(&mut here, &late, 4_000).await;
    assert_eq!(late.count(MISSED).await, 0);
}

/// Waits until so many broadcasts of the other member are accounted for; returns how many were missed.
async fn until_accounted(member: &mut Member, sent: u64) -> u64 {
    let mut missed = 0;
    until("all are accounted for", async || {
        missed = member.count(MISSED).await;
        let (taken, shed) =
            (member.outcome(IN, "taken").await, member.outcome(IN, "dropped").await);
        taken + shed + missed == sent
    })
    .await;
    missed
}

#[tokio::test]
async fn what_has_no_place_is_dropped_and_counted_on_both_sides() {
    let nats = Nats::start().await;
    let bytes = [("TIDEGATE_BROADCAST_BYTES", "4MiB")];
    let few = [("TIDEGATE_BROADCAST_EVENTS", "8")];
    let (mut here, mut there) =
        (Member::start(&nats, &bytes).await, Member::start(&nats, &few).await);
    let mut sent = until_reached(&mut here, &there, 1_000).await;
    // Subscribers there that take nothing.
    there.square.open.send_replace(false);
    for number in 2_001..=2_050 {
        here.cry(number).await;
    }
    sent += 50;
    here.until_heard(2_050).await;
    until_accounted(&mut there, sent).await;
    // Whole messages, or deliveries to those who hold their share.
    let deliveries = there.outcome("tidegate_broadcast_deliveries_total", "dropped").await;
    assert!(there.outcome(IN, "dropped").await + deliveries > 0);
    there.square.open.send_replace(true);

    // A server that takes nothing.
    let pid = nats.pid(1).await;
    kill_process(pid, Signal::STOP).unwrap();
    let large = "x".repeat(600_000);
    for number in 3_001..=3_040 {
        here.publish("news", &json!({ "number": number, "large": large })).await;
        here.until_heard(number).await;
    }
    sent += 40;
    let dropped = here.outcome(OUT, "dropped").await;
    kill_process(pid, Signal::CONT).unwrap();
    assert!(dropped > 0);
    assert_eq!(here.heard("moe", 3_000), (3_001..=3_040).collect::<Vec<_>>());
    let mut number = 4_000;
    until("a broadcast reaches the other member", async || {
        here.cry(number).await;
        (number, sent) = (number + 1, sent + 1);
        !there.heard("joe", 3_999).is_empty()
    })
    .await;
    let missed = until_accounted(&mut there, sent).await;
    assert!(missed >= dropped, "{missed} {dropped}");
    let heard = there.heard("joe", 3_000);
    assert!(heard.is_sorted_by(|one, next| one < next), "each once, and in order: {heard:?}");
}

#[tokio::test]
async fn a_message_that_nobody_of_ours_sent_is_refused_and_counted() {
    let nats = Nats::start().await;
    let policies = tempfile::tempdir().unwrap();
    let deny = "type: deny\nidentities: nats:\ntargets: shop/secret\n";
    std::fs::write(policies.path().join("one.policy"), deny).unwrap();
    let folder = policies.path().to_str().unwrap();
    let mut here = Member::start(&nats, &[]).await;
    let mut there = Member::start(&nats, &[("TIDEGATE_POLICIES_DIR", folder)]).await;
    until_reached(&mut here, &there, 1_000).await;
    let stranger = nats.client().await;
    for body in ["", "nonsense"] {
        stranger.publish("tidegate.channels.shop.news", body.into()).await.unwrap();
    }
    until("both are refused", async || there.outcome(IN, "refused").await == 2).await;
    let path = "/api/v1/system/shop/channels/secret";
    let (reply, _) = send(&mut here.caller.client, ("POST", path), &[], "{}").await;
    assert_eq!(reply.status, 200);
    until("the policy refuses it", async || there.outcome(IN, "refused").await == 3).await;
    let said = there.caller.proxy.said(Duration::from_secs(30)).await.join("\n");
    assert!(said.contains("a broadcast of another member is not taken"), "{said}");
}

/// A proxy with these settings is connected for broadcasts, or says why it is not.
async fn is_connected(settings: &[(&str, &str)], told: Option<&str>) {
    let fixed = [
        ("PROXY_DATABASE_TYPE", "memory"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("SPAWN_PUBSUB_ADAPTER", "nats"),
    ];
    let proxy = Proxy::start(&[&fixed, settings].concat()).await;
    let client = Client::connect(proxy.address()).await.unwrap();
    let mut caller = Caller { proxy, client };
    match told {
        None => until("it is connected", async || count(&caller.proxy, CONNECTED).await == 1).await,
        Some(told) => {
            let scrape = Scrape::of(&caller.proxy).await;
            assert_eq!(scrape.get(CONNECTED, &[]), Some(0.0));
            let is_told = |line: &String| line.contains(told);
            until(told, async || caller.proxy.log().iter().any(is_told)).await;
            assert_eq!(caller.client.get("/health/readiness").await.unwrap().status, 200);
        }
    }
    let said = caller.proxy.said(LIMIT).await.join("\n");
    assert!(!said.contains("correct-horse") && !said.contains("battery-staple"), "{said}");
}

#[tokio::test]
async fn users_tokens_and_certificates_are_shown_for_broadcasts_too() {
    let auth = ("SPAWN_PUBSUB_NATS_AUTH", "true");
    let (right, wrong) = ("correct-horse", "battery-staple");
    let refused = Some("authorization violation");
    let nats = Nats::with(1, &[("NATS_AUTH", "user"), ("NATS_PASS", right)]).await;
    let hosts = ("SPAWN_PUBSUB_NATS_HOSTS", nats.servers.as_str());
    is_connected(&[hosts, auth, ("SPAWN_PUBSUB_NATS_AUTH_PASS", right)], None).await;
    is_connected(&[hosts, auth, ("SPAWN_PUBSUB_NATS_AUTH_PASS", wrong)], refused).await;
    // The settings of calls are their own.
    let calls = [("SPAWN_INTERNAL_NATS_AUTH", "true"), ("SPAWN_INTERNAL_NATS_AUTH_PASS", right)];
    is_connected(&[hosts, calls[0], calls[1]], refused).await;
    drop(nats);

    let nats = Nats::with(1, &[("NATS_AUTH", "token"), ("NATS_PASS", right)]).await;
    let hosts = ("SPAWN_PUBSUB_NATS_HOSTS", nats.servers.as_str());
    let jwt = ("SPAWN_PUBSUB_NATS_AUTH_TYPE", "jwt");
    is_connected(&[hosts, auth, jwt, ("SPAWN_PUBSUB_NATS_AUTH_JWT", right)], None).await;
    is_connected(&[hosts, auth, jwt, ("SPAWN_PUBSUB_NATS_AUTH_JWT", wrong)], refused).await;
    drop(nats);

    let directory = tempfile::tempdir().unwrap();
    super::secure::certificates(directory.path()).await;
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let folder = directory.path().to_str().unwrap();
    let nats = Nats::with(1, &[("NATS_TLS", folder), ("NATS_TLS_VERIFY", "1")]).await;
    let hosts = ("SPAWN_PUBSUB_NATS_HOSTS", nats.servers.as_str());
    let (tls, roots) = (("SPAWN_PUBSUB_NATS_TLS", "true"), ("TIDEGATE_NATS_TLS_CA", ca.as_str()));
    let shown =
        [("TIDEGATE_NATS_TLS_CERT", certificate.as_str()), ("TIDEGATE_NATS_TLS_KEY", key.as_str())];
    is_connected(&[hosts, tls, roots, shown[0], shown[1]], None).await;
    is_connected(&[hosts, tls, roots], Some("TLS is on")).await;
}

#[tokio::test]
async fn settings_of_broadcasts_that_lack_one_another_are_refused_at_the_start() {
    let on = ("SPAWN_PUBSUB_ADAPTER", "nats");
    let auth = ("SPAWN_PUBSUB_NATS_AUTH", "true");
    let jwt = ("SPAWN_PUBSUB_NATS_AUTH_TYPE", "jwt");
    let credentials = ("TIDEGATE_NATS_CREDS_FILE", "/nowhere/proxy.creds");
    for (settings, told) in [
        (&[("SPAWN_PUBSUB_ADAPTER", "redis")][..], "SPAWN_PUBSUB_ADAPTER"),
        (&[on, auth, jwt], "needs SPAWN_PUBSUB_NATS_AUTH_JWT"),
        (&[on, auth, credentials], "SPAWN_PUBSUB_NATS_AUTH is given too"),
        (&[on, credentials], "/nowhere/proxy.creds"),
        (&[on, ("TIDEGATE_NATS_TLS_CA", "ca.pem")], "needs SPAWN_PUBSUB_NATS_TLS=true"),
        (&[on, ("SPAWN_PUBSUB_NATS_HOSTS", "nats://a:secret@b:4222")], "settings of their own"),
    ] {
        let (code, said) = Proxy::refused(settings).await;
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(told) && !said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn calls_and_broadcasts_share_a_connection_when_their_settings_are_the_same() {
    let nats = Nats::start().await;
    let other = Nats::start().await;
    for (calls, connections) in [(&nats, 1), (&other, 2)] {
        let settings = [
            ("SPAWN_USE_INTERNAL_NATS", "true"),
            ("SPAWN_INTERNAL_NATS_HOSTS", calls.servers.as_str()),
        ];
        let mut here = Member::start(&nats, &settings).await;
        here.caller.until_connected(true).await;
        let log = here.caller.proxy.log();
        let connected = log.iter().filter(|line| line.contains("connected to NATS")).count();
        assert_eq!(connected, connections, "{log:?}");
        // Both work.
        let there = Member::start(&nats, &[]).await;
        until_reached(&mut here, &there, 1_000).await;
        let call = json!({ "action": "add" });
        assert_eq!(here.caller.call("nowhere", "joe", call).await.0.status, 404);
    }
}
