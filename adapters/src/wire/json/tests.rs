//! What is written is read again, and mistakes are told without what was given.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_stages::actor::{ActorId, Encoding, HostAddress, Kind};
use tidegate_stages::invocation::{ActorInvocation, Routing};
use tidegate_stages::state::{ActorState, Tags};

use super::*;

const HOST: &str = "127.0.0.1:8090";

fn types() -> Types {
    Types::default()
}

fn body(value: &Value) -> Bytes {
    value.to_string().into()
}

fn of_json(content: &str) -> Any {
    read_any(content, &types()).unwrap()
}

fn asked() -> ActorId {
    ActorId { name: "joe".into(), system: "s".into(), parent: "p".into() }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        proptest::bool::ANY.prop_map(Value::from),
        proptest::num::i64::ANY.prop_map(Value::from),
        proptest::num::f64::NORMAL.prop_map(Value::from),
        "[a-z\"\\\\é@\u{1}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z@]{0,5}|@type|value", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Any value, also those whose JSON is none, or looks like another one.
fn blob() -> impl Strategy<Value = Any> {
    let json = value().prop_map(|value| JsonType { content: value.to_string() }.encode_to_vec());
    let bytes = prop_oneof![json, vec(proptest::num::u8::ANY, 0..12)];
    let url = prop_oneof![
        Just(JSON_URL.to_owned()),
        Just("type.googleapis.com/google.protobuf.Int64Value".to_owned()),
        Just("type.googleapis.com/google.protobuf.Struct".to_owned()),
        Just("type.googleapis.com/google.protobuf.Any".to_owned()),
        "[a-z\"/]{1,6}",
    ];
    let all = (url, bytes).prop_map(|(type_url, value)| Any { type_url, value: value.into() });
    // As a payload or a state, `null` is none.
    all.prop_filter("null", |value| text(value, &types()) != "null")
}

proptest! {
    #[test]
    fn a_value_that_is_written_is_read_as_the_same(value in blob()) {
        let written = text(&value, &types());
        prop_assert!(is_json(&written), "{written}");
        let read = read_any(&written, &types()).unwrap();
        prop_assert_eq!(&read.type_url, &value.type_url);
        // A message that has a form of its own may be encoded in another order.
        prop_assert_eq!(text(&read, &types()), written);
        if !types().knows(&value.type_url) {
            prop_assert_eq!(read.value, value.value);
        }
    }

    #[test]
    fn json_without_a_type_keeps_its_text(value in value()) {
        let given = format!(" {value:#} ");
        if typed(&given).is_none() {
            let read = read_any(given.trim(), &types()).unwrap();
            prop_assert_eq!(read.type_url.as_str(), JSON_URL);
            prop_assert_eq!(text(&read, &types()), given.trim());
        }
    }

    #[test]
    fn a_host_that_answers_what_it_was_asked_changes_nothing(
        state in option::of(blob()), payload in blob(), tags in btree_map("[a-z]{0,3}", "[a-z\"é]{0,3}", 0..3),
    ) {
        let invocation = ActorInvocation {
            host: HostAddress::new(HOST), encoding: Encoding::Json, actor: asked().into(), action: "a\"b".into(),
            state: state.clone(), tags: tags.clone(), metadata: tags.clone(), caller: Some(asked()),
            self_has_parent: true, payload: Payload::Value(payload.clone()), traceparent: String::new(), answer: None,
        };
        let asked_for = action_request(&invocation, &types());
        let sent: HashMap<&str, &RawValue> = serde_json::from_slice(&asked_for).unwrap();
        prop_assert_eq!(sent["action"].get(), r#""a\"b""#);
        prop_assert_eq!(sent["self"].get(), r#"{"name":"joe","system":"s","parent":"p"}"#);
        prop_assert_eq!(sent["caller"].get(), sent["self"].get());
        let answer = format!(r#"{{"state":{},"payload":{},"tags":{}}}"#, sent["state"], sent["payload"], sent["tags"]);
        let answer = action_response(&answer.into(), &asked(), Tags::new(), &types()).unwrap();
        prop_assert_eq!(answer.tags, tags);
        let same = |value: &Any| text(value, &types());
        // No state is answered as `null`, which keeps it none.
        prop_assert_eq!(answer.state.as_ref().map(same), Some(state.map_or_else(|| same(&Any::default()), |state| same(&state))));
        let Payload::Value(answered) = answer.payload else { panic!("no payload") };
        prop_assert_eq!(same(&answered), same(&payload));
    }
}

#[test]
fn a_call_is_read_and_its_mistakes_are_told_with_their_place() {
    let given = json!({
        "action": "add", "payload": {"n": 1}, "async": true, "scheduled_to": 7, "register_ref": "t", "pooled": true,
        "metadata": {"k": "v"},
    });
    let call = invocation(&body(&given), ("s", "joe"), &types()).unwrap();
    assert_eq!((call.actor.system.as_str(), call.actor.name.as_str()), ("s", "joe"));
    assert_eq!(call.payload, Payload::Value(of_json(r#"{"n":1}"#)));
    assert!(call.asynchronous && call.pooled);
    assert_eq!(
        (call.scheduled_to, call.register_ref.as_str(), &*call.metadata["k"]),
        (7, "t", "v")
    );
    let least = json!({"action": "add", "payload": null, "async": null, "metadata": null});
    let least = invocation(&body(&least), ("s", "joe"), &types()).unwrap();
    assert_eq!((least.payload, least.asynchronous), (Payload::Unset, false));

    for (given, told) in [
        ("{\"action\":\n 7}", "expected a string at line 2 column 2"),
        ("{\"action\":\"a\",\"paylod\":1}", "unknown field `paylod`"),
        ("{}", "missing field `action`"),
        ("{\"action\":\"a\"", "EOF while parsing an object at line 1 column 13"),
        ("{\"action\":\"a\",\"async\":\"secret\"}", "expected a boolean at line 1 column"),
        ("{\"action\":\"a\",\"metadata\":{\"k\":1}}", "expected a string at line 1 column"),
        ("{\"action\":\"a\"} x", "trailing characters at line 1 column 16"),
        ("\u{1}", "expected value at line 1 column 1"),
    ] {
        let error = invocation(&Bytes::from(given), ("s", "a"), &types()).unwrap_err().to_string();
        assert!(error.contains(told), "{given}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let long = format!("{{\"{}\":1}}", "x\n".repeat(9_000));
    let error = invocation(&long.replace('\n', "\\n").into(), ("s", "a"), &types()).unwrap_err();
    let error = error.to_string();
    assert!(error.len() < 400 && error.contains(" at line 1") && !error.contains('\n'), "{error}");
    assert!(
        invocation(&Bytes::from_static(b"{\"action\":\"\xff\"}"), ("s", "a"), &types()).is_err()
    );
}

#[test]
fn what_is_nested_too_deep_is_refused_before_it_is_taken_apart() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let call = |payload: &str| {
        let body = format!(r#"{{"action":"a","payload":{payload}}}"#);
        invocation(&body.into(), ("s", "a"), &types())
    };
    call(&nested(DEPTH)).unwrap();
    let error = call(&nested(DEPTH + 1)).unwrap_err().to_string();
    assert!(error.contains("payload is nested deeper than 64"), "{error}");
    call(&nested(2_000_000)).unwrap_err();
    call(&nested(100).replace('[', r#"{"a":"#).replace(']', "}")).unwrap_err();
    call(&format!("\"{}\\\"[\"", "[".repeat(100))).unwrap();
    // JSON of an SDK that is nested deeper is shown as bytes.
    let deep = JsonType { content: nested(DEPTH + 1) }.encode_to_vec().into();
    let deep = Any { type_url: JSON_URL.into(), value: deep };
    assert_eq!(read_any(&text(&deep, &types()), &types()), Ok(deep));
}

#[test]
fn other_messages_are_in_base64_or_field_by_field() {
    let item = of_json(r#"{"@type":"t/shop.Item","value":"CgN0ZWE="}"#);
    assert_eq!((item.type_url.as_str(), &item.value[..]), ("t/shop.Item", &b"\x0a\x03tea"[..]));
    let count = r#"{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"7"}"#;
    assert_eq!(of_json(count).value, &b"\x08\x07"[..]);
    assert_eq!(text(&of_json(count), &types()), count);
    // A field that its type does not have is not lost.
    let more = Any { value: Bytes::from_static(b"\x08\x07\x10\x01"), ..of_json(count) };
    assert!(text(&more, &types()).ends_with(r#","@value":"CAcQAQ=="}"#));
    for (given, told) in [
        (r#"{"@type":7,"value":""}"#, "no text"),
        (r#"{"@type":"","value":""}"#, "empty @type"),
        (r#"{"@type":"t/x"}"#, "TIDEGATE_DESCRIPTORS"),
        (r#"{"@type":"t/x","value":"?"}"#, "no base64"),
        (r#"{"@type":"t/x","value":1}"#, "no text"),
        (r#"{"\u0040type":"t/x","value":"","more":1}"#, "nothing else"),
        (r#"{"@type":"t/google.protobuf.Int64Value","value":"x"}"#, "is no"),
    ] {
        let error = read_any(given, &types()).unwrap_err();
        assert!(error.contains(told), "{given}: {error}");
    }
}

#[test]
fn a_registration_is_kept_as_it_came() {
    let given = r#"{"system": "shop", "actors": [ {"name":"cart","kind":"unnamed", "actions":["add"],
        "timers":[{"action":"tick","every_ms":5}],"channels":[{"topic":"news"}],"state":{"n":0},"tags":{"a":"b"},
        "snapshot_ms":7,"deactivate_ms":8} , {"name":"pool","kind":"pooled","min_pool_size":2,"stateful":true}]}"#;
    let host = HostAddress::new(HOST);
    let read = registration(&given.into(), &host, 2).unwrap();
    let [cart, pool] = &read.definitions[..] else { panic!("{read:?}") };
    assert_eq!(
        (cart.id.name.as_str(), cart.kind, cart.encoding),
        ("cart", Kind::Unnamed, Encoding::Json)
    );
    assert_eq!(
        (cart.timers[0].period.as_millis(), &*cart.channels.as_ref().unwrap()[0].action),
        (5, "receive")
    );
    assert_eq!(cart.initial_state, Some(of_json(r#"{"n":0}"#)));
    assert!(cart.stateful && !pool.stateful);
    assert_eq!(pool.kind, Kind::Pooled { min: 2, max: 0 });
    // As a store reads it.
    let again = crate::wire::definition(cart.raw.clone(), host.clone().into(), "shop").unwrap();
    assert_eq!(&again, cart);
    assert!(cart.raw.starts_with(b"{\"name\":\"cart\"") && cart.raw.ends_with(b"8}"));

    for (actors, told) in [
        (r#"[{"name":"a"},{"name":"a"}]"#, r#"actors[1] names "a" again"#),
        (r#"[{"name":"a","timer":[]}]"#, "actors[0] is wrong: unknown field `timer`"),
        (r#"[{"name":"a","timers":[{"action":"x","every_ms":0}]}]"#, "every_ms of 0"),
        (
            r#"[{"name":"a","timers":[{"action":"x","every_ms":2147483648}]}]"#,
            "every_ms of 2147483648",
        ),
        (r#"[{"name":"a","kind":"pooled","min_pool_size":2147483648}]"#, "min_pool_size of 2147"),
        (r#"[{"name":"a","kind":"pooled","max_pool_size":5000000000}]"#, "max_pool_size of 5000"),
        (r#"[{"name":"a","channels":[{"topic":""}]}]"#, "channel without topic"),
        (r#"["a"]"#, "actors[0] is no object"),
        ("[{},{},{}]", "actors has 3 actors"),
        ("{}", "actors is wrong"),
    ] {
        let body = format!(r#"{{"system":"s","actors":{actors}}}"#);
        let error = registration(&body.into(), &host, 2).unwrap_err().to_string();
        assert!(error.contains(told), "{actors}: {error}");
    }
}

#[test]
fn a_registration_has_the_numbers_of_protobuf_and_a_store_may_hold_larger_ones() {
    let host = HostAddress::new(HOST);
    let of = |number: u64| {
        let timer = json!({ "action": "x", "every_ms": number });
        json!({ "name": "a", "kind": "pooled", "max_pool_size": number, "timers": [timer] })
    };
    let given = body(&json!({ "system": "s", "actors": [of(2_147_483_647)] }));
    registration(&given, &host, 1).unwrap();
    let stored = body(&of(2_147_483_648));
    let stored = crate::wire::definition(stored, host.into(), "s").unwrap();
    assert_eq!(stored.kind, Kind::Pooled { min: 0, max: 2_147_483_648 });
}

#[test]
fn an_answer_of_a_host_says_what_changes_and_what_leaves() {
    let read = |given: &str| {
        let tags = Tags::from([("k".into(), "v".into())]);
        action_response(&Bytes::from(given.to_owned()), &asked(), tags, &types())
    };
    let nothing = read("").unwrap();
    assert_eq!((nothing.state, nothing.payload, nothing.tags.len()), (None, Payload::Unset, 1));
    assert_eq!(read("{}").unwrap().state, None, "an absent state stays");
    assert_eq!(read(r#"{"state":null}"#).unwrap().state, Some(Any::default()), "null removes it");
    assert_eq!(read(r#"{"state":0}"#).unwrap().state, Some(of_json("0")));
    assert!(read(r#"{"tags":{}}"#).unwrap().tags.is_empty());
    let all = read(
        r#"{"payload":1,"effects":[{"actor":"moe","action":"x","payload":2,"scheduled_to":9},{"system":"t","actor":"a","action":"y"}],
            "pipe":{"actor":"b","action":"z"},"broadcast":{"channel":"news","payload":3},"checkpoint":true}"#,
    )
    .unwrap();
    let [moe, other] = &all.workflow.effects[..] else { panic!("{all:?}") };
    assert_eq!((moe.actor.system.as_str(), moe.scheduled_to), ("s", 9));
    assert_eq!(
        (&moe.payload, moe.caller.as_ref()),
        (&Payload::Value(of_json("2")), Some(&asked()))
    );
    assert_eq!(other.actor.system, "t");
    assert!(matches!(&all.workflow.routing, Some(Routing::Pipe { actor, .. }) if actor == "b"));
    assert_eq!(all.workflow.broadcast.unwrap().payload, Payload::Value(of_json("3")));
    assert!(all.checkpoint);
    for (given, told) in [
        (r#"{"sate":1}"#, "unknown field `sate`"),
        ("<html>", "expected value at line 1"),
        (
            r#"{"pipe":{"actor":"a","action":"b"},"forward":{"actor":"a","action":"b"}}"#,
            "beside forward",
        ),
        (r#"{"effects":[{"actor":"a"}]}"#, "missing field `action`"),
        (r#"{"state":{"@type":"t/x"}}"#, "state has the type"),
        (r#"{"state":1,"state":2}"#, "duplicate field"),
        (r#"{"self":{"name":"nobody"}}"#, "self is another one's"),
    ] {
        let error = read(given).unwrap_err().to_string();
        assert!(error.contains(told), "{given}: {error}");
    }
}

#[test]
fn answers_to_callers_have_the_documented_shape() {
    let payload = Payload::Value(of_json("[1.50]"));
    assert_eq!(invoked(&payload, &types()), "{\"payload\":[1.50]}\n");
    assert_eq!(invoked(&Payload::Noop, &types()), "{\"payload\":null}\n");
    let content = ActorState { tags: [("k".into(), "v".into())].into(), state: None };
    assert_eq!(super::state(&content, &types()), "{\"state\":null,\"tags\":{\"k\":\"v\"}}\n");
}

#[test]
fn an_array_is_no_object_at_any_depth() {
    let (host, types) = (HostAddress::new(HOST), types());
    let refused = |given: &str, read: Result<(), Malformed>| {
        let error = read.expect_err(given).to_string();
        assert!(error.contains("of the wrong kind, expected struct "), "{given}: {error}");
    };
    let given = |given: &str| Bytes::from(given.to_owned());
    for answer in [
        "[]",
        "[1,2]",
        r#"["p",{"lost":true},{"k":"v"}]"#,
        r#"{"self":["joe","s"]}"#,
        r#"{"pipe":["echo2","show"]}"#,
        r#"{"forward":["echo2","show"]}"#,
        r#"{"effects":[["moe","s","x"]]}"#,
        r#"{"broadcast":["news",1]}"#,
    ] {
        let read = action_response(&given(answer), &asked(), Tags::new(), &types);
        refused(answer, read.map(drop));
    }
    let call = r#"["echo",{"z":1}]"#;
    refused(call, invocation(&given(call), ("s", "a"), &types).map(drop));
    for spawned in [r#"{"actors":[["s1","tpl"]]}"#, r#"[[["s2","tpl"]]]"#] {
        refused(spawned, spawn(&given(spawned), "s", None, 2).map(drop));
    }
    refused("[1]", publication(&given("[1]"), "news", &types).map(drop));
    for registered in [
        r#"["s",[{"name":"a"}]]"#,
        r#"{"system":"s","actors":[{"name":"a","timers":[["tick",5]]}]}"#,
        r#"{"system":"s","actors":[{"name":"a","channels":[["news"]]}]}"#,
    ] {
        refused(registered, registration(&given(registered), &host, 2).map(drop));
    }
    for schedule in [r#"["a","j","inc"]"#, r#"{"every_ms":5,"payload":["t/x","AP8="]}"#] {
        refused(schedule, new_schedule(schedule).map(drop));
    }
}

fn new_schedule(given: &str) -> Result<crate::wire::NewSchedule, Malformed> {
    let (body, now) = (Bytes::from(given.to_owned()), tidegate_stages::state::Timestamp(0));
    crate::wire::new_schedule(&body, crate::wire::Form::Json, ("s", Some("n")), now)
}

#[test]
fn a_mistake_in_a_schedule_is_told_without_what_was_given() {
    for given in [r#"{"every_ms":"secret"}"#, r#"{"every_ms":5,"metadata":"secret"}"#] {
        let error = new_schedule(given).unwrap_err().to_string();
        assert!(error.contains("of the wrong kind") && !error.contains("secret"), "{error}");
    }
}
