//! `/admin/record` and `tidegate record` of the built binary: a recording of an outage under load has the outage and what held calls
//! up, and no content: no state, no payload, no metadata, no text of an action, no secret of the settings.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::host::Host;
use support::json::{Told, call, register, send, try_send};
use support::proxy::{Proxy, embedded};
use support::tool::run;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);
const TOKEN: &str = "planted-as-token";
const AUTHORIZED: [(&str, &str); 1] = [("authorization", "Bearer planted-as-token")];

/// Contents of every sort, in whatever can hold one.
async fn plant(client: &mut Client, admin: &mut Client) {
    let effects =
        json!([{"actor": "nobody", "action": "nothing", "payload": {"of": "planted-in-effect"}}]);
    let answer = json!({"state": {"of": "planted-in-state"}, "payload": {"of": "planted-in-answer"}, "effects": effects});
    let planted = json!({
        "action": "add", "metadata": {"of": "planted-in-metadata"},
        "payload": {"answer": answer, "of": "planted-in-payload"},
    });
    assert_eq!(call(client, "counter", &planted).await.0.status, 200);
    let failing = json!({
        "action": "add", "payload": {"status": 422, "answer": {"reason": "planted-in-reason", "error": "planted-in-error"}},
    });
    let failed = call(client, "failing", &failing).await;
    assert!(failed.0.status >= 400, "{:?}", failed.1);
    let nightly = json!({
        "name": "nightly", "actor": "counter", "action": "add", "cron": "30 2 * * *",
        "payload": {"type_url": "type.googleapis.com/planted", "value": "cGxhbnRlZC1pbi1zY2hlZHVsZQ=="}, "metadata": {"of": "planted-in-schedules-metadata"},
    });
    let path = ("POST", "/api/v1/system/shop/schedules");
    let created = send(admin, path, &AUTHORIZED, &nightly.to_string()).await;
    assert_eq!(created.0.status, 200, "{:?}", created.1);
}

/// Calls an actor again and again, as long as there are answers.
async fn keep_calling(mut caller: Client, actor: &str) {
    let path = format!("/api/v1/system/shop/actors/{actor}/invoke");
    while try_send(&mut caller, ("POST", &path), &[], "{\"action\":\"add\"}").await.is_ok() {}
}

