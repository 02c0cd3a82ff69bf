//! The doctor asks the server under which settings an acknowledged change can be lost, and so does a start.

use std::time::Duration;

use crate::server::{self, Keyspace};
use crate::support::proxy::Proxy;
use crate::support::tool::run;

const LIMIT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_may_lose_is_told_by_the_doctor_and_at_a_start() {
    let (keyspace, address) = (Keyspace::new(), server::address());
    let settings = server::settings(&keyspace.name, &address);
    let few = [("TIDEGATE_HTTP_CONNECTIONS", "50"), ("TIDEGATE_HOST_CONNECTIONS", "50")];
    let settings = [&settings[..], &few].concat();
    let nothing = run(&["doctor"], &settings).await;
    assert_eq!(nothing.code, Some(0), "{}", nothing.stdout);
    assert!(nothing.stdout.contains("`serve` makes it"), "{}", nothing.stdout);
    let session = server::session().await;
    assert!(server::tables(&session, &keyspace.name).await.is_empty(), "nothing was made");

    let proxy = Proxy::start(&[&settings[..], &[("TIDEGATE_DRAIN_DELAY", "0s")]].concat()).await;
    let started = proxy.said(LIMIT).await.join("\n");
    let told = run(&["doctor"], &settings).await;
    assert_eq!(told.code, Some(1), "{}\n{}", told.stdout, told.stderr);
    let query = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'";
    let found = session.query_unpaged(query, ()).await.unwrap().into_rows_result().unwrap();
    let (sync,) = found.first_row::<(String,)>().unwrap();
    for said in [&started, &told.stdout] {
        assert!(said.contains("one copy of each row"), "{said}");
        assert_eq!(said.contains("commitlog_sync: periodic"), sync == "periodic", "{sync}: {said}");
        assert!(!said.contains("clock is"), "one machine has one clock: {said}");
    }
    eprintln!("commitlog_sync: {sync}\n{}", told.stdout);
    session.query_unpaged(format!("DROP KEYSPACE {}", keyspace.name), ()).await.unwrap();
}
