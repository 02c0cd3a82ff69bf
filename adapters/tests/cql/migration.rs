//! A keyspace of schema 1 is migrated when the proxy starts, whatever interrupts it; commands that read refuse it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate::clock::SystemClock;
use tidegate::store::{Access, CqlOpenError, CqlOptions, CqlStore, Key, Notes, Vault};
use tidegate::wire;
use tidegate_stages::actor::ActorId;
use tidegate_stages::history::Interval;
use tidegate_stages::ports::{Registered, RegisteredEntry, Registry, StateStore};
use tokio::task::JoinSet;

use crate::server::{self, Keyspace, tables};
use crate::support::counter::{SYSTEM, mark};
use crate::wire::{BATCH, WRITE, Wire};

/// A keyspace as schema 1 left it: tables, then rows as `table JSON`.
const FORMER: &str = include_str!("../golden/cql-v1.txt");
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Makes a keyspace of schema 1.
async fn former() -> Keyspace {
    let (keyspace, session) = (Keyspace::new(), server::session().await);
    let name = &keyspace.name;
    let made = "WITH replication = {'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
    session.query_unpaged(format!("CREATE KEYSPACE {name} {made}"), ()).await.unwrap();
    for line in FORMER.lines().filter(|line| !line.starts_with('#')) {
        let (first, rest) = line.split_once(' ').unwrap();
        let statement = match first {
            "CREATE" => format!("CREATE TABLE {name}.{rest}"),
            table => {
                let row = rest.replace('\'', "''");
                format!("INSERT INTO {name}.{table} JSON '{row}' DEFAULT UNSET")
            }
        };
        session.query_unpaged(statement, ()).await.unwrap();
    }
    keyspace
}

async fn drop_keyspace(keyspace: Keyspace) {
    let drop = format!("DROP KEYSPACE {}", keyspace.name);
    server::session().await.query_unpaged(drop, ()).await.unwrap();
}

fn options(keyspace: &Keyspace) -> CqlOptions {
    let vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
    CqlOptions { vault, ..keyspace.options() }
}

async fn open(access: Access, options: &CqlOptions) -> Result<CqlStore, CqlOpenError> {
    CqlStore::open_to(access, options, Arc::new(SystemClock), wire::definition).await
}

fn id(name: &str, parent: &str) -> ActorId {
    ActorId { name: name.into(), system: SYSTEM.into(), parent: parent.into() }
}

/// Looks for everything that the keyspace held.
async fn check(store: &CqlStore) {
    let all = Registry::load(store).await.unwrap();
    let of = |one: &Registered| (one.id().name.clone(), one.clone());
    let by_name: BTreeMap<_, _> = all.iter().map(of).collect();
    assert_eq!((all.len(), by_name.len()), (43, 43));
    for number in 0..40 {
        let name = format!("cart {number}/✓");
        let revision = (number == 7).then_some(2);
        assert_eq!(by_name[&name], spawned(&name, revision));
    }
    assert!(is_retired(&by_name["old"]) && !is_retired(&by_name["joe"]));
    for (name, parent, version, revisions) in
        [("joe", "", 12, 12), ("old", "", 2, 1), ("sealed", "", 1, 1), ("cart 7/✓", "cart", 8, 1)]
    {
        let id = id(name, parent);
        let head = StateStore::load(store, &id).await.unwrap().unwrap();
        assert_eq!((head.version, head.epoch), (version, 1), "{name}");
        let state = head.content.state.unwrap();
        assert_eq!(state.value, mark(name, u32::try_from(version).unwrap()));
        let history = store.load_by_interval(&id, Interval::ALL, 99).await.unwrap().items;
        assert_eq!(history.len(), revisions, "{name}");
    }
    assert_eq!(store.actors(SYSTEM, None, 99).await.unwrap().items.len(), 43);
    assert_eq!(store.note("n").await.unwrap().unwrap(), "kept");
}

