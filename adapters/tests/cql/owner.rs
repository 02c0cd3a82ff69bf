//! Two built binaries on one keyspace: a start leaves a living owner alone, and who is taken over says where to go.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::server::{self, Keyspace};
use crate::support::client::Client;
use crate::support::counter::{Added, Counter, SYSTEM, add, definition, get, mark, register};
use crate::support::faketime::{at, library};
use crate::support::host::Host;
use crate::support::proto::Kind;
use crate::support::proxy::{BINARY, Proxy};
use crate::support::tool::run;
use crate::wire::{WRITE, Wire};

const LIMIT: Duration = Duration::from_mins(1);
/// What a start says that finds a heartbeat.
const WATCHING: &str = "watching its heartbeat";

/// A keyspace, and the host of its proxies.
struct Scene {
    keyspace: Keyspace,
    address: String,
    host: String,
    _host: Host,
}

impl Scene {
    async fn new() -> Self {
        let host = Host::start(Arc::new(Counter::default()));
        let (keyspace, address) = (Keyspace::take().await, server::address());
        Self { keyspace, address, host: host.port(), _host: host }
    }

    /// Settings of a proxy that asks the server at this address.
    fn settings<'a>(&'a self, server: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut settings = server::settings(&self.keyspace.name, server);
        settings.extend([
            ("TIDEGATE_DRAIN_DELAY", "0"),
            ("USER_FUNCTION_HOST", "127.0.0.1"),
            ("USER_FUNCTION_PORT", &self.host),
        ]);
        settings
    }

    /// The epochs of heartbeats.
    async fn heartbeats(&self) -> Vec<i64> {
        let query = format!("SELECT epoch FROM {}.members", self.keyspace.name);
        let found = server::session().await.query_unpaged(query, ()).await.unwrap();
        let found = found.into_rows_result().unwrap();
        found.rows::<(i64,)>().unwrap().map(|row| row.unwrap().0).collect()
    }
}

