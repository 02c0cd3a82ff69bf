//! The errors of an unusable store, and the data that the database must not see.

use std::sync::Arc;

use tidegate::store::{CqlOpenError, Credentials, Key, Vault};
use tidegate_stages::ports::{Registered, RegistryChange, Save, StateStore, StoreError};
use tidegate_stages::state::Any;
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::testkit::conformance::effects::{appends, row};
use tidegate_stages::testkit::conformance::states::{content_mut, head, id, keep, save};

use crate::support::tool::run;
use crate::{open, open_with};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[tokio::test]
async fn a_sealed_state_shows_nothing_and_opens_with_its_key_only() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let mut options = subject.options();
    options.vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
    let sealing = open_with(&options).await.unwrap();
    let store: Arc<dyn StateStore> = Arc::new(sealing.clone());
    let mut secret = save(&actor, 1, true);
    let value = "secret state".into();
    content_mut(&mut secret).state = Some(Any { type_url: "t/Cart".into(), value });
    keep(&store, vec![secret.clone()]).await;
    assert_eq!(store.load(&actor).await.unwrap(), secret.head.clone());
    assert_eq!(
        store.load_revision(&actor, 1).await.unwrap(),
        secret.head.map(|head| head.as_revision())
    );
    sealing.close().await.unwrap();
    let session = crate::server::session().await;
    for table in ["heads", "revisions"] {
        let query = format!("SELECT value FROM {}.{table}", subject.name());
        let rows = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
        let values = rows.rows::<(Option<Vec<u8>>,)>().unwrap().filter_map(|row| row.unwrap().0);
        let values: Vec<_> = values.collect();
        assert!(!values.is_empty());
        for value in values {
            assert!(!value.windows(6).any(|part| part == b"secret"), "{table}");
        }
    }
    let without = subject.states().load(&actor).await;
    assert!(matches!(without, Err(StoreError::Sealed(_))), "{without:?}");
    let without = subject.states().load_revision(&actor, 1).await;
    assert!(matches!(without, Err(StoreError::Sealed(_))), "{without:?}");
}

#[tokio::test]
async fn a_keyspace_in_the_clear_is_sealed_by_reseal() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let states = subject.states();
    let entry = RegistryChange::Put(Registered::spawned(actor.clone(), None));
    subject.registry().apply(vec![entry]).await.unwrap();
    keep(&states, vec![save(&actor, 1, true)]).await;
    keep(&states, vec![save(&actor, 2, true)]).await;
    keep(&states, vec![Save::of_rows(actor.clone(), 1, appends(0..2))]).await;
    let address = crate::server::address();
    let mut settings = crate::server::settings(subject.name(), &address);
    settings.push(("SPAWN_STATESTORE_KEY", KEY));
    let said = run(&["reseal"], &settings).await.said();
    let all = "sealed again 1 of 1 states, 2 of 2 revisions and 2 of 2 undelivered effects\n";
    assert!(said.starts_with(all), "{said}");
    let without = states.load(&actor).await;
    assert!(matches!(without, Err(StoreError::Sealed(_))), "{without:?}");
    let mut options = subject.options();
    options.vault = Arc::new(Vault::new(&[Key::parse(KEY).unwrap()]));
    let sealing = open_with(&options).await.unwrap();
    let store: Arc<dyn StateStore> = Arc::new(sealing.clone());
    let found = store.load(&actor).await.unwrap().unwrap();
    assert_eq!(found.content, head(&actor, 2).content);
    assert_eq!(store.outbox(&actor, None, 9).await.unwrap().items, [row(0), row(1)]);
    sealing.close().await.unwrap();
}

#[tokio::test]
async fn a_later_schema_is_refused_naming_both_versions() {
    let subject = open().await;
    let session = crate::server::session().await;
    let later = format!("INSERT INTO {}.meta (name, number) VALUES ('schema', 7)", subject.name());
    session.query_unpaged(later, ()).await.unwrap();
    let error = open_with(&subject.options()).await.unwrap_err();
    assert!(matches!(error, CqlOpenError::Newer { found: 7, known: 2, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains('7') && text.contains('2') && text.contains(subject.name()), "{text}");
}

#[tokio::test]
async fn a_schema_whose_making_was_interrupted_is_completed() {
    let subject = open().await;
    let session = crate::server::session().await;
    for interrupted in ["DELETE FROM {}.meta WHERE name = 'schema'", "DROP TABLE {}.registrations"]
    {
        let interrupted = interrupted.replace("{}", subject.name());
        session.query_unpaged(interrupted, ()).await.unwrap();
    }
    let subject = subject.reopen().await;
    assert!(subject.registry().load().await.unwrap().is_empty());
}

#[tokio::test]
async fn tables_of_somebody_else_are_refused() {
    let keyspace = crate::server::Keyspace::new();
    let session = crate::server::session().await;
    let replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}";
    let name = &keyspace.name;
    for made in [
        format!("CREATE KEYSPACE {name} WITH replication = {replication}"),
        format!("CREATE TABLE {name}.heads (mine int PRIMARY KEY)"),
    ] {
        session.query_unpaged(made, ()).await.unwrap();
    }
    let error = open_with(&keyspace.options()).await.unwrap_err();
    assert!(matches!(error, CqlOpenError::Schema { .. }), "{error}");
    session.query_unpaged(format!("DROP KEYSPACE {name}"), ()).await.unwrap();
}

#[tokio::test]
async fn states_that_the_server_cannot_take_are_refused_at_the_start_and_when_saved() {
    let (subject, actor) = (open().await, id("s", "a", ""));
    let mut options = subject.options();
    options.max_state_bytes = 1 << 30;
    let error = open_with(&options).await.unwrap_err();
    let CqlOpenError::StateLimit { limit, fitting, .. } = error else { panic!("{error}") };
    assert!(fitting < limit && error.to_string().contains("TIDEGATE_MAX_STATE_BYTES"), "{error}");
    options.max_state_bytes = fitting;
    open_with(&options).await.unwrap().close().await.unwrap();
    let of_bytes = |bytes: usize| {
        let mut save = save(&actor, 1, true);
        let value = vec![0_u8; bytes];
        content_mut(&mut save).state = Some(Any { type_url: "t".into(), value: value.into() });
        save
    };
    let store = subject.states();
    let answer = store.save_all(vec![of_bytes(limit + 1)]).await;
    assert!(matches!(answer[..], [Err(StoreError::TooLarge(_))]), "{answer:?}");
    assert_eq!(store.load(&actor).await.unwrap(), None);
    // The largest state that was said to fit does.
    keep(&store, vec![of_bytes(fitting)]).await;
    assert!(store.load(&actor).await.unwrap() == of_bytes(fitting).head);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_with_the_settings_that_say_where() {
    let subject = open().await;
    let mut options = subject.options();
    options.hosts = vec!["127.0.0.1:1".into()];
    options.credentials = Some(Credentials { user: "user".into(), secret: "hunter2".into() });
    let text = open_with(&options).await.unwrap_err().to_string();
    assert!(text.contains("127.0.0.1:1") && text.contains("PROXY_DATABASE_HOST"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
