//! Exports of every format are imported, and one of today's carries everything that a store holds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod installation;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::sync::Arc;

use tidegate::store::{EmbeddedStore, Key, Options, Vault};
use tidegate::wire;
use tidegate_stages::actor::ActorId;
use tidegate_stages::outbox::{EffectId, EffectRows, OutboxKey, OutboxRow, Seen};
use tidegate_stages::ports::{Save, StateStore};
use tidegate_stages::state::Head;
use tidegate_stages::testkit::conformance::effects::{appends, seen};
use tidegate_stages::testkit::conformance::states::{id, keep};

use installation::{KEY, content, export, fill, golden, joe, keyed, open, text};
use support::tool::{run, store_in};

/// Writes the golden exports of this version's format; run by hand when a format is new.
#[tokio::test]
#[ignore = "writes into the source tree"]
async fn write_the_golden_exports() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    fill(&store).await;
    let (clear, sealed) = (golden("export-v2.jsonl"), golden("export-v2-sealed.jsonl"));
    assert!(!clear.exists() && !sealed.exists(), "golden data is never overwritten");
    export(&store, &clear).await;
    run(&["export", text(&sealed), "--sealed"], &keyed(&store)).await.said();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_every_format_is_imported_whole() {
    let dir = tempfile::tempdir().unwrap();
    for format in [1, 2] {
        let (clear, sealed) = (
            golden(&format!("export-v{format}.jsonl")),
            golden(&format!("export-v{format}-sealed.jsonl")),
        );
        let (store, file) =
            (dir.path().join(format!("{format}")), dir.path().join(format!("{format}.jsonl")));
        run(&["import", text(&clear)], &store_in(&store)).await.said();
        export(&store, &file).await;
        assert_eq!(content(&file), content(&clear), "format {format}");
        let header = fs::read_to_string(&file).unwrap();
        assert!(header.starts_with("{\"tidegate_export\":{\"format\":2,"));

        let (store, file) =
            (dir.path().join(format!("{format}s")), dir.path().join(format!("{format}s.jsonl")));
        run(&["import", text(&sealed)], &store_in(&store)).await.refused(78);
        run(&["import", text(&sealed)], &keyed(&store)).await.said();
        run(&["export", text(&file)], &keyed(&store)).await.said();
        assert_eq!(content(&file).len(), content(&sealed).len(), "format {format}");
        let hidden = fs::read_to_string(&sealed).unwrap();
        // "secret" and "effect".
        assert!(!hidden.contains("c2VjcmV0") && !hidden.contains("ZWZmZWN0"), "format {format}");
        if format == 2 {
            assert_eq!(content(&file), content(&clear));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_move_with_their_actors_and_actors_without_a_state_do_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fill(&path("first")).await;
    let said = export(&path("first"), &path("file")).await;
    let counts =
        "exported 6 registered entries, 5 actors and 4 revisions, with 307 undelivered effects (";
    assert!(said.starts_with(counts), "{said}");
    let said = run(&["import", text(&path("file"))], &store_in(&path("second"))).await.said();
    let counts =
        "imported 6 registered entries, 5 actors and 4 revisions, with 307 undelivered effects\n";
    assert_eq!(said, counts);
    export(&path("second"), &path("again")).await;
    assert_eq!(content(&path("again")), content(&path("file")));

    let store = open(&path("second"));
    let numbers = async |actor: &ActorId| {
        let page = StateStore::outbox(&*store, actor, None, 9).await.unwrap();
        page.items.iter().map(|row| row.id.number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&joe()).await, [0, 1, 2]);
    assert_eq!(StateStore::seen(&*store, &joe()).await.unwrap(), [seen("ann", 2), seen("till", 7)]);
    let till = id("shop", "till", "cart");
    assert_eq!(StateStore::load(&*store, &till).await.unwrap(), None, "it has no state");
    assert_eq!(StateStore::seen(&*store, &till).await.unwrap(), [seen("joe", 1)]);
    assert_eq!(numbers(&id("shop", "gone", "cart")).await, [4, 5]);
    assert_eq!(store.pending(None, 9).await.unwrap().items.len(), 4);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_with_effects_that_is_cut_anywhere_goes_on_to_the_same_content() {
    let dir = tempfile::tempdir().unwrap();
    let (store, whole, cut) =
        (dir.path().join("store"), dir.path().join("whole"), dir.path().join("cut"));
    fill(&store).await;
    export(&store, &whole).await;
    let complete = fs::read(&whole).unwrap();
    let lines: Vec<_> = complete.split_inclusive(|byte| *byte == b'\n').collect();
    let mut kind = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let name = line.split(|byte| *byte == b':').next().unwrap().to_vec();
        // Not behind each of many lines of a kind.
        if kind.iter().rev().take_while(|last| **last == name).count() < 2 {
            let len: usize = lines[..number].iter().map(|line| line.len()).sum();
            for len in [len, len + line.len() / 2] {
                fs::write(&cut, &complete[..len]).unwrap();
                run(&["export", text(&cut), "--resume"], &store_in(&store)).await.said();
                assert_eq!(content(&cut), content(&whole), "cut at {len}");
            }
        }
        kind.push(name);
    }
    let former = golden("export-v1.jsonl");
    fs::copy(&former, &cut).unwrap();
    let refused = run(&["export", text(&cut), "--resume"], &store_in(&store)).await.refused(64);
    assert!(refused.contains("was begun in format 1"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_into_a_store_with_effects_adds_each_of_them_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fill(&path("first")).await;
    export(&path("first"), &path("file")).await;
    // The target has deleted the actor that the file has: what it had seen is newer, one effect was not delivered.
    let store = open(&path("target"));
    let states: Arc<dyn StateStore> = store.clone();
    let own = OutboxRow {
        key: OutboxKey { epoch: 0, place: 9 },
        id: EffectId { epoch: 7, activation: 7, number: 7 },
        record: "own".into(),
    };
    let both = appends(1..2).appends.remove(0);
    let held = EffectRows {
        appends: vec![own, both],
        seen: vec![seen("ann", 9)],
        ..EffectRows::default()
    };
    let epoch = states.claim_epoch().await.unwrap();
    keep(&states, vec![Save::of_rows(joe(), epoch, held)]).await;
    drop(states);
    store.close().await.unwrap();
    drop(store);

    let file = path("file");
    let import = ["import", text(&file), "--merge"];
    let refused = run(&import[..2], &store_in(&path("target"))).await.refused(64);
    assert!(refused.contains("--merge"), "{refused}");
    for _ in 0..2 {
        run(&import, &store_in(&path("target"))).await.said();
        let store = open(&path("target"));
        let outbox = StateStore::outbox(&*store, &joe(), None, 9).await.unwrap();
        let numbers: Vec<_> = outbox.items.iter().map(|row| row.id.number).collect();
        assert_eq!(numbers, [7, 1, 0, 2]);
        let all: Vec<Seen> = StateStore::seen(&*store, &joe()).await.unwrap();
        assert_eq!(all, [seen("ann", 9), seen("till", 7)]);
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_leaves_out_what_a_member_of_a_pool_has_as_its_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let member = id("shop", "mail\u{1}3", "mail-3");
    fill(&path("first")).await;
    let store = open(&path("first"));
    let states: Arc<dyn StateStore> = store.clone();
    let epoch = states.claim_epoch().await.unwrap();
    let head = Head { version: 1, revision: 1, incarnation: 1, epoch, ..Head::default() };
    let state = Save::of_head(member.clone(), head, true);
    keep(&states, vec![Save { rows: Some(appends(0..2).into()), ..state }]).await;
    drop(states);
    store.close().await.unwrap();
    drop(store);

    export(&path("first"), &path("file")).await;
    assert!(fs::read_to_string(path("file")).unwrap().contains("\"mail-3\""));
    run(&["import", text(&path("file"))], &store_in(&path("second"))).await.said();
    let store = open(&path("second"));
    assert_eq!(StateStore::load(&*store, &member).await.unwrap(), None);
    assert_eq!(StateStore::load_revision(&*store, &member, 1).await.unwrap(), None);
    let outbox = StateStore::outbox(&*store, &member, None, 9).await.unwrap();
    assert_eq!(outbox.items.len(), 2, "its side effects are delivered all the same");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_effects_in_a_wrong_place_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (file, target) = (dir.path().join("file"), dir.path().join("target"));
    let actor = "{\"actor\":{\"system\":\"s\",\"name\":\"a\",\"parent\":\"\"}}";
    let outbox = |place: u64| {
        format!(
            "{{\"outbox\":{{\"epoch\":1,\"place\":{place},\"effect\":{{\"epoch\":1,\"activation\":1,\"number\":1}},\"record\":\"\"}}}}"
        )
    };
    let seen = "{\"seen\":{\"kind\":\"ACTOR\",\"system\":\"s\",\"name\":\"b\",\"effect\":{\"epoch\":1,\"activation\":1,\"number\":1}}}";
    let cases = [
        (1, vec![actor.to_owned(), outbox(1)], 3, "no line of format 1"),
        (1, vec![actor.to_owned(), "{\"head\":null}".to_owned()], 3, "no line of format 1"),
        (2, vec![outbox(1)], 2, "without that actor"),
        (2, vec![actor.to_owned(), outbox(2), outbox(2)], 4, "does not follow"),
        (2, vec![actor.to_owned(), seen.to_owned(), seen.to_owned()], 4, "does not follow"),
        (2, vec![actor.to_owned(), seen.to_owned(), outbox(1)], 4, "does not follow"),
        (2, vec![actor.to_owned(), outbox(1 << 63)], 3, "not below 2^63"),
        (
            2,
            vec![actor.to_owned(), outbox(1).replace(":1,\"a", ":4611686018427387904,\"a")],
            3,
            "not below 2^62",
        ),
    ];
    for (format, lines, at, why) in cases {
        let header = format!(
            "{{\"tidegate_export\":{{\"format\":{format},\"by\":\"me\",\"at\":\"\",\"seal\":null}}}}"
        );
        fs::write(&file, [vec![header], lines].concat().join("\n") + "\n").unwrap();
        let refused = run(&["import", text(&file)], &store_in(&target)).await.refused(65);
        assert!(refused.contains(&format!("line {at}")) && refused.contains(why), "{refused}");
        assert!(!target.exists(), "nothing was opened");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undelivered_effects_are_sealed_again_and_keep_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let (path, sealed) = (dir.path().join("store"), dir.path().join("sealed"));
    fill(&path).await;
    let rows = async || {
        let vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
        let options = Options { vault: vault.clone(), ..Options::default() };
        let store = EmbeddedStore::open(&path, options, wire::definition).unwrap();
        let mut all = Vec::new();
        for actor in store.pending(None, 9).await.unwrap().items {
            all.extend(StateStore::outbox(&*store, &actor, None, 999).await.unwrap().items);
        }
        store.close().await.unwrap();
        (all, vault.stale())
    };
    let (before, stale) = rows().await;
    assert_eq!((before.len(), stale), (307, 307));
    let reseal = async || run(&["reseal"], &keyed(&path)).await.said();
    let said = reseal().await;
    let first = "sealed again 2 of 2 states, 4 of 4 revisions and 307 of 307 undelivered effects\n";
    assert!(said.starts_with(first), "{said}");
    assert_eq!(rows().await, (before, 0));
    let said = reseal().await;
    assert!(said.contains("and 0 of 307 undelivered effects\n"), "{said}");
    run(&["export", text(&sealed)], &store_in(&path)).await.refused(78);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_an_import_has_an_epoch_above_all_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (file, target) = (dir.path().join("file"), dir.path().join("target"));
    let effect = |epoch| format!("{{\"epoch\":{epoch},\"activation\":1,\"number\":1}}");
    let outbox = |epoch, effect| {
        format!(
            "{{\"outbox\":{{\"epoch\":{epoch},\"place\":1,\"effect\":{effect},\"record\":\"\"}}}}"
        )
    };
    let seen = |effect| {
        format!(
            "{{\"seen\":{{\"kind\":\"ACTOR\",\"system\":\"s\",\"name\":\"b\",\"effect\":{effect}}}}}"
        )
    };
    let record = |kind: &str, epoch| {
        format!(
            "{{\"{kind}\":{{\"revision\":1,\"version\":1,\"incarnation\":1,\"epoch\":{epoch},\
             \"status\":\"ACTIVATED\",\"at_us\":1,\"tags\":{{}},\"state\":null}}}}"
        )
    };
    // Each of the numbers of a record that can be the newest.
    let newest =
        [(50, 1, 1, 1, 1), (1, 60, 1, 1, 1), (1, 1, 70, 1, 1), (1, 1, 1, 80, 1), (1, 1, 1, 1, 90)];
    for (of_revision, of_row, of_effect, of_seen, of_head) in newest {
        let lines = [
            "{\"tidegate_export\":{\"format\":2,\"by\":\"me\",\"at\":\"\",\"seal\":null}}"
                .to_owned(),
            "{\"actor\":{\"system\":\"s\",\"name\":\"a\",\"parent\":\"\"}}".to_owned(),
            record("revision", of_revision),
            outbox(of_row, effect(of_effect)),
            seen(effect(of_seen)),
            record("head", of_head),
            "{\"end\":{\"registered\":0,\"actors\":1,\"revisions\":1,\"outbox\":1,\"seen\":1}}\n"
                .to_owned(),
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        run(&["import", text(&file), "--merge"], &store_in(&target)).await.said();
        // What the proxy does when it starts.
        let store = open(&target);
        let epoch = store.claim_epoch().await.unwrap();
        let newest = [of_revision, of_row, of_effect, of_seen, of_head].into_iter().max().unwrap();
        assert!(epoch > newest, "{epoch} after {newest}");
        store.delete(&id("s", "a", "")).await.unwrap();
        store.close().await.unwrap();
    }
}