async fn client(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.address()).await.expect("the proxy is there");
    register(&mut client, vec![definition("joe", Kind::Named)]).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_beside_a_living_owner_ends_with_75_and_names_it() {
    let scene = Scene::new().await;
    let settings = scene.settings(&scene.address);
    let owner = Proxy::start(&settings).await;
    let mut joe = client(&owner).await;
    let before = scene.heartbeats().await;
    assert_eq!(before.len(), 1, "the first heartbeat is there once it serves");
    let (code, said) = Proxy::refused(&settings).await;
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains(owner.address()) && said.contains("--take-over"), "{said}");
    let told = run(&["reseal"], &settings).await.refused(75);
    assert!(told.contains(owner.address()), "{told}");
    assert!(matches!(add(&mut joe, "joe").await.unwrap(), Added::To(1)));
    assert_eq!(scene.heartbeats().await, before, "nothing was claimed");
    drop(joe);
    assert!(owner.terminate(LIMIT).await.success());
    assert!(scene.heartbeats().await.is_empty(), "an orderly end clears it");
    let next = Proxy::start(&settings).await;
    let said = next.said(LIMIT).await.join("\n");
    assert!(said.contains("listening on") && !said.contains(WATCHING), "{said}");
    scene.keyspace.give_back();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_a_kill_watches_the_heartbeat_and_claims() {
    let scene = Scene::new().await;
    let settings = scene.settings(&scene.address);
    let owner = Proxy::start(&settings).await;
    let mut joe = client(&owner).await;
    assert!(matches!(add(&mut joe, "joe").await.unwrap(), Added::To(1)));
    owner.kill().await;
    let before = scene.heartbeats().await;
    assert_eq!(before.len(), 1);
    let next = Proxy::start(&settings).await;
    let mut joe = Client::connect(next.address()).await.unwrap();
    assert!(matches!(add(&mut joe, "joe").await.unwrap(), Added::To(2)));
    assert!(scene.heartbeats().await > before, "it has a heartbeat of its own");
    drop(joe);
    let said = next.said(LIMIT).await.join("\n");
    assert!(said.contains(WATCHING), "{said}");
    scene.keyspace.give_back();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_taken_over_says_where_the_owner_is_and_ends_with_75() {
    let (scene, wire) = (Scene::new().await, Wire::new().await);
    let through = scene.settings(&wire.address);
    let mut former = Proxy::start(&through).await;
    let mut joe = client(&former).await;
    assert!(matches!(add(&mut joe, "joe").await.unwrap(), Added::To(1)));
    // A commit is on its way when the next owner comes.
    wire.hold(WRITE, &mark("joe", 2));
    let mut adding = JoinSet::new();
    adding.spawn(async move { add(&mut joe, "joe").await });
    wire.holds(1).await;
    let mut command = Command::new(BINARY);
    command.args(["serve", "--take-over"]);
    let next = Proxy::spawn(command, &scene.settings(&scene.address)).await;
    let mut asks = Client::connect(next.address()).await.unwrap();
    assert_eq!(get(&mut asks, "joe").await, 1);
    wire.release().await;
    let added = adding.join_next().await.unwrap().unwrap().unwrap();
    let Added::Refused(status, text) = &added else { panic!("{added:?}") };
    assert!(*status == 409 && text.contains(next.address()), "{status}: {text}");
    let ended = former.wait(LIMIT).await;
    assert_eq!(ended.code(), Some(75), "{ended}");

    assert!(matches!(add(&mut asks, "joe").await.unwrap(), Added::To(2)));
    assert_eq!(
        scene.heartbeats().await.len(),
        1,
        "the former owner left that of the next one alone"
    );
    drop(asks);
    assert!(next.terminate(LIMIT).await.success());
    scene.keyspace.give_back();
}

/// The actor joe.
fn path() -> String {
    format!("/api/v1/system/{SYSTEM}/actors/joe")
}

async fn revision(client: &mut Client, number: u32) -> u16 {
    client.get(&format!("{}/revisions/{number}", path())).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_next_owner_acknowledged_stays_whatever_the_clocks_and_with_a_delete_on_its_way() {
    let library = library();
    // Of the former owner: an hour ahead of the next one, and an hour behind.
    for clock in ["+3600", "-3600"] {
        let (scene, wire) = (Scene::new().await, Wire::new().await);
        let every = ("TIDEGATE_REVISIONS", "every");
        let mut through = scene.settings(&wire.address);
        through.extend(at(&library, clock));
        through.push(every);
        let mut former = Proxy::start(&through).await;
        let mut joe = client(&former).await;
        assert!(matches!(add(&mut joe, "joe").await.unwrap(), Added::To(1)));
        wire.hold(WRITE, "joe");
        let mut deleting = JoinSet::new();
        deleting.spawn(async move {
            let request = Request::delete(path()).header("host", "localhost");
            joe.send(request.body(Full::default()).unwrap()).await
        });
        wire.holds(1).await;

        let mut direct = scene.settings(&scene.address);
        direct.push(every);
        let mut command = Command::new(BINARY);
        command.args(["serve", "--take-over"]);
        let next = Proxy::spawn(command, &direct).await;
        let mut asks = client(&next).await;
        for value in [2, 3] {
            let added = add(&mut asks, "joe").await.unwrap();
            assert!(matches!(added, Added::To(found) if found == value), "{clock}: {added:?}");
        }
        wire.release().await;
        let deleted = deleting.join_next().await.unwrap().unwrap();
        let status = deleted.map(|reply| reply.status);
        assert!(!matches!(status, Ok(200)), "{clock}: a fenced owner acknowledged a delete");
        assert_eq!(former.wait(LIMIT).await.code(), Some(75), "{clock}");

        drop(asks);
        assert!(next.terminate(LIMIT).await.success());
        // Nothing in memory: what the server has.
        let last = Proxy::start(&direct).await;
        let mut asks = Client::connect(last.address()).await.unwrap();
        assert_eq!(get(&mut asks, "joe").await, 3, "{clock}");
        for number in [2, 3] {
            assert_eq!(revision(&mut asks, number).await, 200, "{clock}: revision {number}");
        }
        drop(asks);
        assert!(last.terminate(LIMIT).await.success());
        scene.keyspace.give_back();
    }
}
