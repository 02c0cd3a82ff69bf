//! Fuzz: JSON of clients and hosts.

use tidegate_stages::actor::{ActorId, HostAddress};
use tidegate_stages::invocation::Payload;
use tidegate_stages::state::Tags;

use super::*;
use crate::fuzz::run;

const LIMIT: usize = 5;

fn seeds() -> Vec<Vec<u8>> {
    let values = [
        "null",
        r#"{"a":[1.5e3,-0,"\u00e9\"{",true]}"#,
        r#"{"@type":"t/shop.Item","value":"CgN0ZWE="}"#,
        r#"{"@type":"t/google.protobuf.Duration","value":"1.5s"}"#,
        r#"{"@type":"t/google.protobuf.Timestamp","value":"2026-11-27T10:00:00Z"}"#,
        r#"{"@type":"t/google.protobuf.Struct","value":{"a":[null,{"b":1}]}}"#,
        r#"{"@type":"t/google.protobuf.FieldMask","value":"a.b,c"}"#,
        r#"{"@type":"t/google.protobuf.Any","value":{"@type":"t/google.protobuf.Int64Value","value":"7"}}"#,
        r#"{"@type":"t/google.protobuf.BytesValue","value":"AP8="}"#,
        r#"{"@type":"t/google.protobuf.FieldDescriptorProto","label":"LABEL_OPTIONAL","number":1}"#,
    ];
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for value in values {
        seeds.push(
            format!(r#"{{"action":"a","payload":{value},"async":false,"metadata":{{"k":"v"}}}}"#)
                .into(),
        );
        seeds.push(format!(r#"{{"payload":{value},"state":{value},"tags":{{"a":"b"}},"effects":[{{"actor":"a","action":"b"}}],"checkpoint":true}}"#).into());
        seeds.push(format!(r#"{{"system":"s","actors":[{{"name":"a","state":{value},"timers":[{{"action":"t","every_ms":5}}]}}]}}"#).into());
    }
    seeds.push(r#"{"actors":[{"name":"a","parent":"b"}]}"#.into());
    seeds
}

/// What was read can be written, and is read as the same again.
fn check(value: &Any, types: &Types) {
    let written = text(value, types);
    assert!(is_json(&written), "{written}");
    let read = super::read_any(&written, types).expect("it was written here");
    assert_eq!(text(&read, types), written);
}

#[test]
fn json_of_clients_and_hosts() {
    let (host, types) = (HostAddress::new("127.0.0.1:8090"), Types::default());
    let asked = ActorId { name: "joe".into(), system: "s".into(), parent: String::new() };
    run("wire-json", seeds(), |bytes| {
        let body = Bytes::copy_from_slice(bytes);
        if let Ok(call) = invocation(&body, ("s", "a"), &types)
            && let Payload::Value(value) = call.payload
        {
            check(&value, &types);
        }
        if let Ok(answer) = action_response(&body, &asked, Tags::new(), &types) {
            let state = answer.state.iter().filter(|state| !state.is_empty());
            state.for_each(|state| check(state, &types));
        }
        if let Ok(registration) = registration(&body, &host, LIMIT) {
            assert!(registration.definitions.len() <= LIMIT);
            for definition in registration.definitions {
                let again = super::definition(definition.raw.clone(), host.clone().into(), "s");
                assert_eq!(again.unwrap().initial_state, definition.initial_state);
            }
        }
        if let Ok(spawn) = spawn(&body, "s", None, LIMIT) {
            assert!(spawn.actors.len() <= LIMIT);
        }
        drop(publication(&body, "news", &types));
        let blob = Any { type_url: JSON_URL.into(), value: body };
        check(&blob, &types);
    });
}
