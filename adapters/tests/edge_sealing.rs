//! A sealed value opens where it was written, and nowhere else in the store or in an export.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tidegate::store::{
    BackupPage, EmbeddedStore, Key, Options, Vault, restore_backup, write_backup,
};
use tidegate::wire;
use tidegate_stages::actor::ActorId;
use tidegate_stages::outbox::OutboxRow;
use tidegate_stages::ports::{Registered, Registry, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::{ActorState, Any, Head, Timestamp};
use tidegate_stages::testkit::conformance::effects::{appends, row};

use support::client::Client;
use support::counter::{Added, Counter, SYSTEM, add, definition, get_state, register};
use support::host::Host;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::tool::{Ran, run, store_in};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TERMINATE_LIMIT: Duration = Duration::from_secs(40);
/// How sealed values begin.
const PLACE: &[u8] = b"\x01\x0aTIDEGATE.1";
const SPAWN: &[u8] = b"\x01\x0aAES.GCM.V1";
/// What an error says of a value that was moved.
const ELSEWHERE: &str = "does not belong here";

/// The keys of the engine, as decision 017 lists them.
fn key(prefix: &str, actor: &ActorId, numbers: &[u64]) -> Vec<u8> {
    let mut key = prefix.as_bytes().to_vec();
    for part in [&actor.system, &actor.name, &actor.parent] {
        key.extend_from_slice(&u16::try_from(part.len()).unwrap().to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
    key
}

/// Everything in a store, as it is on the disk. Whoever can write the disk can do what this does.
#[derive(Clone)]
struct Raw(Vec<Entry>);

#[derive(Clone)]
struct Entry {
    space: u8,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Raw {
    async fn read(dir: &Path) -> Self {
        let store = EmbeddedStore::open(dir, Options::default(), wire::definition).unwrap();
        let id = store.begin_backup().await.unwrap().id;
        let mut entries = Vec::new();
        loop {
            let page = store.backup_page(id).await.unwrap();
            let mut rest = &page[..];
            while let [space @ (0 | 1), k0, k1, v0, v1, v2, v3, tail @ ..] = rest {
                let value_len = u32::from_be_bytes([*v0, *v1, *v2, *v3]) as usize;
                let (key, tail) = tail.split_at(u16::from_be_bytes([*k0, *k1]).into());
                let (value, tail) = tail.split_at(value_len);
                entries.push(Entry { space: *space, key: key.into(), value: value.into() });
                rest = tail;
            }
            if !rest.is_empty() {
                store.close().await.unwrap();
                return Self(entries);
            }
        }
    }

    fn value(&mut self, key: &[u8]) -> &mut Vec<u8> {
        &mut self.0.iter_mut().find(|entry| entry.key == key).expect("it is there").value
    }

    fn exchange(&mut self, one: &[u8], other: &[u8]) {
        let first = self.value(one).clone();
        *self.value(one) = std::mem::replace(self.value(other), first);
    }

    fn put(&mut self, from: &[u8], to: &[u8]) {
        *self.value(to) = self.value(from).clone();
    }

    /// How many entries hold a text.
    fn count(&self, text: &[u8]) -> usize {
        let holds = |entry: &&Entry| entry.value.windows(text.len()).any(|part| part == text);
        self.0.iter().filter(holds).count()
    }

    /// Makes a data directory of it.
    fn write(&self, dir: &Path) {
        let mut page = Vec::new();
        for Entry { space, key, value } in &self.0 {
            page.push(*space);
            page.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
            page.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            page.extend_from_slice(key);
            page.extend_from_slice(value);
        }
        let (bytes, sum) = (page.len() as u64, xxhash_rust::xxh3::xxh3_64(&page));
        page.push(0xff);
        for number in [self.0.len() as u64, bytes, sum] {
            page.extend_from_slice(&number.to_be_bytes());
        }
        let (options, copy) = (Options::default(), tempfile::tempdir().unwrap());
        write_backup(copy.path(), &options, BackupPage::decode(&page), |_| ()).unwrap();
        restore_backup(copy.path(), dir, &options, |_| ()).unwrap();
    }
}

fn id(name: &str) -> Arc<ActorId> {
    Arc::new(ActorId { name: name.into(), system: SYSTEM.into(), parent: String::new() })
}

fn open(dir: &Path) -> Arc<EmbeddedStore> {
    let vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
    let options = Options { vault, ..Options::default() };
    EmbeddedStore::open(dir, options, wire::definition).unwrap()
}

fn head(epoch: u64, number: u64) -> Head {
    let state = Any { type_url: "t".into(), value: format!("state {number}").into() };
    let content = ActorState { state: Some(state), ..ActorState::default() };
    let at = Timestamp(1_764_000_000_000_000 + number);
    Head { version: number, revision: number, epoch, at, content, ..Head::default() }
}

/// Two actors, each with two revisions, whose numbers are those of the heads, and with two effects in its outbox.
async fn fill(dir: &Path) {
    let store = open(dir);
    let epoch = store.claim_epoch().await.unwrap();
    for name in ["joe", "ann"] {
        let entry = RegistryChange::Put(Registered::spawned(id(name), None));
        Registry::apply(&*store, vec![entry]).await.unwrap();
        for number in [1, 2] {
            let saved = Save::of_head(id(name), head(epoch, number), true);
            store.save_all(vec![saved]).await.into_iter().for_each(Result::unwrap);
        }
        let rows = Save::of_rows(id(name), epoch, appends(0..2));
        store.save_all(vec![rows]).await.into_iter().for_each(Result::unwrap);
    }
    store.close().await.unwrap();
}

async fn outbox(store: &EmbeddedStore, actor: &ActorId) -> Result<Vec<OutboxRow>, StoreError> {
    StateStore::outbox(store, actor, None, 9).await.map(|page| page.items)
}

#[track_caller]
fn does_not_belong<T: std::fmt::Debug>(read: Result<T, StoreError>) {
    match read {
        Err(StoreError::Sealed(text)) => assert!(text.contains(ELSEWHERE), "{text}"),
        other => panic!("it opened, or failed for another reason: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_actors_states_that_were_exchanged_on_the_disk_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [store, exchanged] = ["store", "exchanged"].map(|name| dir.path().join(name));
    let host = Host::start(Arc::new(Counter::default()));
    let port = host.port();
    let start = async |store: &Path| {
        let mut settings = embedded(store, &port);
        settings.push(("SPAWN_STATESTORE_KEY", KEY));
        Proxy::start(&settings).await
    };
    let proxy = start(&store).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    let names = ["joe", "ann", "eve"];
    register(&mut client, names.map(|name| definition(name, Kind::Named)).into()).await;
    for name in names {
        add(&mut client, name).await.unwrap();
    }
    drop(client);
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());

    let mut raw = Raw::read(&store).await;
    let [joe, ann] = ["joe", "ann"].map(|name| key("h", &id(name), &[]));
    raw.exchange(&joe, &ann);
    raw.write(&exchanged);

    let proxy = start(&exchanged).await;
    let mut client = Client::connect(proxy.address()).await.unwrap();
    for name in ["joe", "ann"] {
        let refused = add(&mut client, name).await.unwrap();
        let Added::Refused(status, text) = refused else { panic!("{name}: {refused:?}") };
        assert_eq!(status, 503, "{text}");
        assert!(text.contains(ELSEWHERE), "{text}");
    }
    assert_eq!(get_state(&mut client, "eve").await, 1, "others are served");
    drop(client);
    assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_was_moved_within_one_actor_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let filled = dir.path().join("filled");
    fill(&filled).await;
    let raw = Raw::read(&filled).await;
    let joe = id("joe");
    let changed = async |name: &str, change: &dyn Fn(&mut Raw)| {
        let (at, mut raw) = (dir.path().join(name), raw.clone());
        change(&mut raw);
        raw.write(&at);
        open(&at)
    };

    let store = changed("as it was", &|_| ()).await;
    assert_eq!(StateStore::load(&*store, &joe).await.unwrap().unwrap(), head(1, 2));
    assert_eq!(store.load_revision(&joe, 2).await.unwrap().unwrap(), head(1, 2).as_revision());
    assert_eq!(outbox(&store, &joe).await.unwrap(), [row(0), row(1)]);

    let [first, second] = [1, 2].map(|number| key("", &joe, &[number]));
    let newest = key("h", &joe, &[]);
    let store = changed("a head in the history", &|raw| raw.put(&newest, &second)).await;
    does_not_belong(store.load_revision(&joe, 2).await);
    let store = changed("a revision as head", &|raw| raw.put(&second, &newest)).await;
    does_not_belong(StateStore::load(&*store, &joe).await);
    let store = changed("an older revision", &|raw| raw.put(&first, &second)).await;
    does_not_belong(store.load_revision(&joe, 2).await);
    does_not_belong(store.load_at(&joe, Timestamp(u64::MAX)).await);

    let [one, two] = [0, 1].map(|place| key("o", &joe, &[1, place]));
    let other = key("o", &id("ann"), &[1, 0]);
    let store = changed("an effect in another place", &|raw| raw.put(&two, &one)).await;
    does_not_belong(outbox(&store, &joe).await);
    let store = changed("an effect of another actor", &|raw| raw.put(&other, &one)).await;
    does_not_belong(outbox(&store, &joe).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_numbers_beside_a_value_are_those_that_it_was_sealed_with() {
    let dir = tempfile::tempdir().unwrap();
    let [filled, changed] = ["filled", "changed"].map(|name| dir.path().join(name));
    fill(&filled).await;
    let mut raw = Raw::read(&filled).await;
    let joe = id("joe");
    // The version is the first field of a head, the effect's number the last of its id: 3 for 2, 7 for 1.
    let value = raw.value(&key("h", &joe, &[]));
    assert_eq!(value[..3], [1, 0x08, 2]);
    value[2] = 3;
    let value = raw.value(&key("o", &joe, &[1, 1]));
    assert_eq!(value[..9], [1, 0x0a, 6, 0x08, 1, 0x10, 2, 0x18, 1]);
    value[8] = 7;
    raw.write(&changed);
    let store = open(&changed);
    does_not_belong(StateStore::load(&*store, &joe).await);
    does_not_belong(outbox(&store, &joe).await);
    assert_eq!(outbox(&store, &id("ann")).await.unwrap(), [row(0), row(1)]);
}

async fn tool(args: &[&str], store: &Path, sealing: &str) -> Ran {
    let mut settings = store_in(store);
    settings.extend([("SPAWN_STATESTORE_KEY", KEY), ("TIDEGATE_SEALING", sealing)]);
    run(args, &settings).await
}

async fn check_content(dir: &Path) {
    let store = open(dir);
    for actor in [id("joe"), id("ann")] {
        let found = StateStore::load(&*store, &actor).await.unwrap().unwrap();
        assert_eq!(found.content, head(1, 2).content);
        for number in [1, 2] {
            let found = store.load_revision(&actor, number).await.unwrap().unwrap();
            assert_eq!(found.content, head(1, number).content);
        }
        let rows = outbox(&store, &actor).await.unwrap();
        let records: Vec<_> = rows.into_iter().map(|row| (row.id, row.record)).collect();
        assert_eq!(records, [row(0), row(1)].map(|row| (row.id, row.record)));
    }
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reseal_converts_from_one_layout_to_the_other_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fill(&store).await;
    // Two heads, four revisions, four effects.
    let raw = Raw::read(&store).await;
    assert_eq!((raw.count(PLACE), raw.count(SPAWN)), (10, 0));
    let all = "sealed again 2 of 2 states, 4 of 4 revisions and 4 of 4 undelivered effects\n";
    let nothing = "sealed again 0 of 2 states, 0 of 4 revisions and 0 of 4 undelivered effects\n";
    // And the known text that tells whether the key is the right one.
    for (sealing, counts) in [("spawn", (0, 11)), ("place", (11, 0))] {
        for expected in [all, nothing] {
            let said = tool(&["reseal"], &store, sealing).await.said();
            assert!(said.starts_with(expected), "{sealing}: {said}");
            let raw = Raw::read(&store).await;
            assert_eq!((raw.count(PLACE), raw.count(SPAWN)), counts, "{sealing}");
            check_content(&store).await;
        }
    }
    tool(&["serve"], &store, "nowhere").await.refused(64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_tells_of_its_layout_before_a_value_is_sealed_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let start = async |sealing| {
        let mut settings = embedded(&store, "1");
        settings.extend([("SPAWN_STATESTORE_KEY", KEY), ("TIDEGATE_SEALING", sealing)]);
        let proxy = Proxy::start(&settings).await;
        assert!(proxy.terminate(TERMINATE_LIMIT).await.success());
        let raw = Raw::read(&store).await;
        (raw.count(PLACE), raw.count(SPAWN))
    };
    assert_eq!(start("spawn").await, (0, 1));
    // From here on an older Tidegate refuses the store, since it cannot read what may be there.
    assert_eq!(start("place").await, (1, 0));
    assert_eq!(start("spawn").await, (1, 0), "there may be values in the other layout");
}

/// The value of a line of an export, if it is of this kind.
fn sealed_of<'a>(line: &'a mut Value, kind: &str) -> Option<&'a mut Value> {
    let line = line.get_mut(kind)?;
    if kind == "outbox" { line.get_mut("record") } else { line.get_mut("state")?.get_mut("value") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_export_is_bound_to_what_its_lines_say() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let text = |name: &str| place(name).to_str().unwrap().to_owned();
    fill(&place("store")).await;
    for (sealing, label) in [("place", PLACE), ("spawn", SPAWN)] {
        let file = text(sealing);
        tool(&["export", &file, "--sealed"], &place("store"), sealing).await.said();
        let label = STANDARD.encode(label);
        // Ten values, and the known text in the header.
        assert_eq!(fs::read_to_string(&file).unwrap().matches(&label).count(), 11, "{sealing}");
        let target = place(&format!("of {sealing}"));
        tool(&["import", &file], &target, "place").await.said();
        check_content(&target).await;
    }

    let whole = fs::read_to_string(place("place")).unwrap();
    let whole: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // Lines without sums, as a script writes them, or somebody who changed one.
    let write = |lines: &[Value]| {
        let lines = lines.iter().cloned().map(|mut line| {
            line.as_object_mut().unwrap().remove("sum");
            line.to_string() + "\n"
        });
        fs::write(place("changed"), lines.collect::<String>()).unwrap();
    };
    write(&whole);
    tool(&["import", &text("changed")], &place("same"), "place").await.said();
    check_content(&place("same")).await;
    let all = |kind: &str| {
        let mut lines = whole.clone();
        let of_kind = lines.iter_mut().enumerate();
        let of_kind = of_kind.filter_map(|(at, line)| Some((at, sealed_of(line, kind)?.clone())));
        of_kind.collect::<Vec<_>>()
    };
    // Of each actor: two revisions, two effects, the head.
    let (heads, revisions, effects) = (all("head"), all("revision"), all("outbox"));
    for (from, to, kind) in [
        (&heads[0], &heads[1], "head"),
        (&heads[0], &revisions[1], "revision"),
        (&revisions[1], &heads[0], "head"),
        (&revisions[0], &revisions[1], "revision"),
        (&effects[0], &effects[1], "outbox"),
        (&effects[0], &effects[2], "outbox"),
    ] {
        let mut lines = whole.clone();
        *sealed_of(&mut lines[to.0], kind).unwrap() = from.1.clone();
        write(&lines);
        let target = place("refused");
        let refused = tool(&["import", &text("changed")], &target, "place").await.refused(65);
        assert!(refused.contains(&format!("line {}", to.0 + 1)), "{refused}");
        assert!(refused.contains(ELSEWHERE), "{refused}");
        assert!(!target.exists(), "nothing was opened");
    }
}