/// Records until a look has what is meant.
async fn recorded(admin: &mut Client, is_meant: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let recording = async {
        loop {
            let (reply, recording) = send(admin, ("GET", "/admin/record"), &AUTHORIZED, "").await;
            assert_eq!(reply.status, 200, "{recording:#}");
            last = recording;
            if last["looks"].as_array().unwrap().iter().any(&is_meant) {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let is_there = timeout(PATIENCE, recording).await.is_ok();
    assert!(is_there, "{last:#}");
    last
}

fn is_outage(look: &Value) -> bool {
    let sentence = look["flow"]["bottleneck"]["sentence"].as_str().unwrap_or_default();
    sentence.contains("which has accepted no connection for")
        && look["waiting"]["actors"].as_array().unwrap().iter().any(|actor| {
            actor["waiting"]["blocked_on"] == "host_breaker" && actor["system"] == "shop"
        })
}

/// An actor that waits, and whose last error has a text that its action made.
fn failed_that_waits(look: &Value) -> Option<&Value> {
    let mut actors = look["waiting"]["actors"].as_array().unwrap().iter();
    actors.find(|actor| actor["last_error"]["kind"] == "action_failed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_has_the_outage_and_no_content() {
    let host = Host::start(Arc::new(Told::default()));
    let (port, directory) = (host.port(), tempfile::tempdir().unwrap());
    let settings = [
        ("TIDEGATE_ADMIN_ADDRESS", "127.0.0.1:0"),
        ("TIDEGATE_ADMIN_TOKEN", TOKEN),
        ("SPAWN_STATESTORE_KEY", "cGxhbnRlZHBsYW50ZWRwbGFudGVkcGxhbnRlZHBsYTA="),
        ("TIDEGATE_START_TIMEOUT", "300s"),
        ("TIDEGATE_HOST_GRACE", "300s"),
        ("TIDEGATE_REVISIONS", "every"),
    ];
    let data = directory.path().join("data");
    let proxy = Proxy::start(&[&embedded(&data, &port)[..], &settings].concat()).await;
    let address = proxy.admin().await;
    let mut admin = Client::connect(&address).await.unwrap();
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let actors = json!([
        {"name": "counter", "actions": ["add"]},
        {"name": "failing", "actions": ["add"]},
        {"name": "busy", "actions": ["add"]},
    ]);
    register(&mut client, &port, &actors).await;
    plant(&mut client, &mut admin).await;
    let refused = send(&mut admin, ("GET", "/admin/record"), &[], "").await;
    assert_eq!(refused.0.status, 403);

    // Under load.
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let caller = Client::connect(proxy.address()).await.unwrap();
        load.spawn(keep_calling(caller, "busy"));
    }
    recorded(&mut admin, |look| look["flow"]["calls"]["per_second"].as_f64() > Some(1.0)).await;
    host.stop().await;
    let caller = Client::connect(proxy.address()).await.unwrap();
    load.spawn(keep_calling(caller, "failing"));
    recorded(&mut admin, |look| is_outage(look) && failed_that_waits(look).is_some()).await;

    let file = directory.path().join("recording.json");
    let at = file.to_str().unwrap();
    let args = ["record", at, "--proxy", &address];
    let token = [("TIDEGATE_ADMIN_TOKEN", TOKEN)];
    let told = run(&args, &token).await;
    assert!(
        told.stderr.contains("bytes, ") && told.stderr.contains(" looks at http://127.0.0.1:"),
        "{told:?}"
    );
    told.said();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let recording: Value = serde_json::from_str(&text).unwrap();
    let looks = recording["looks"].as_array().unwrap();
    let outage = looks.iter().position(is_outage).expect("the outage is in the file");
    assert!(outage > 0, "and so is what was before: {recording:#}");
    assert_eq!(
        (&recording["format"], &recording["format_version"]),
        (&json!("tidegate-record"), &json!(1))
    );

    // What is recorded is there, without contents.
    let sections = &recording["sections"];
    let counter =
        |list: &Value| list.as_array().unwrap().iter().any(|actor| actor["name"] == "counter");
    assert!(counter(&sections["/api/v1/actors"]["actors"]), "{recording:#}");
    assert!(sections["/admin/warnings"]["warnings"].is_array(), "{recording:#}");
    let effect = &sections["/api/v1/effects"]["effects"][0];
    assert_eq!((&effect["target"], &effect["action"]), (&json!("shop/nobody"), &json!("nothing")));
    let failed = sections["/api/v1/calls"]["calls"].as_array().unwrap();
    let failed = failed.iter().find(|call| call["error"]["kind"] == "action_failed");
    assert_eq!(failed.unwrap()["error"]["text"], "(not recorded)");
    let failed = looks.iter().find_map(failed_that_waits);
    assert_eq!(failed.unwrap()["last_error"]["text"], "(not recorded)");
    let nightly = &sections["/api/v1/system/shop/schedules"]["schedules"][0]["spec"];
    assert_eq!(
        (&nightly["name"], &nightly["payload"]),
        (&json!("nightly"), &json!("(not recorded)"))
    );
    let lines = recording["settings"].as_array().unwrap();
    let is_masked =
        |line: &Value| line.as_str().unwrap().starts_with("TIDEGATE_ADMIN_TOKEN = (set, masked)");
    assert!(lines.iter().any(is_masked), "{lines:#?}");
    for secret in ["planted", "cGxhbnRl"] {
        assert!(!text.contains(secret), "{text}");
    }

    // It is not overwritten by accident.
    std::fs::write(&file, "before").unwrap();
    let refused = run(&args, &token).await.refused(73);
    assert!(refused.contains("is there already: nothing is written without --force"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before");
    run(&[&args[..], &["--force"]].concat(), &token).await.said();
    assert!(std::fs::read_to_string(&file).unwrap().contains("tidegate-record"));
    let nowhere = directory.path().join("none/recording.json");
    let nowhere = ["record", nowhere.to_str().unwrap(), "--proxy", &address];
    let refused = run(&nowhere, &token).await.refused(73);
    assert!(refused.contains("cannot write"), "{refused}");
    let out = run(&["record", "-", "--proxy", &address], &token).await.said();
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["format"], "tidegate-record");
    let off = run(&["record", "-"], &token).await.refused(64);
    assert!(off.contains("TIDEGATE_ADMIN_ADDRESS is off"), "{off}");
    load.shutdown().await;
}
