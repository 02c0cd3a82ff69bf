//! The states of a Spawn proxy on MariaDB are brought along by `tools/from-spawn` and `tidegate import`.
//!
//! The ids of rows were made by Erlang's `phash2`, the values were sealed by OpenSSL's AES-256-GCM (through Python's
//! `cryptography`) with the key 00…1f: nothing of what is read here was made by Tidegate.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod mariadb;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use mariadb::{MariaDb, Row, pipe};
use support::client::Client;
use support::counter::{Added, Counter, add, definition, get_state, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::{run, store_in};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TERMINATE_LIMIT: Duration = Duration::from_secs(40);

const MARK: &str = "type.googleapis.com/tidegate.test.Mark";
/// `<mark:joe:00000007>`, three times.
const JOE_7: &str = "010a4145532e47434d2e5631101112131415161718191a1b1c1d1e1f75280f079881d5cb8cfb899923726524b6375b128c4b51c00e31ae598790213180b25fe45d6d77a6306ad3de62c7bd665d1eb3a5fba23681daf4a32130b023a3d512bfa930c5c27e7b";
const CART_2: &str = "010a4145532e47434d2e56311112131415161718191a1b1c1d1e1f203316cf474ac25548c579a97305f1b6b5005de9d4571c70e87db830c0fd0f60577ebba0230be65319719e9d0a50d060db3a8450e8c16bfdc10f70bb589b474afbfd4c421e5a6263e9e7fd12f7243e6207db73";
const CART_3: &str = "010a4145532e47434d2e563112131415161718191a1b1c1d1e1f2021b9efd0b3bc2f4e060d03334e81cb97e7937b8866c4c102b9ae38c05a2ab4b34678bc221a23ea5589f161cc81948b1a64fc726b6d34362ac89350482fe6fd8fb3719d2829fe4b6ca6879324c0503f7292e97f";
const CART_4: &str = "010a4145532e47434d2e5631131415161718191a1b1c1d1e1f2021221a05783c53fb3e2331e21f6d0c0804063cb180c1489047dabd24509fc66a0bf0ef84c4993ae785a4a8ec4f507bdbf6a68bb367838d4483e201c8c5bfc3e4766bd61bd4469636fddd82ece777785985ad54de";

const JOE: Row<'_> = Row {
    id: 53_805_901,
    actor: "joe",
    status: "DEACTIVATED",
    revision: 7,
    tags: r#"{"colour":"grün"}"#,
    type_url: MARK,
    data: JOE_7,
};
/// An instance of `cart`.
const CART: Row<'_> = Row {
    id: 106_221_418,
    actor: "cart-1",
    status: "ACTIVATED",
    revision: 2,
    tags: "{}",
    type_url: MARK,
    data: CART_2,
};

fn script(args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/from-spawn");
    let mut command = Command::new(script);
    command.args(args);
    command
}

/// What the client prints when it is run as the documentation says.
async fn rows(mariadb: &MariaDb, args: &[&str]) -> String {
    let sql = pipe(script(&[&["sql"], args].concat()), "").await.unwrap();
    let flags = ["--batch", "--raw", "--skip-column-names", "--quick", "--max-allowed-packet=1G"];
    mariadb.client(&[&flags[..], &["spawn"]].concat(), &sql).await.unwrap()
}

/// Writes an export file from what the client printed.
async fn file(directory: &Path, rows: &str) -> PathBuf {
    let file = directory.join("spawn.ndjson");
    let text = pipe(script(&["file", "--parent", "other", "--parent", "cart"]), rows).await;
    fs::write(&file, text.unwrap()).unwrap();
    file
}

fn sealed_store(directory: &Path) -> Vec<(&str, &str)> {
    [store_in(directory), vec![("SPAWN_STATESTORE_KEY", KEY)]].concat()
}

