//! Commands that read a database do not change it, and do not create a missing store.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::session::Session;

use crate::server::{self, Keyspace, tables};
use crate::support::client::Client;
use crate::support::counter::{Added, Counter, SYSTEM, add, definition, get, register};
use crate::support::host::{BoundHost, Host};
use crate::support::proto::Kind;
use crate::support::proxy::Proxy;
use crate::support::tool::run;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const END_LIMIT: Duration = Duration::from_mins(1);
const NO_INPUT: i32 = 66;

fn settings<'a>(keyspace: &'a str, address: &'a str, key: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = server::settings(keyspace, address);
    settings.extend([
        ("TIDEGATE_DATABASE_REPLICATION", "1"),
        ("TIDEGATE_REVISIONS", "every"),
        ("TIDEGATE_RETENTION_AGE", "1h"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("SPAWN_STATESTORE_KEY", key),
    ]);
    settings
}

/// The first column of what a question finds, as text, in order.
async fn found(session: &Session, query: &str) -> Vec<String> {
    let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    let mut found: Vec<_> = rows.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect();
    found.sort_unstable();
    found
}

/// Everything in a keyspace, and of what the store notes of itself also when it was written.
async fn content(session: &Session, keyspace: &str) -> Vec<String> {
    let mut content = Vec::new();
    for table in tables(session, keyspace).await {
        content.extend(found(session, &format!("SELECT JSON * FROM {keyspace}.{table}")).await);
    }
    let written = "SELECT JSON name, writetime(number), writetime(value)";
    content.extend(found(session, &format!("{written} FROM {keyspace}.meta")).await);
    content
}

/// Runs a command with the settings of a proxy that nobody runs.
async fn command(args: &[&str], settings: &[(&str, &str)]) -> crate::support::tool::Ran {
    let nobody = BoundHost::bind();
    let port = nobody.port();
    let mut settings = settings.to_vec();
    settings.push(("PROXY_HTTP_PORT", &port));
    run(args, &settings).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_read_stays_as_it_is_also_with_a_key_in_the_shell() {
    let (keyspace, address, session) =
        (Keyspace::take().await, server::address(), server::session().await);
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let mut clear = settings(&keyspace.name, &address, "");
    clear.extend([("USER_FUNCTION_HOST", "127.0.0.1"), ("USER_FUNCTION_PORT", &port)]);
    let proxy = Proxy::start(&clear).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    for value in 1..=2 {
        let added = add(&mut client, "joe").await.unwrap();
        assert!(matches!(added, Added::To(reached) if reached == value), "{added:?}");
    }
    drop(client);
    assert!(proxy.terminate(END_LIMIT).await.success());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("export");
    let (joe, first) = (format!("{SYSTEM}/joe"), format!("{SYSTEM}/joe@1"));
    let commands = [
        (vec!["state", &joe], 0),
        (vec!["history", &joe], 0),
        (vec!["diff", &first, &joe], 1),
        (vec!["export", file.to_str().unwrap()], 0),
    ];
    let before = content(&session, &keyspace.name).await;
    for (args, code) in commands {
        let ran = command(&args, &settings(&keyspace.name, &address, KEY)).await;
        assert_eq!(ran.code, Some(code), "{args:?}: {}", ran.stderr);
        assert!(!ran.stdout.is_empty(), "{args:?}");
        assert_eq!(content(&session, &keyspace.name).await, before, "{args:?}");
    }
    let proxy = Proxy::start(&clear).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    assert_eq!(get(&mut client, "joe").await, 2);
    drop(client);
    assert!(proxy.terminate(END_LIMIT).await.success());
    keyspace.give_back();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_keyspace_is_named_and_not_made() {
    let (keyspace, address, session) =
        (Keyspace::new(), server::address(), server::session().await);
    let name = &keyspace.name;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("export");
    for is_there in [false, true] {
        if is_there {
            let replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
            let made = format!("CREATE KEYSPACE {name} WITH replication = {replication}");
            session.query_unpaged(made, ()).await.unwrap();
        }
        for args in [
            &["state", "s/joe"][..],
            &["history", "s/joe"],
            &["diff", "s/joe", "s/ann"],
            &["export", file.to_str().unwrap()],
            &["reseal"],
            &["import", "--give-up"],
        ] {
            let ran = command(args, &settings(name, &address, KEY)).await;
            let refused = ran.refused(NO_INPUT);
            assert!(refused.contains(&format!("keyspace {name}")), "{args:?}: {refused}");
            let query = "SELECT keyspace_name FROM system_schema.keyspaces";
            let is_made = found(&session, query).await.contains(name);
            assert_eq!(is_made, is_there, "{args:?}");
            assert!(tables(&session, name).await.is_empty(), "{args:?}");
            assert!(!file.exists(), "{args:?}");
        }
    }
}
