//! A device that is full to its reserve: what frees space goes on, and a start serves what is there.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use support::client::{Client, Reply};
use support::counter::{Added, Counter, SYSTEM, add_within, definition, get_state, register};
use support::namespace::run_on_device;
use support::proto::Kind;
use support::proxy::{Proxy, embedded};
use support::scene::Scene;
use tidegate::store::FreeSpace;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const DATA: &str = "data";
/// An actor whose history takes nearly all of the device, and one with little.
const LARGE: &str = "large";
const SMALL: &str = "small";
/// How long one call may take, and how long it may take until calls are served again.
const CALL: Duration = Duration::from_secs(10);
const SERVED_AGAIN: Duration = Duration::from_mins(3);
const END: Duration = Duration::from_secs(30);
const STATE_BYTES: usize = 1_000_000;
/// Less free space than the reserve, which is an eighth of the device.
const LOW: u64 = 20 << 20;

const SETTINGS: [(&str, &str); 3] = [
    ("TIDEGATE_REVISIONS", "every"),
    ("TIDEGATE_DRAIN_DELAY", "0"),
    ("TIDEGATE_RETENTION_REVISIONS", "0"),
];

#[test]
fn a_delete_on_a_full_device_makes_space_for_calls() {
    run_on_device("320m", "inside_a_device_where_an_actor_is_deleted");
}

#[test]
fn pruning_on_a_full_device_makes_space_for_calls() {
    run_on_device("320m", "inside_a_device_where_histories_are_pruned");
}

#[test]
fn a_start_on_a_full_device_serves_reads_and_says_so() {
    run_on_device("320m", "inside_a_device_that_is_full_at_the_start");
}

fn scene() -> Scene {
    let counter = Counter { padding: STATE_BYTES, ..Counter::default() };
    Scene::with(counter, embedded(Path::new(DATA), "1"))
}

async fn connect(proxy: &Proxy) -> Client {
    Client::connect(proxy.address()).await.expect("the proxy is there")
}

/// Starts a proxy and fills its device by calls. Returns how many of them were kept, of the large and of the small actor.
async fn filled(scene: &Scene) -> (Proxy, u32, u32) {
    let proxy = scene.start(&SETTINGS).await;
    let mut client = connect(&proxy).await;
    register(&mut client, [LARGE, SMALL].map(|name| definition(name, Kind::Named)).into()).await;
    let small = added(&mut client, SMALL).await.expect("there is space");
    let mut large = 0;
    // Not every refusal is for good: the store may be behind with its tables.
    let mut refused = 0;
    while refused < 20 {
        match added(&mut client, LARGE).await {
            Ok(value) => (large, refused) = (value, 0),
            Err(503) => refused += 1,
            Err(status) => panic!("refused with {status}"),
        }
        if refused > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    }
    eprintln!("{large} states of {STATE_BYTES} bytes fill it; {:?}", space());
    (proxy, large, small)
}

async fn added(client: &mut Client, actor: &str) -> Result<u32, u16> {
    match add_within(client, actor, CALL).await.expect("an answer") {
        Added::To(value) => Ok(value),
        Added::Refused(status, text) => {
            assert!(status != 503 || text.contains("state store"), "{text}");
            Err(status)
        }
    }
}

fn space() -> FreeSpace {
    FreeSpace::of(Path::new(".")).expect("a device")
}

/// Takes space that became free, as when the store has merged tables, until this much is free.
fn leave(bytes: u64) {
    let mut ballast = fs::OpenOptions::new().create(true).append(true).open("ballast");
    let ballast = ballast.as_mut().expect("there is space for a name");
    let more = usize::try_from(space().free.saturating_sub(bytes)).expect("a small device");
    // What does not fit is not needed.
    drop(std::io::Write::write_all(ballast, &vec![1; more]));
}

/// Calls are refused until this ends.
async fn refused(client: &mut Client, actor: &str) {
    let deadline = Instant::now() + SERVED_AGAIN;
    loop {
        leave(LOW);
        match added(client, actor).await {
            Err(status) => {
                assert_eq!(status, 503);
                return;
            }
            Ok(_) => assert!(Instant::now() < deadline, "still served; {:?}", space()),
        }
    }
}

