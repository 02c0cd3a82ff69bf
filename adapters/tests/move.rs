//! An installation moves from one store to another, complete, whatever interrupts the move.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tidegate::store::{EmbeddedStore, Options};
use tidegate::wire;
use tidegate_stages::actor::{ActorId, HostAddress, HostSet};
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore};
use tidegate_stages::state::{ActorState, Any, Head, Status, Tags, Timestamp};
use tokio::time::sleep;

use prost::Message;
use support::client::Client;
use support::counter::{Counter, add, definition, get, register, spawn};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::{begin, end, run, store_in};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TERMINATE_LIMIT: Duration = Duration::from_secs(40);

/// What an export holds: its lines without header, sums and the epoch of heads, which an import claims anew.
fn content(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().skip(1).map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("sum").unwrap();
        if let Some(head) = line.get_mut("head") {
            head.as_object_mut().unwrap().remove("epoch").unwrap();
        }
        line
    });
    lines.collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn export(store: &Path, file: &Path) {
    let said = run(&["export", text(file)], &store_in(store)).await.said();
    assert!(said.starts_with("exported "), "{said}");
}

/// A store with many actors, written without a proxy.
struct Filled {
    dir: TempDir,
}

const ACTORS: u64 = 600;
const REVISIONS: u64 = 12;
const LONG: u64 = 700;
const STATE_BYTES: usize = 2_000;

impl Filled {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("store")
    }

    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::default();
        let store =
            EmbeddedStore::open(&dir.path().join("store"), options, wire::definition).unwrap();
        let epoch = store.claim_epoch().await.unwrap();
        let entry = |system: &str, name: &str, hosts: &[&str]| {
            let mut actor = definition(name, Kind::Unnamed);
            actor.id.as_mut().unwrap().system = system.into();
            let raw = Bytes::from(actor.encode_to_vec());
            let hosts = HostSet::new(hosts.iter().map(|host| HostAddress::new(host))).unwrap();
            let definition = wire::definition(raw, hosts, system).unwrap();
            RegistryChange::Put(Registered::definition(Arc::new(definition)))
        };
        let north = entry("north", "cart", &["127.0.0.1:8090"]);
        let south = entry("süd", "cart", &["127.0.0.1:8090", "unix:/run/cart.sock"]);
        store.apply(vec![north, south]).await.unwrap();
        let (mut entries, mut appends, mut saves) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..ACTORS {
            let id = actor(number);
            let revision = (number == 3).then_some(2);
            entries.push(RegistryChange::Put(Registered::spawned(id.clone(), revision)));
            // One actor has more than fits a page.
            let revisions = if number == 5 { LONG } else { number % REVISIONS };
            let history =
                (1..=revisions).map(|revision| head(number, revision, epoch).as_revision());
            appends.push(store.append(id.clone(), history.collect()));
            saves.push(Save::of_head(id, head(number, revisions, epoch), false));
        }
        store.apply(entries).await.unwrap();
        for append in appends {
            append.await.unwrap();
        }
        store.save_all(saves).await.into_iter().for_each(Result::unwrap);
        store.close().await.unwrap();
        Self { dir }
    }
}

fn actor(number: u64) -> Arc<ActorId> {
    let system = if number.is_multiple_of(2) { "north" } else { "süd" };
    Arc::new(ActorId {
        name: format!("cart {number}/✓"),
        system: system.into(),
        parent: "cart".into(),
    })
}

