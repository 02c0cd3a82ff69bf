//! Commands that ask the running proxy what somebody on call wants to know.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::Client;
use support::host::Host;
use support::json::{Told, register, send};
use support::proxy::{Proxy, embedded};
use support::tool::{Ran, run};
use tokio::time::{sleep, timeout};

struct World {
    proxy: Proxy,
    told: Arc<Told>,
    _host: Host,
    directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let told = Arc::new(Told::default());
        let host = Host::start(Arc::clone(&told));
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let more = [("TIDEGATE_DURABLE_TOPICS", "orders"), ("TIDEGATE_REVISIONS", "every")];
        let proxy = Proxy::start(&[&embedded(&store, "1")[..], &more].concat()).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = json!([{ "name": "joe", "actions": ["add"] }, { "name": "cart", "kind": "unnamed", "actions": ["add"] }]);
        register(&mut client, &host.port(), &actors).await;
        Self { proxy, told, _host: host, directory }
    }

    /// Runs a command that asks the proxy.
    async fn ask(&self, args: &[&str]) -> Ran {
        run(&[args, &["--proxy", self.proxy.address()]].concat(), &[]).await
    }

    async fn invoke(&self, args: &[&str]) -> Ran {
        self.ask(&[&["invoke"], args].concat()).await
    }
}

#[tokio::test]
async fn an_action_is_called_and_its_answer_printed() {
    let world = World::new().await;
    assert_eq!(world.invoke(&["shop/joe", "add"]).await.said(), "{\"count\":1}\n");
    let args = [
        "shop/joe",
        "add",
        "--json",
        r#"{"item": "tea"}"#,
        "--metadata",
        "k=a=b",
        "--timeout",
        "5s",
    ];
    assert_eq!(world.invoke(&args).await.said(), "{\"count\":2}\n");
    let heard = world.told.last("add");
    assert_eq!(heard["payload"], json!({ "item": "tea" }));
    assert_eq!(heard["metadata"]["k"], "a=b");
    assert_eq!(heard["metadata"]["request-timeout"], "5000");

    let file = world.directory.path().join("item.json");
    fs::write(&file, "[1, 2]").unwrap();
    let from = format!("@{}", file.display());
    let args = ["shop/cart-7", "add", "--register-ref", "cart", "--json", &from];
    assert_eq!(world.invoke(&args).await.said(), "{\"count\":1}\n");
    assert_eq!(world.told.last("add")["payload"], json!([1, 2]));
    assert_eq!(world.told.last("add")["self"]["parent"], "cart");

    assert_eq!(world.invoke(&["shop/joe", "add", "--async"]).await.said(), "accepted\n");
    let at = ["shop/joe", "add", "--at", "2999-01-01T00:00:00Z"];
    assert_eq!(world.invoke(&at).await.said(), "accepted\n");
    // Behind the asynchronous one, since calls of an actor run in order.
    assert_eq!(world.invoke(&["shop/joe", "add"]).await.said(), "{\"count\":4}\n");

    // How long the command waits is nothing to an action that runs later.
    let past = ["shop/cart-7", "add", "--at", "2026-01-01T00:00:00Z", "--timeout", "5s"];
    assert_eq!(world.invoke(&past).await.said(), "accepted\n");
    let ran = async {
        while world.told.last("add")["self"]["name"] != "cart-7" {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), ran).await.expect("its time is over");
    assert_eq!(world.told.last("add")["metadata"].get("request-timeout"), None);
}