async fn served_again(client: &mut Client, actor: &str) -> u32 {
    let deadline = Instant::now() + SERVED_AGAIN;
    loop {
        match added(client, actor).await {
            Ok(value) => return value,
            Err(status) => {
                assert!(matches!(status, 503 | 504), "refused with {status}");
                assert!(Instant::now() < deadline, "still refused; {:?}", space());
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn delete(client: &mut Client, actor: &str) -> Reply {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}");
    let request = Request::delete(path).header("host", "localhost").body(Full::default());
    client.send(request.expect("a valid request")).await.expect("an answer")
}

/// Deletes an actor. Where tables that were being merged took the last byte, the delete is refused until they are gone.
async fn deleted(client: &mut Client, actor: &str) {
    let deadline = Instant::now() + SERVED_AGAIN;
    loop {
        let status = delete(client, actor).await.status;
        if status == 200 {
            return;
        }
        assert!(status == 503 && Instant::now() < deadline, "{status}; {:?}", space());
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_where_an_actor_is_deleted() {
    let scene = scene();
    let (proxy, _, small) = filled(&scene).await;
    let mut client = connect(&proxy).await;
    let before = space().free;
    deleted(&mut client, LARGE).await;
    let now = served_again(&mut client, SMALL).await;
    assert_eq!(now, small + 1, "nothing of the other actor is lost");
    eprintln!("{} MiB won back", space().free.saturating_sub(before) >> 20);
    proxy.kill().await;
    let proxy = scene.start(&SETTINGS).await;
    let mut client = connect(&proxy).await;
    assert_eq!(get_state(&mut client, SMALL).await, now);
    assert_eq!(get_state(&mut client, LARGE).await, 0, "the deleted actor stays deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_where_histories_are_pruned() {
    let scene = scene();
    let (proxy, large, _) = filled(&scene).await;
    assert_eq!(proxy.terminate(END).await.code(), Some(0));
    leave(LOW);
    let mut settings = SETTINGS;
    settings[2].1 = "10";
    let proxy = scene.start(&settings).await;
    let mut client = connect(&proxy).await;
    refused(&mut client, SMALL).await;
    let small = get_state(&mut client, SMALL).await;
    // The first round of pruning begins a minute after the start. Whatever else wins space, it finds the disk full.
    let deadline = Instant::now() + SERVED_AGAIN;
    while revision(&mut client, LARGE, 1).await.status != 404 {
        assert!(Instant::now() < deadline, "not pruned; {:?}", space());
        leave(LOW);
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(served_again(&mut client, SMALL).await, small + 1);
    assert_eq!(get_state(&mut client, LARGE).await, large);
    let kept = revision(&mut client, LARGE, large - 5).await.status;
    assert_eq!(kept, 200);
}

async fn revision(client: &mut Client, actor: &str, number: u32) -> Reply {
    let path = format!("/api/v1/system/{SYSTEM}/actors/{actor}/revisions/{number}");
    client.get(&path).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by a test above"]
async fn inside_a_device_that_is_full_at_the_start() {
    // What is won by removing it at the end.
    leave(space().free - (40 << 20));
    let scene = scene();
    let (proxy, large, small) = filled(&scene).await;
    proxy.kill().await;
    for free in [LOW, 0] {
        leave(free);
        reads_are_served(&scene, large, small, free).await;
    }
    fs::remove_file("ballast").expect("it is there");
    let proxy = scene.start(&SETTINGS).await;
    let mut client = connect(&proxy).await;
    assert_eq!(delete(&mut client, LARGE).await.status, 200);
    assert_eq!(served_again(&mut client, SMALL).await, small + 1);
}

/// A start with this much space left serves reads only.
async fn reads_are_served(scene: &Scene, large: u32, small: u32, free: u64) {
    let proxy = scene.start(&SETTINGS).await;
    // Whatever the store wins back, for example of heads that were overwritten.
    let mut low = JoinSet::new();
    low.spawn(async move {
        loop {
            leave(free);
            sleep(Duration::from_millis(2)).await;
        }
    });
    leave(free);
    eprintln!("started on {:?}", space());
    let mut client = connect(&proxy).await;
    assert_eq!(get_state(&mut client, LARGE).await, large);
    assert_eq!(revision(&mut client, LARGE, large - 1).await.status, 200);
    assert_eq!(added(&mut client, LARGE).await, Err(503));
    let loaded = get_state(&mut client, SMALL).await;
    assert_eq!(loaded, small, "also of an actor that is loaded after a write was refused");
    assert_eq!(added(&mut client, SMALL).await, Err(503));
    assert_eq!(revision(&mut client, SMALL, 1).await.status, 200);

    let ready = client.get("/health/readiness?verbose").await.expect("an answer");
    let text = String::from_utf8_lossy(&ready.body).into_owned();
    assert_eq!(ready.status, 200, "{text}");
    assert!(text.contains(r#""disk":"full""#), "{text}");
    let deadline = Instant::now() + END;
    loop {
        let metrics = client.get("/metrics").await.expect("an answer").body;
        if String::from_utf8_lossy(&metrics).contains("tidegate_store_disk_full 1") {
            break;
        }
        assert!(Instant::now() < deadline, "no metric tells it");
        sleep(Duration::from_millis(100)).await;
    }
    let said = proxy.said(END).await;
    let word = said.iter().find(|line| line.contains("WARN") && line.contains("disk is full"));
    let word = word.unwrap_or_else(|| panic!("no word of the full disk in {said:#?}"));
    assert!(word.contains("KiB free"), "{word}");
}
