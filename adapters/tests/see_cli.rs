//! Commands that ask the running proxy what somebody on call wants to know.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::sync::Arc;

use serde_json::json;
use support::client::Client;
use support::host::Host;
use support::json::{Told, register};
use support::proxy::{Proxy, embedded};
use support::tool::{Ran, run};

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
        let proxy = Proxy::start(&embedded(directory.path(), "1")).await;
        let mut client = Client::connect(proxy.address()).await.unwrap();
        let actors = json!([{ "name": "joe", "actions": ["add"] }, { "name": "cart", "kind": "unnamed", "actions": ["add"] }]);
        register(&mut client, &host.port(), &actors).await;
        Self { proxy, told, _host: host, directory }
    }

    async fn invoke(&self, args: &[&str]) -> Ran {
        run(&[&["invoke", "--proxy", self.proxy.address()], args].concat(), &[]).await
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
}

#[tokio::test]
async fn what_cannot_be_called_is_told_and_what_an_action_answered_to_its_failure() {
    let world = World::new().await;
    let unknown = world.invoke(&["shop/nobody", "add"]).await.refused(70);
    assert!(unknown.contains("HTTP 404") && unknown.contains("nobody"), "{unknown}");
    let fails = r#"{"status": 409, "answer": {"reason": "no money"}}"#;
    let failed = world.invoke(&["shop/joe", "add", "--json", fails]).await.refused(70);
    assert!(failed.contains("HTTP 409") && failed.contains(r#"{"reason":"no money"}"#), "{failed}");
    for (args, word) in [
        (["shop/joe", "add", "--json", "{item}"], "not JSON"),
        (["shop/joe", "add", "--json", "@/no/such/file"], "cannot read the payload"),
    ] {
        let wrong = world.invoke(&args).await.refused(70);
        assert!(wrong.contains(word), "{wrong}");
    }
    for args in [["joe", "add", "--async"], ["shop/joe", "add", "--metadata=k"]] {
        world.invoke(&args).await.refused(2);
    }
    assert_eq!(world.told.calls.lock().len(), 1, "only one call reached the host");
}