fn head(number: u64, revision: u64, epoch: u64) -> Head {
    let statuses = [Status::Activated, Status::Deactivated, Status::Unknown];
    let state = Any {
        type_url: "t/Cart".into(),
        value: format!("secret {number} {revision} ").repeat(STATE_BYTES / 12).into(),
    };
    Head {
        version: revision + 7,
        revision,
        incarnation: 3,
        epoch,
        status: statuses[usize::try_from(number % 3).unwrap()],
        at: Timestamp(1_764_000_000_123_456 + revision),
        content: ActorState {
            tags: Tags::from([
                ("colour \"ä\"".into(), "grün".into()),
                ("empty".into(), String::new()),
            ]),
            state: (!number.is_multiple_of(7)).then_some(state),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_proxy_wrote_is_served_from_another_store() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let (file, again) = (dir.path().join("export"), dir.path().join("again"));
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let mut settings = embedded(&first, &port);
    settings.push(("TIDEGATE_REVISIONS", "every"));
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    register(&mut client, vec![definition("cart", Kind::Unnamed), definition("one", Kind::Named)])
        .await;
    spawn(&mut client, "cart", &["joe", "ann", "untouched"]).await;
    for (name, times) in [("joe", 5), ("ann", 2), ("one", 3)] {
        for _ in 0..times {
            add(&mut client, name).await.unwrap();
        }
    }
    let busy = run(&["export", text(&file)], &store_in(&first)).await.refused(73);
    assert!(busy.contains("in use by another Tidegate"), "{busy}");
    drop(client);
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());

    export(&first, &file).await;
    let said = run(&["import", text(&file)], &store_in(&second)).await.said();
    assert_eq!(said, "imported 5 registered entries, 3 actors and 10 revisions\n");
    export(&second, &again).await;
    assert_eq!(content(&file), content(&again));

    settings = embedded(&second, &port);
    let proxy = Proxy::start(&settings).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for (name, value) in [("joe", 5), ("ann", 2), ("one", 3), ("untouched", 0)] {
        assert_eq!(get(&mut client, name).await, value, "{name}");
    }
    add(&mut client, "joe").await.unwrap();
    assert_eq!(get(&mut client, "joe").await, 6);
    drop(client);
    proxy.terminate(TERMINATE_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_killed_or_cut_anywhere_goes_on_to_the_same_content() {
    let filled = Filled::new().await;
    let (whole, killed) = (filled.path("whole"), filled.path("killed"));
    export(&filled.store(), &whole).await;
    let expected = content(&whole);
    let size = fs::metadata(&whole).unwrap().len();

    let mut child = begin(&["export", text(&killed)], &store_in(&filled.store()));
    let part = filled.path("killed.part");
    while fs::metadata(&part).map_or(0, |file| file.len()) < size / 4 {
        assert!(child.try_wait().unwrap().is_none(), "it is killed before its end");
        sleep(Duration::from_millis(1)).await;
    }
    child.start_kill().unwrap();
    assert_eq!(end(child).await.code, None, "killed");
    let exists = run(&["export", text(&killed)], &store_in(&filled.store())).await.refused(73);
    assert!(exists.contains("--resume"), "{exists}");
    assert!(!killed.exists(), "it gets its name when it is whole");
    let resume = ["export", text(&killed), "--resume"];
    run(&resume, &store_in(&filled.store())).await.said();
    assert_eq!(content(&killed), expected);
    // Complete: nothing is left to do.
    let complete = fs::read(&killed).unwrap();
    run(&resume, &store_in(&filled.store())).await.said();
    assert_eq!(fs::read(&killed).unwrap(), complete);

    // In the header, behind it, in the registry, in an actor with many pages, in the last line.
    let len = complete.len();
    let long = complete.windows(13).position(|text| text == b"{\"revision\":{").unwrap();
    for cut in [0, 1, 30, 150, 4_000, long + 5, len / 3, len / 2, len - 60, len - 1] {
        fs::write(&killed, &complete[..cut]).unwrap();
        run(&resume, &store_in(&filled.store())).await.said();
        assert_eq!(content(&killed), expected, "cut at {cut}");
    }
    // A file of somebody else is left alone.
    fs::write(&killed, "thesis").unwrap();
    run(&resume, &store_in(&filled.store())).await.refused(65);
    assert_eq!(fs::read(&killed).unwrap(), b"thesis");
}

/// The number of the line in which a text ends.
fn lines_to(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count()
}

/// How many heads a store has, and whether an import into it is unfinished.
async fn heads(store: &Path) -> (usize, bool) {
    let store = EmbeddedStore::open(store, Options::default(), wire::definition).unwrap();
    let mut heads = 0;
    for system in ["north", "süd"] {
        heads += store.actors(system, None, usize::MAX).await.unwrap().items.len();
    }
    let is_unfinished = tidegate::offline::is_unfinished(&*store).await.unwrap();
    store.close().await.unwrap();
    (heads, is_unfinished)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_killed_goes_on_and_until_then_no_proxy_starts() {
    let filled = Filled::new().await;
    let (file, target, again) = (filled.path("file"), filled.path("target"), filled.path("again"));
    export(&filled.store(), &file).await;
    let mut partly = 0;
    let mut delay = Duration::from_millis(50);
    loop {
        let mut child = begin(&["import", text(&file)], &store_in(&target));
        sleep(delay).await;
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{:?}", end(child).await);
            break;
        }
        child.start_kill().unwrap();
        end(child).await;
        // Longer each time, so that it comes to its end on any machine; in small steps, so that it is killed in between.
        delay += delay / 10;
        if !target.exists() {
            continue;
        }
        let (there, is_unfinished) = heads(&target).await;
        // Killed when it was done and had not left yet.
        if !is_unfinished && there > 0 {
            break;
        }
        if there > 0 && there < usize::try_from(ACTORS).unwrap() {
            partly += 1;
            if partly == 1 {
                let refused = run(&["serve"], &store_in(&target)).await.refused(65);
                assert!(refused.contains("tidegate import"), "{refused}");
                run(&["export", text(&again)], &store_in(&target)).await.refused(65);
                let other = filled.path("other");
                export(&filled.store(), &other).await;
                let refused = run(&["import", text(&other)], &store_in(&target)).await.refused(64);
                assert!(refused.contains("another file"), "{refused}");
            }
        }
    }
    assert!(partly > 0, "it was never killed between the first actor and the last");
    export(&target, &again).await;
    assert_eq!(content(&again), content(&file));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_damaged_cut_short_or_of_a_later_format_changes_nothing() {
    let filled = Filled::new().await;
    let (file, target) = (filled.path("file"), filled.path("target"));
    export(&filled.store(), &file).await;
    let whole = fs::read(&file).unwrap();
    let lines = whole.split_inclusive(|byte| *byte == b'\n').count();
    let import = ["import", text(&file)];

    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    let place =
        middle + whole[middle..].windows(9).position(|text| text == b"\"value\":\"").unwrap();
    damaged[place + 12] = if damaged[place + 12] == b'Q' { b'A' } else { b'Q' };
    let line = lines_to(&whole[..place]);
    let last_line =
        whole.len() - whole.split_inclusive(|byte| *byte == b'\n').next_back().unwrap().len();
    let cases = [
        (damaged, format!("is damaged in line {line}: ")),
        (whole[..middle].to_vec(), format!("is damaged in line {}", lines_to(&whole[..middle]))),
        (whole[..last_line].to_vec(), format!("is damaged in line {}: it ends here", lines - 1)),
        (
            b"{\"tidegate_export\":{\"format\":3}}\n".to_vec(),
            "has format 3, this Tidegate knows formats up to 2".into(),
        ),
        (b"PK\x03\x04".to_vec(), "line 1: no header of an export".into()),
        ([&whole[..], b"{}\n"].concat(), format!("line {}", lines + 1)),
    ];
    for (bytes, expected) in cases {
        fs::write(&file, bytes).unwrap();
        let refused = run(&import, &store_in(&target)).await.refused(65);
        assert!(refused.contains(&expected), "{expected}: {refused}");
        assert!(!target.exists(), "nothing was opened, let alone written");
    }
    fs::remove_file(&file).unwrap();
    run(&import, &store_in(&target)).await.refused(66);
    let memory = [("PROXY_DATABASE_TYPE", "memory")];
    for command in [&["export", "x"][..], &["import", "x"], &["reseal"]] {
        let refused = run(command, &memory).await.refused(64);
        assert!(refused.contains("memory"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_holds_is_never_replaced_by_an_import() {
    let filled = Filled::new().await;
    let (file, target, again) = (filled.path("file"), filled.path("target"), filled.path("again"));
    let nowhere = filled.path("none/file");
    let refused = run(&["export", text(&nowhere)], &store_in(&filled.store())).await.refused(73);
    assert!(refused.contains("cannot write"), "{refused}");
    export(&filled.store(), &file).await;
    let import = |more: &[&'static str]| {
        let args: Vec<_> =
            ["import", text(&file)].into_iter().chain(more.iter().copied()).collect();
        let settings = store_in(&target);
        async move { run(&args, &settings).await }
    };
    {
        let store = EmbeddedStore::open(&target, Options::default(), wire::definition).unwrap();
        let head = Head { version: 1_000, ..head(1, 2, 0) };
        let saved = store.save_all(vec![Save::of_head(actor(1), head, true)]).await;
        saved.into_iter().for_each(Result::unwrap);
        store.close().await.unwrap();
    }
    let refused = import(&[]).await.refused(64);
    assert!(refused.contains("--merge"), "{refused}");
    assert_eq!(heads(&target).await, (1, false));

    let merged = import(&["--merge"]).await;
    let name = actor(1).to_string();
    assert!(
        merged.stderr.contains(&format!("{name} stays at version 1000, the file has 8")),
        "{}",
        merged.stderr
    );
    let said = merged.said();
    assert!(
        said.contains(
            "; 1 of these actors were there already and stay as they were, 1 of them in another"
        ),
        "{said}"
    );
    assert_eq!(heads(&target).await, (usize::try_from(ACTORS).unwrap(), false));
    export(&target, &again).await;
    let (before, after) = (content(&file), content(&again));
    // The actor that was there kept its head and the one revision that it had.
    let differing = after.iter().filter(|line| !before.contains(line)).map(|line| {
        let record = line.get("head").or_else(|| line.get("revision")).unwrap();
        (line.get("head").is_some(), record["version"].as_u64().unwrap())
    });
    assert_eq!(differing.collect::<Vec<_>>(), [(false, 1_000), (true, 1_000)]);
    // Once more: everything is there.
    let said = import(&["--merge"]).await.said();
    assert!(said.contains(&format!("; {ACTORS} of these")), "{said}");
    let said = run(&["import", "--give-up"], &store_in(&target)).await.said();
    assert_eq!(said, "no import is unfinished\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_export_shows_no_state_and_is_imported_with_its_key_only() {
    let filled = Filled::new().await;
    let (clear, sealed) = (filled.path("clear"), filled.path("sealed"));
    let (target, again) = (filled.path("target"), filled.path("again"));
    export(&filled.store(), &clear).await;
    let with = |directory: &'static str, key: &'static str| {
        let path = filled.path(directory);
        let mut settings: Vec<_> = store_in(&path)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if !key.is_empty() {
            settings.push(("SPAWN_STATESTORE_KEY".into(), key.into()));
        }
        settings
    };
    let run = |args: Vec<String>, settings: Vec<(String, String)>| async move {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let settings: Vec<_> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run(&args, &settings).await
    };
    let args = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    run(args(&["export", text(&sealed), "--sealed"]), with("store", "")).await.refused(64);
    run(args(&["export", text(&sealed), "--sealed"]), with("store", KEY)).await.said();
    let value = |file: &Path| {
        let line =
            content(file).into_iter().find(|line| line["head"]["state"].is_object()).unwrap();
        line["head"]["state"]["value"].as_str().unwrap().to_owned()
    };
    let decoded = |text: String| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    assert!(decoded(value(&clear)).starts_with(b"secret"));
    assert!(decoded(value(&sealed)).starts_with(b"\x01\x0ATIDEGATE.1"));
    // The key of the file is no key of the store: reading a store in the clear leaves it as it is.
    run(args(&["export", text(&filled.path("third"))]), with("store", "")).await.said();

    for key in ["", OTHER_KEY] {
        let refused = run(args(&["import", text(&sealed)]), with("target", key)).await.refused(78);
        assert!(refused.contains("is sealed") && !refused.contains(OTHER_KEY), "{refused}");
    }
    run(args(&["import", text(&sealed)]), with("target", KEY)).await.said();
    run(args(&["export", text(&again)]), with("target", "")).await.refused(78);
    let ran = run(args(&["export", text(&again)]), with("target", KEY)).await;
    assert!(ran.stderr.contains("in the clear"), "{}", ran.stderr);
    ran.said();
    assert_eq!(content(&again), content(&clear));
    let mut resumed = fs::read(&sealed).unwrap();
    resumed.truncate(resumed.len() / 2);
    fs::write(&sealed, resumed).unwrap();
    run(args(&["export", text(&sealed), "--resume"]), with("store", "")).await.refused(64);
    run(args(&["export", text(&sealed), "--resume", "--sealed"]), with("store", OTHER_KEY))
        .await
        .refused(78);
    run(args(&["export", text(&sealed), "--resume", "--sealed"]), with("store", KEY)).await.said();
    assert!(target.exists());
    assert_eq!(content(&sealed).len(), content(&clear).len());
}
