//! Malformed input: the ingress responds or closes the connection, whatever arrives, and stays up.
//!
//! `SEED=n` repeats a run.

#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    clippy::print_stdout,
    reason = "it is test code"
)]

mod raw;

use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use prost::Message;
use raw::{Proxy, half_close, is_closed_in_time, read_response};
use tidegate::proto::eigr::functions::protocol as proto;

const THREADS: u64 = 8;
const WELL_FORMED: u64 = 500;
const BROKEN: u64 = 60;

/// Small, seeded, good enough to make nonsense (xorshift64*).
struct Random(u64);

impl Random {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.roll().to_le_bytes()[3]).collect()
    }
}

#[allow(clippy::disallowed_methods, reason = "a test may be told its seed")]
fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish()) | 1
}

fn id(name: &str) -> proto::actors::ActorId {
    proto::actors::ActorId { name: name.into(), system: "s".into(), parent: "template".into() }
}

/// A valid body of each kind, to be spoiled.
fn bodies() -> Vec<Vec<u8>> {
    let any = tidegate::proto::google::protobuf::Any {
        type_url: "type.googleapis.com/x".into(),
        value: b"payload"[..].into(),
    };
    let actor = proto::actors::Actor {
        id: Some(id("a")),
        state: Some(proto::actors::ActorState {
            tags: [("k".into(), "v".into())].into(),
            state: Some(any.clone()),
        }),
        settings: Some(proto::actors::ActorSettings {
            kind: 1,
            stateful: true,
            deactivation_strategy: Some(proto::actors::ActorDeactivationStrategy::default()),
            ..Default::default()
        }),
        actions: vec![proto::actors::Action { name: "sum".into() }],
        ..Default::default()
    };
    let template = proto::actors::Actor { id: Some(id("template")), ..actor.clone() };
    let actors = [("a".to_owned(), actor.clone()), ("template".to_owned(), template)];
    let registry = proto::actors::Registry { actors: actors.into() };
    let registration = proto::RegistrationRequest {
        service_info: Some(proto::ServiceInfo::default()),
        actor_system: Some(proto::actors::ActorSystem {
            name: "s".into(),
            registry: Some(registry),
        }),
    };
    let spawn = proto::SpawnRequest { actors: vec![id("b"), id("c")] };
    let invocation = proto::InvocationRequest {
        system: Some(proto::actors::ActorSystem { name: "s".into(), registry: None }),
        actor: Some(actor),
        action_name: "sum".into(),
        metadata: [("request-timeout".into(), "100".into())].into(),
        payload: Some(proto::invocation_request::Payload::Value(any)),
        caller: Some(id("z")),
        register_ref: "template".into(),
        ..Default::default()
    };
    vec![
        registration.encode_to_vec(),
        spawn.encode_to_vec(),
        invocation.encode_to_vec(),
        Vec::new(),
    ]
}

/// Flips, cuts, repeats, inserts or replaces.
fn spoil(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => {
                let noise = random.bytes(24);
                bytes.splice(at..at, noise);
            }
            3 => bytes.extend_from_within(at..),
            4 => *bytes = random.bytes(400),
            // A length that promises far more than there is.
            5 => drop(bytes.splice(at..at, [0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])),
            // Nested deeper than any message is.
            6 => drop(bytes.splice(at..at, [0x0a, 0x80, 0x01].repeat(200))),
            _ => {}
        }
    }
}

fn path(random: &mut Random) -> String {
    let name = match random.below(6) {
        0 => "%2e%2e%2F".to_owned(),
        1 => "%ff%fe".to_owned(),
        2 => "a%00b".to_owned(),
        3 => "x".repeat(random.below(2_000)),
        4 => "%".to_owned(),
        _ => "a".to_owned(),
    };
    match random.below(12) {
        0 => "/api/v1/system".to_owned(),
        1 | 2 => format!("/api/v1/system/{name}/actors/spawn"),
        3 => format!("/api/v1/system/s/actors/spawn?revision={name}"),
        4..=6 => format!("/api/v1/system/s/actors/{name}/invoke"),
        7 => format!("/api/v1/system/s/actors/{name}"),
        8 => "/health/readiness".to_owned(),
        9 => "/metrics".to_owned(),
        10 => format!("/{name}"),
        _ => format!("//api//v1/system/{name}/"),
    }
}