async fn said(args: &[&str], settings: &[(&str, &str)]) -> String {
    run(args, settings).await.said()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_of_a_mariadb_table_are_imported_shown_and_served() {
    let mariadb = MariaDb::start().await;
    mariadb.save(&JOE).await;
    for (revision, data) in [(2, CART_2), (3, CART_3), (4, CART_4)] {
        mariadb.save(&Row { revision, data, ..CART }).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let settings = sealed_store(&store);
    let file = file(dir.path(), &rows(&mariadb, &["--history"]).await).await;
    let file = file.to_str().unwrap();

    let refused = run(&["import", file], &store_in(&store)).await.refused(78);
    assert!(refused.contains("no key is set"), "{refused}");
    let imported = said(&["import", file], &settings).await;
    assert_eq!(imported, "imported 3 registered entries, 2 actors and 4 revisions\n");

    let joe = said(&["state", "counting/joe", "--json"], &settings).await;
    let joe: serde_json::Value = serde_json::from_str(&joe).unwrap();
    assert_eq!(joe["revision"], 7, "{joe}");
    assert_eq!(joe["tags"]["colour"], "grün", "{joe}");
    assert_eq!(joe["status"], "DEACTIVATED", "{joe}");
    let former = said(&["state", "counting/cart-1", "--revision", "3", "--json"], &settings).await;
    let former: serde_json::Value = serde_json::from_str(&former).unwrap();
    assert_eq!(
        (&former["revision"], &former["status"]),
        (&3.into(), &"ACTIVATED".into()),
        "{former}"
    );
    let history = said(&["history", "counting/cart-1"], &settings).await;
    for revision in ["2", "3", "4"] {
        let lines = history.lines().filter(|line| line.split_whitespace().next() == Some(revision));
        assert_eq!(lines.count(), 1, "{history}");
    }

    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let settings = [embedded(&store, &port), vec![("SPAWN_STATESTORE_KEY", KEY)]].concat();
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    // Before its host has registered, an actor can be read and not called.
    assert_eq!(get_state(&mut client, "joe").await, 7);
    let early = add(&mut client, "joe").await.unwrap();
    assert!(matches!(early, Added::Refused(403, _)), "{early:?}");
    let definitions = vec![definition("joe", Kind::Named), definition("cart", Kind::Unnamed)];
    register(&mut client, definitions).await;
    for (actor, next) in [("joe", 8), ("cart-1", 5)] {
        let added = add(&mut client, actor).await.unwrap();
        assert!(matches!(added, Added::To(value) if value == next), "{actor}: {added:?}");
    }
    drop(client);
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_not_all_there_or_tell_no_parent_make_no_file() {
    let mariadb = MariaDb::start().await;
    mariadb.save(&JOE).await;
    mariadb.save(&CART).await;
    let printed = rows(&mariadb, &[]).await;
    let make = async |args: &[&str], rows: &str| pipe(script(args), rows).await;

    let named = make(&["file", "--parent", "cart"], &printed).await.unwrap();
    // The time that Spawn wrote, in UTC whatever the server's time zone.
    assert!(named.contains("\"at_us\": 1769860807000000"), "{named}");
    let unnamed = make(&["file"], &printed).await.unwrap_err();
    assert!(unnamed.contains("counting/cart-1") && !unnamed.contains("counting/joe"), "{unnamed}");
    let forced = make(&["file", "--parent-of-others", "basket"], &printed).await.unwrap();
    assert!(forced.contains("\"parent\": \"basket\""), "{forced}");

    let cut = printed.rsplit_once("end\t").unwrap().0;
    let one_gone = printed.split_once('\n').unwrap().1;
    for cut in [cut, one_gone, ""] {
        let refused = make(&["file", "--parent", "cart"], cut).await.unwrap_err();
        assert!(refused.contains("the client was cut short"), "{refused}");
    }
    let clear = Row { data: "0a0b", ..JOE };
    mariadb.save(&clear).await;
    let refused = make(&["file", "--parent", "cart"], &rows(&mariadb, &[]).await).await;
    assert!(refused.unwrap_err().contains("counting/joe: its state is sealed not at all"));
}