#[tokio::test]
async fn what_cannot_be_called_is_told_and_what_an_action_answered_to_its_failure() {
    let world = World::new().await;
    let unknown = world.invoke(&["shop/nobody", "add"]).await.refused(70);
    assert!(unknown.contains("HTTP 404") && unknown.contains("nobody"), "{unknown}");
    let fails = r#"{"status": 409, "answer": {"reason": "no money"}}"#;
    let failed = world.invoke(&["shop/joe", "add", "--json", fails]).await.refused(70);
    assert!(failed.contains("HTTP 409") && failed.contains(r#"{"reason":"no money"}"#), "{failed}");
    let at = |name: &str, content: &[u8]| {
        let file = world.directory.path().join(name);
        fs::write(&file, content).unwrap();
        format!("@{}", file.display())
    };
    let (text, bytes) = (at("text", b"{item}"), at("bytes", b"\"\xff\""));
    for (json, word, code) in [
        ("{item}", "not JSON", 2),
        (text.as_str(), "text: the payload is not JSON", 65),
        (bytes.as_str(), "bytes: the payload is not JSON", 65),
        ("@/no/such/file", "cannot read the payload", 66),
    ] {
        let wrong = world.invoke(&["shop/joe", "add", "--json", json]).await.refused(code);
        assert!(wrong.contains(word), "{wrong}");
    }
    for args in [["joe", "add", "--async"], ["shop/joe", "add", "--metadata=k"]] {
        world.invoke(&args).await.refused(2);
    }
    assert_eq!(world.told.calls.lock().len(), 1, "only one call reached the host");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_or_made_is_told_by_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["file", "backup", "damaged", "file/below", "missing", "data"];
    let paths = paths.map(|name| directory.path().join(name).display().to_string());
    let [file, backup, damaged, below, missing, data] = paths.each_ref().map(String::as_str);
    fs::write(file, "mine").unwrap();
    fs::write(damaged, "no descriptors").unwrap();
    // Nobody can read a directory as a file, not even root.
    fs::create_dir_all(directory.path().join("backup/FORMAT")).unwrap();
    let settings = [("TIDEGATE_DATA_DIR", data), ("PROXY_HTTP_PORT", "9001")];
    for (args, code, says) in [
        (&["init", below, "--lang", "go"][..], 73, "cannot write"),
        (&["man", below], 73, "cannot write"),
        (&["dashboards", below], 73, "cannot write"),
        (&["init", file, "--lang", "go"], 73, "cannot make the directory"),
        (&["dashboards", file], 73, "cannot make the directory"),
        (&["state", "shop/joe", "--descriptor", missing], 66, "cannot read"),
        (&["state", "shop/joe", "--descriptor", backup], 74, "cannot read"),
        (&["diff", "shop/joe", "shop/joe", "--descriptor", damaged], 65, "FileDescriptorSet"),
        (&["export", file], 66, "holds no store"),
        (&["export", "-"], 2, "not written to stdout"),
        (&["restore-backup", missing], 66, "holds no store"),
        (&["restore-backup", backup], 74, "cannot read"),
    ] {
        let refused = run(args, &settings).await.refused(code);
        assert!(refused.contains(says), "{args:?}: {refused}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    assert!(!fs::exists(data).unwrap() && !fs::exists("-").unwrap());
}

#[tokio::test]
async fn an_address_of_no_known_form_is_a_mistake_of_the_command_line() {
    for wrong in [
        "",
        "9001",
        "localhost",
        ":9001",
        "localhost:",
        "localhost:0",
        "localhost:99999",
        "http://localhost:9001",
        "https://localhost",
        "https://localhost:9001/api",
        "unix:",
    ] {
        let told = run(&["ps", "--proxy", wrong], &[]).await.refused(2);
        let says = "must be host:port, https://host:port or unix:/path";
        assert!(told.contains(says), "{wrong}: {told}");
    }
    // Nobody listens there.
    for right in ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/none"] {
        let ran = run(&["ps", "--proxy", right], &[]).await;
        assert!(ran.stderr.contains("cannot ask the proxy at"), "{right}: {ran:?}");
    }
}

/// JSON: one value, or one a line where a list can be long.
fn values_of(text: &str) -> serde_json::Result<Vec<Value>> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

#[tokio::test]
async fn what_a_command_shows_is_json_for_programs() {
    let world = World::new().await;
    let address = world.proxy.address().to_owned();
    assert_eq!(world.ask(&["channels", "list"]).await.said(), "no durable topic is in use\n");
    for _ in 0..2 {
        assert!(world.invoke(&["shop/joe", "add"]).await.said().contains("count"));
    }
    let every = ["schedules", "create", "shop/poll", "joe", "add", "--every", "1d"];
    assert!(world.ask(&every).await.said().starts_with("created shop/poll: active, next"));
    let mut client = Client::connect(&address).await.unwrap();
    let path = ("POST", "/api/v1/system/shop/channels/orders");
    assert_eq!(send(&mut client, path, &[], "{}").await.0.status, 200);
    let policies = world.directory.path().to_str().unwrap();
    let policies = format!("TIDEGATE_POLICIES_DIR={policies}");
    fs::write(world.directory.path().join("a.policy"), "type: deny\nactions: [add]\n").unwrap();

    // What is asked, the exit code, and one thing that has to be there.
    for (args, code, place, wanted) in [
        (&["channels", "list"][..], 0, "/channels/0/newest", json!(1)),
        (&["channels", "show", "shop/orders"], 0, "/channel/topic", json!("orders")),
        (&["schedules", "list", "shop"], 0, "/schedules/0/spec/name", json!("poll")),
        (&["schedules", "show", "shop/poll"], 0, "/state", json!("active")),
        (&["diff", "shop/joe@1", "shop/joe@2"], 1, "/equal", json!(false)),
        (&["diff", "shop/joe@2", "shop/joe"], 0, "/b/revision", json!(2)),
        (&["health"], 0, "/ready", json!(true)),
        (&["actors", "list", "shop/joe"], 0, "/name", json!("joe")),
        (&["state", "shop/joe"], 0, "/revision", json!(2)),
        (&["history", "shop/joe"], 0, "/revisions/0/revision", json!(1)),
        (&["hosts", "list", "shop"], 0, "/hosts/0/state", json!("up")),
        (&["effects", "list"], 0, "/effects", json!([])),
        (&["ps"], 0, "/systems/0/name", json!("shop")),
        (&["log-level"], 0, "/filter", json!("info")),
    ] {
        let shown = world.ask(&[args, &["--output", "json"]].concat()).await;
        assert_eq!(shown.code, Some(code), "{args:?}: {}", shown.stderr);
        let values = values_of(&shown.stdout).expect(&shown.stdout);
        assert_eq!(values[0].pointer(place), Some(&wanted), "{args:?}: {values:?}");
        let same = world.ask(&[args, &["--json"]].concat()).await;
        assert_eq!(same.code, Some(code), "{args:?}: {}", same.stderr);
        let table = world.ask(&[args, &["--output", "table"]].concat()).await;
        let is_json = values_of(&table.stdout).is_ok();
        assert!(table.code == Some(code) && !is_json, "{args:?}: {}", table.stdout);
    }
    let difference = world.ask(&["diff", "shop/joe@1", "shop/joe@2", "--json"]).await.stdout;
    let difference: Value = serde_json::from_str(&difference).unwrap();
    let lines = difference["lines"].as_array().unwrap();
    let marks: Vec<_> = lines.iter().filter_map(|line| line["mark"].as_str()).collect();
    assert!(["-", "+"].iter().all(|mark| marks.contains(mark)), "{difference}");

    // Nothing has to run for these.
    let secret = "SPAWN_STATESTORE_KEY=3Jnb0hZiHIzHTOih7t2cTEPEpY98Tu1wvQkPfq/XwqE=";
    let config = run(&["config", "--json", "--set", secret], &[]).await.said();
    assert!(!config.contains("3Jnb0"), "{config}");
    let config: Value = serde_json::from_str(&config).unwrap();
    let key = config["settings"].as_array().unwrap().iter();
    let key = key.clone().find(|one| one["name"] == "SPAWN_STATESTORE_KEY").unwrap();
    assert_eq!((key["value"].is_string(), &key["source"]), (true, &json!("flag")), "{key}");
    let check = ["acl", "check", "anonymous", "shop/joe", "add", "--json", "--set", &policies];
    let refused = run(&check, &[]).await;
    let told: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!((refused.code, &told["allowed"]), (Some(1), &json!(false)), "{told}");
    assert!(told["why"].as_str().unwrap().contains("a.policy:1"), "{told}");
    let settings = [("PROXY_HTTP_PORT", "0"), ("PROXY_DATABASE_TYPE", "memory")];
    let doctor = run(&["doctor", "--json"], &settings).await;
    let told: Value = serde_json::from_str(&doctor.stdout).expect(&doctor.stdout);
    let found = told["findings"].as_array().unwrap();
    assert!(
        found.iter().all(|one| one["severity"].is_string() && one["text"].is_string()),
        "{told}"
    );
}