fn spawned(name: &str, revision: Option<u64>) -> Registered {
    Registered::spawned(Arc::new(id(name, "cart")), revision)
}

fn is_retired(one: &Registered) -> bool {
    matches!(&one.entry, RegisteredEntry::Definition(definition) if definition.retired)
}

#[tokio::test]
async fn a_migration_that_is_killed_at_every_step_loses_nothing() {
    let keyspace = former().await;
    let mut kills = 0;
    let store = loop {
        let wire = Wire::new().await;
        wire.cut_after(kills);
        let through = CqlOptions { hosts: vec![wire.address.clone()], ..options(&keyspace) };
        tokio::select! {
            opened = open(Access::Create, &through) => {
                opened.unwrap().close().await.unwrap();
                break open(Access::Create, &options(&keyspace)).await.unwrap();
            }
            // What was sent before is done, and nothing else: as when the process is killed.
            () = wire.holds(1) => kills += 1,
        }
    };
    assert!(kills > 20, "{kills} kills");
    check(&store).await;
    assert!(!tables(&server::session().await, &keyspace.name).await.contains(&"registry".into()));
    let epoch = store.claim_epoch().await.unwrap();
    assert!(epoch > 2, "a Tidegate that still ran was fenced: {epoch}");
    store.close().await.unwrap();
    drop_keyspace(keyspace).await;
    eprintln!("{kills} kills");
}

#[tokio::test]
async fn a_migration_that_is_only_slow_loses_nothing_to_one_that_is_killed_meanwhile() {
    let keyspace = former().await;
    let wires = [Wire::new().await, Wire::new().await];
    let opening = |wire: &Wire| {
        let through = CqlOptions { hosts: vec![wire.address.clone()], ..options(&keyspace) };
        let mut opening = JoinSet::new();
        opening.spawn(async move { open(Access::Create, &through).await });
        opening
    };
    // The first one is about to write the version, the second one about to write what is registered.
    wires[0].hold(WRITE, "schema");
    let mut slow = opening(&wires[0]);
    wires[0].holds(1).await;
    for kind in [WRITE, BATCH] {
        wires[1].hold(kind, "cart 7/");
    }
    let mut killed = opening(&wires[1]);
    wires[1].holds(1).await;
    killed.shutdown().await;
    wires[0].release().await;
    slow.join_next().await.unwrap().unwrap().unwrap().close().await.unwrap();
    let store = open(Access::Create, &options(&keyspace)).await.unwrap();
    check(&store).await;
    store.close().await.unwrap();
    drop_keyspace(keyspace).await;
}

#[tokio::test]
async fn commands_that_do_not_serve_refuse_the_former_schema_and_leave_it() {
    let (keyspace, session) = (former().await, server::session().await);
    let before = tables(&session, &keyspace.name).await;
    for access in [Access::Read, Access::Write] {
        let error = open(access, &options(&keyspace)).await.unwrap_err();
        assert!(matches!(error, CqlOpenError::Older { found: 1, known: 2, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("tidegate serve") && text.contains(&keyspace.name), "{text}");
    }
    let (address, name) = (server::address(), keyspace.name.clone());
    let settings = [
        ("PROXY_DATABASE_TYPE", "scylla"),
        ("PROXY_DATABASE_HOST", &address),
        ("PROXY_DATABASE_NAME", &name),
        ("TIDEGATE_DATABASE_TIMEOUT", "20s"),
        ("PROXY_HTTP_PORT", "1"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("export");
    for args in [&["state", "counting/joe"][..], &["export", file.to_str().unwrap()]] {
        let ran = crate::support::tool::run(args, &settings).await;
        let refused = ran.refused(65);
        assert!(refused.contains("tidegate serve"), "{args:?}: {refused}");
        assert!(!file.exists());
    }
    assert_eq!(tables(&session, &keyspace.name).await, before);
    drop_keyspace(keyspace).await;
}
