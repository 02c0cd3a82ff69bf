//! Clock: set back while the mesh runs and between two runs; an actor's history keeps its order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_stages::actor::{ActorId, Definition, Encoding, HostAddress, Kind};
use tidegate_stages::history::Interval;
use tidegate_stages::invocation::{
    ActorInvocation, ActorInvocationResponse, Invocation, Payload, Registration,
};
use tidegate_stages::mesh::Mesh;
use tidegate_stages::ports::HostError;
use tidegate_stages::rules::Revisions;
use tidegate_stages::state::{Any, Revision, Tags, Timestamp};
use tidegate_stages::testkit::clock::SetClock;
use tidegate_stages::testkit::conformance::Subject;
use tidegate_stages::topology::{self, Ports, Settings};

const HOST: &str = "127.0.0.1:8090";
const NOON: u64 = 1_800_000_000_000_000;
const DAY: u64 = 24 * HOUR;
const HOUR: u64 = 3_600_000_000;
/// Calls between two settings of the clock.
const CALLS: u64 = 4;

/// Lives of a mesh, each with what its clock is set to.
const LIVES: [&[u64]; 4] = [
    &[NOON, NOON - HOUR, NOON + HOUR, NOON - DAY],
    &[NOON - 2 * DAY, NOON],
    &[NOON + DAY, NOON - 3 * DAY],
    &[NOON - 4 * DAY],
];

/// The clock is the mesh's, and the store's if it has one.
///
/// # Panics
/// When numbers or times of a history are out of order, or a time does not find its revision.
pub(crate) async fn histories_keep_their_order_when_the_clock_is_set_back<S: Subject>(
    mut subject: S,
    clock: Arc<SetClock>,
) {
    let actor = id();
    let mut called = 0;
    for times in LIVES {
        clock.set(Timestamp(times[0]));
        subject = subject.reopen().await;
        let mesh = open(&subject, clock.clone()).await;
        for time in times {
            clock.set(Timestamp(*time));
            for _ in 0..CALLS {
                called += 1;
                let add = Invocation {
                    actor: actor.clone(),
                    action: "add".into(),
                    ..Invocation::default()
                };
                let Payload::Value(value) = mesh.invoke(add).await.expect("a call is answered")
                else {
                    panic!("no value")
                };
                assert_eq!(number(Some(&value)), called, "a state went back");
                clock.advance(Duration::from_millis(1));
            }
        }
        assert!(mesh.drain(Duration::from_secs(10)).await);
        drop(mesh);
    }

    let states = subject.states();
    let all = states.load_by_interval(&actor, Interval::ALL, 1_000).await;
    let all = all.expect("a history is read").items;
    let order = |it: &Revision| (it.revision, it.at, number(it.content.state.as_ref()));
    let order: Vec<_> = all.iter().map(order).collect();
    for pair in order.windows(2) {
        let [(revision, at, count), (next_revision, next_at, next_count)] = pair else { continue };
        let ascends = revision < next_revision && at < next_at && count <= next_count;
        assert!(ascends, "{order:?}");
    }
    let is_there = |count| order.iter().any(|(_, _, found)| *found == count);
    assert!((1..=called).all(is_there), "{order:?}");
    for revision in &all {
        let found = states.load_at(&actor, revision.at).await.expect("a revision is read");
        assert_eq!(found.as_ref(), Some(revision));
        let alone = Interval::between(revision.at, revision.at);
        let alone = states.load_by_interval(&actor, alone, 9).await.expect("a history is read");
        assert_eq!(alone.items, std::slice::from_ref(revision));
    }
    let head = states.load(&actor).await.expect("a head is read").expect("there is one");
    assert_eq!(number(head.content.state.as_ref()), called);
    assert!(head.at >= all.last().expect("revisions").at);
}

async fn open(subject: &impl Subject, clock: Arc<SetClock>) -> Mesh {
    let mut settings = Settings::default();
    settings.rules.revisions = Revisions::Every;
    let ports = Ports {
        host: tower::service_fn(|invocation: ActorInvocation| async move {
            Ok::<_, HostError>(counted(&invocation))
        }),
        probe: Arc::new(()),
        store: subject.states(),
        registry: subject.registry(),
        clock,
    };
    let mesh = topology::open(settings, ports).await.expect("a mesh opens");
    let host = HostAddress::new(HOST);
    let registration = Registration { system: id().system, host, definitions: vec![definition()] };
    mesh.register(registration).await.expect("a host registers");
    mesh
}

fn id() -> ActorId {
    ActorId { name: "a".into(), system: "clocks".into(), parent: String::new() }
}

fn definition() -> Definition {
    Definition {
        id: id(),
        hosts: HostAddress::new(HOST).into(),
        kind: Kind::Named,
        stateful: true,
        snapshot_every: None,
        deactivate_after: None,
        actions: vec!["add".into()],
        timers: Vec::new(),
        channels: None,
        initial_state: None,
        initial_tags: Tags::new(),
        retired: false,
        encoding: Encoding::Protobuf,
        raw: Bytes::from_static(b"a"),
    }
}

fn counted(invocation: &ActorInvocation) -> ActorInvocationResponse {
    let count = number(invocation.state.as_ref()) + 1;
    let state = Any { type_url: "test/count".into(), value: Bytes::from(count.to_string()) };
    ActorInvocationResponse {
        state: Some(state.clone()),
        payload: Payload::Value(state),
        ..ActorInvocationResponse::default()
    }
}

fn number(state: Option<&Any>) -> u64 {
    let text = |any: &Any| String::from_utf8(any.value.to_vec()).expect("text");
    state.map_or(0, |any| text(any).parse().expect("a count"))
}
