//! Fuzz: messages of clients, hosts, and other members of a system.

use bytes::Bytes;
use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::invocation::Payload;
use tidegate_stages::ports::MemberBroadcast;
use tidegate_stages::state::Any;

use crate::fuzz::{golden, run};
use crate::wire::{self, Numbered};

const LIMIT: usize = 50;

/// The bodies that the SDKs and Spawn sent, each once by its size.
fn recorded() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for sdk in ["go", "node", "python", "rust"] {
        let text = String::from_utf8(golden(&format!("sdk/{sdk}.jsonl"))).unwrap();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let hex = line["body_hex"].as_str().unwrap_or_default();
            // Large bodies were recorded to some length only.
            let hex = hex.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            bodies.push((0..hex.len() / 2 * 2).step_by(2).map(byte).collect::<Vec<_>>());
        }
    }
    bodies.sort_unstable_by_key(|body| (body.len(), body.clone()));
    bodies.dedup_by_key(|body| body.len());
    assert!(bodies.len() > 20);
    bodies
}

#[test]
fn requests_of_clients() {
    let host = HostAddress::new("127.0.0.1:8090");
    run("wire-requests", recorded(), |bytes| {
        let body = || Bytes::copy_from_slice(bytes);
        if let Ok(registration) = wire::registration(body(), &host, LIMIT) {
            assert!(registration.definitions.len() <= LIMIT);
            for definition in registration.definitions {
                // As it is kept in the store, and read at the next start.
                let again = wire::definition(
                    definition.raw.clone(),
                    host.clone().into(),
                    &registration.system,
                );
                assert_eq!(again.unwrap().id, definition.id);
            }
        }
        if let Ok(published) = wire::publication(body(), "news") {
            assert_eq!(published.channel, "news");
        }
        if let Ok(spawn) = wire::spawn(body(), None, LIMIT) {
            assert!(spawn.actors.len() <= LIMIT);
        }
        drop(wire::invocation(body()));
    });
}

#[test]
fn messages_of_hosts() {
    let asked =
        ActorId { name: "joe".into(), system: "spawn-system".into(), parent: String::new() };
    let host = HostAddress::new("127.0.0.1:8090");
    run("wire-hosts", recorded(), |bytes| {
        drop(wire::action_response(Bytes::copy_from_slice(bytes), &asked));
        drop(wire::read_action_request(Bytes::copy_from_slice(bytes), host.clone()));
    });
}

#[test]
fn broadcasts_of_members() {
    let caller = ActorId { name: "joe".into(), system: "s".into(), parent: "p".into() };
    let value = Any { type_url: "t".into(), value: Bytes::from_static(b"12345") };
    let sent = MemberBroadcast {
        system: "s".into(),
        topic: "news".into(),
        payload: Payload::Value(value),
        caller: Some(caller),
        traceparent: String::new(),
    };
    let numbered = Numbered { publisher: 1 << 100, stream: 3, sequence: 1 << 40, age_ms: 9 };
    let seed = wire::encode_member_broadcast(sent, numbered);
    run("wire-members", vec![seed.to_vec()], |bytes| {
        if let Ok((sent, numbered)) = wire::member_broadcast(Bytes::copy_from_slice(bytes)) {
            let again = wire::encode_member_broadcast(sent.clone(), numbered);
            assert_eq!(wire::member_broadcast(again), Ok((sent, numbered)));
        }
    });
}