/// Well-formed HTTP around a spoiled request.
fn well_formed(random: &mut Random, bodies: &[Vec<u8>]) -> Vec<u8> {
    let method = if random.one_in(3) {
        random.pick(&["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
    } else {
        "POST"
    };
    let path = path(random);
    let mut body = bodies[random.below(bodies.len())].clone();
    if !random.one_in(8) {
        spoil(random, &mut body);
    }
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    match random.below(8) {
        0 => head += "content-type: application/json\r\n",
        1 => head += "content-type: ;;;\r\n",
        2 => head += "content-type: \r\n",
        3 => {}
        _ => head += "content-type: application/octet-stream\r\n",
    }
    if random.one_in(6) {
        head += random.pick(&[
            "tidegate-host: nonsense\r\n",
            "tidegate-host: http://127.0.0.1:1\r\n",
            "traceparent: 00-zz\r\n",
        ]);
    }
    let mut request = head.into_bytes();
    if random.one_in(4) {
        request.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(1 + random.below(50)) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
    } else {
        request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(&body);
    }
    request
}

/// Broken HTTP: a request that never ends, or that is none.
fn broken(random: &mut Random, bodies: &[Vec<u8>]) -> Vec<u8> {
    let post = "POST /api/v1/system HTTP/1.1\r\nhost: localhost\r\n";
    match random.below(9) {
        0 => random.bytes(2_000),
        1 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff\xff".to_vec(),
        2 => format!("{post}content-length: -1\r\n\r\nx").into_bytes(),
        3 => format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nhello").into_bytes(),
        4 => format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        5 => format!("{post}transfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx").into_bytes(),
        6 => format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(random.below(30_000))).into_bytes(),
        7 => {
            format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(100_000)).into_bytes()
        }
        _ => {
            let mut request = well_formed(random, bodies);
            let end = random.below(request.len());
            request.truncate(end);
            if random.one_in(2) {
                spoil(random, &mut request);
            }
            request
        }
    }
}

fn proxy() -> Proxy {
    Proxy::start(&[
        ("TIDEGATE_HTTP_HEAD_TIMEOUT", "250ms"),
        ("TIDEGATE_HTTP_BODY_TIMEOUT", "250ms"),
        ("TIDEGATE_HTTP_IDLE_TIMEOUT", "400ms"),
        // Registrations that are still valid name a host that is not there.
        ("USER_FUNCTION_PORT", "1"),
        ("TIDEGATE_START_TIMEOUT", "50ms"),
        ("SPAWN_PROXY_LOGGER_LEVEL", "error"),
        ("TIDEGATE_DRAIN_DELAY", "0"),
        ("TIDEGATE_DRAIN_TIMEOUT", "5s"),
    ])
}

/// Runs `work` on several threads, each with random of its own, and ends the proxy in order after it.
fn on_threads(work: impl Fn(&Proxy, &mut Random) + Sync) {
    let seed = seed();
    println!("SEED={seed}");
    let mut proxy = proxy();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (proxy, work) = (&proxy, &work);
            scope.spawn(move || work(proxy, &mut Random(seed.wrapping_add(thread * 2))));
        }
    });
    assert!(proxy.is_running());
    assert_eq!(proxy.get("/health").status, 200, "it serves as before");
    proxy.signal(rustix::process::Signal::TERM);
    assert!(proxy.wait().success());
}

#[test]
fn well_formed_http_is_answered_with_a_body_and_never_with_a_500() {
    let bodies = bodies();
    let statuses: [AtomicUsize; 600] = std::array::from_fn(|_| AtomicUsize::new(0));
    on_threads(|proxy, random| {
        let mut stream = proxy.connect();
        for _ in 0..WELL_FORMED {
            let request = well_formed(random, &bodies);
            let of_head = request.starts_with(b"HEAD");
            let shown = || String::from_utf8_lossy(&request).into_owned();
            stream.write_all(&request).unwrap();
            let response = read_response(&mut stream, of_head)
                .unwrap_or_else(|error| panic!("{error} after {:?}", shown()));
            assert_ne!(response.status, 500, "{:?} after {:?}", response.text(), shown());
            assert!(
                of_head || !response.body.is_empty(),
                "an empty {} after {:?}",
                response.status,
                shown()
            );
            statuses[usize::from(response.status)].fetch_add(1, Ordering::Relaxed);
            if response.head.contains("connection: close") || random.one_in(20) {
                stream = proxy.connect();
            }
        }
    });
    for (status, count) in statuses.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            println!("{status}: {count}");
        }
    }
}

#[test]
fn broken_http_is_closed_within_the_timeout() {
    let bodies = bodies();
    on_threads(|proxy, random| {
        for _ in 0..BROKEN {
            let request = broken(random, &bodies);
            let mut stream = proxy.connect();
            // It may be closed while it is still being written to.
            let _ = stream.write_all(&request);
            if random.one_in(2) {
                half_close(&stream);
            }
            let shown = || String::from_utf8_lossy(&request[..request.len().min(300)]).into_owned();
            assert!(is_closed_in_time(&mut stream), "left open after {:?}", shown());
        }
    });
}
