//! A clock that stands before 1970, or far ahead: the proxy says so, and ends in order or goes on.

mod support;

use std::path::Path;
use std::time::Duration;

use support::client::Client;
use support::counter::{Added, Counter, add, definition, get_state, register};
use support::faketime::{at, library};
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use support::tool::run;

const BEFORE_1970: [&str; 2] = ["@1960-01-01 00:00:00", "@1969-12-31 23:59:30"];
const AHEAD: &str = "@2037-06-01 00:00:00";
const TOLD_BEFORE: &str = "the clock stands before 1970: set it";
const TOLD_AHEAD: &str = "the clock is more than ten years ahead";
const END: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_before_1970_ends_every_command_with_a_word_and_without_a_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, file) = (dir.path().join("data"), dir.path().join("file"));
    let file = file.to_str().expect("a readable path");
    let library = library();
    let cql = [("PROXY_DATABASE_TYPE", "scylla"), ("PROXY_DATABASE_HOST", "127.0.0.1")];
    for time in BEFORE_1970 {
        let mut settings = embedded(&data, "1");
        settings.extend(at(&library, time));
        for arguments in [&["serve"][..], &["export", file], &["restore-backup", file]] {
            let said = run(arguments, &settings).await.refused(78);
            assert!(said.contains(TOLD_BEFORE), "{arguments:?}: {said}");
            assert_eq!(said.lines().count(), 1, "nothing else: {said}");
        }
        let doctor = run(&["doctor"], &settings).await;
        assert_eq!(doctor.code, Some(2), "{}", doctor.stderr);
        assert!(doctor.stdout.contains(TOLD_BEFORE), "{}", doctor.stdout);
        let settings: Vec<_> = cql.into_iter().chain(at(&library, time)).collect();
        let said = run(&["serve"], &settings).await.refused(78);
        assert!(said.contains(TOLD_BEFORE), "{said}");
    }
    assert!(!data.exists() && !Path::new(file).exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_ten_years_ahead_is_told_and_calls_are_served_also_when_it_is_right_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let library = library();
    let scene = Scene::with(Counter::default(), embedded(&dir.path().join("data"), "1"));
    let mut settings = vec![("TIDEGATE_DRAIN_DELAY", "0"), ("TIDEGATE_REVISIONS", "every")];
    let right = settings.clone();
    settings.extend(at(&library, AHEAD));
    let proxy = scene.start(&settings).await;
    let mut client = connect(&proxy).await;
    register(&mut client, vec![definition("a", Kind::Named)]).await;
    assert!(matches!(add(&mut client, "a").await, Ok(Added::To(1))));
    let said = proxy.said(END).await;
    let is_told = said.iter().any(|line| line.contains("WARN") && line.contains(TOLD_AHEAD));
    assert!(is_told, "{said:#?}");
    assert!(said.iter().any(|line| line.starts_with("2037-06-01")), "it saw that clock: {said:#?}");
    let mut all = scene.settings();
    all.extend(at(&library, AHEAD));
    let doctor = run(&["doctor"], &all).await;
    assert_eq!(doctor.code, Some(2), "{}", doctor.stderr);
    assert!(doctor.stdout.contains(TOLD_AHEAD), "{}", doctor.stdout);

    let proxy = scene.start(&right).await;
    let mut client = connect(&proxy).await;
    assert_eq!(get_state(&mut client, "a").await, 1);
    assert!(matches!(add(&mut client, "a").await, Ok(Added::To(2))));
    let path = format!("/api/v1/system/{}/actors/a/revisions", support::counter::SYSTEM);
    let revisions = client.get(&path).await.expect("an answer");
    let text = String::from_utf8_lossy(&revisions.body).into_owned();
    assert_eq!(revisions.status, 200, "{text}");
    // Times of records never run backwards: the second one is just after the first.
    assert_eq!(text.matches("2037-06-01T").count(), 2, "{text}");
}

async fn connect(proxy: &Proxy) -> Client {
    Client::connect(proxy.address()).await.expect("the proxy is there")
}
