use bytes::Bytes;
use proptest::prelude::*;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};

use super::*;
use crate::proto::google::protobuf as well_known;

const ANY: &str = "google.protobuf.Any";

fn blob(type_url: &str, value: impl Into<Bytes>) -> Blob {
    Blob { type_url: format!("type.googleapis.com/{type_url}"), value: value.into() }
}

fn known() -> Decoder {
    Decoder::new(None).unwrap()
}

/// Returns the text of a decoded state.
fn decoded(decoder: &Decoder, state: &Blob) -> String {
    let shown = decoder.show(state);
    assert_eq!(shown.why_hex, None);
    shown.lines.join("\n")
}

fn why_hex(decoder: &Decoder, state: &Blob) -> String {
    decoder.show(state).why_hex.expect("it is shown as hex")
}

fn json(content: &str) -> Blob {
    let message = JsonType { content: content.into() };
    blob(JSON_TYPES[0], message.encode_to_vec())
}

#[test]
fn json_kept_as_text_is_laid_out_with_every_digit_and_in_its_order() {
    let text = "\n\t".to_owned()
        + r#" {"b":[1,2.50,{}],"a" :{"n":12345678901234567890123,"t":"a\"}{,:\\"},"e":[ ] } "#;
    let laid_out = r#"{
  "b": [
    1,
    2.50,
    {}
  ],
  "a": {
    "n": 12345678901234567890123,
    "t": "a\"}{,:\\"
  },
  "e": []
}"#;
    assert_eq!(decoded(&known(), &json(&text)), laid_out);
    let spawn = Blob { type_url: "type.googleapis.com/spawn.JSONType".into(), ..json("7") };
    assert_eq!(decoded(&known(), &spawn), "7");
}

#[test]
fn what_is_no_json_is_shown_as_hex() {
    assert_eq!(why_hex(&known(), &json("{")), "its content is no JSON that can be laid out");
    assert_eq!(why_hex(&known(), &json("")), "its content is no JSON that can be laid out");
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(why_hex(&known(), &json(&deep)), "its content is no JSON that can be laid out");
    let more = blob(JSON_TYPES[0], &b"\x0a\x017\x10\x01"[..]);
    assert!(why_hex(&known(), &more).contains("more than the content"));
}

#[test]
fn the_well_known_types_are_shown_as_their_json() {
    let time = well_known::Timestamp { seconds: 1_769_860_800, nanos: 500_000_000 };
    let state = blob("google.protobuf.Timestamp", time.encode_to_vec());
    assert_eq!(decoded(&known(), &state), r#""2026-01-31T12:00:00.500Z""#);
    assert_eq!(decoded(&known(), &blob("google.protobuf.Empty", "")), "{}");
    let text = blob("google.protobuf.StringValue", &b"\x0a\x05hello"[..]);
    assert_eq!(decoded(&known(), &text), r#""hello""#);
    let inner = well_known::Any { type_url: text.type_url, value: text.value };
    let any = blob(ANY, inner.encode_to_vec());
    assert!(decoded(&known(), &any).contains(r#""value": "hello""#));
}

#[test]
fn what_is_not_known_is_shown_as_hex_with_the_reason() {
    let shown = known().show(&blob("my.Type", vec![0xab; 40]));
    assert_eq!(shown.why_hex.unwrap(), "its type is not known, --descriptor tells it");
    assert_eq!(shown.lines, ["ab".repeat(32), "ab".repeat(8)]);
    let unknown = blob("google.protobuf.Empty", &b"\x08\x01"[..]);
    assert!(why_hex(&known(), &unknown).contains("fields that google.protobuf.Empty"));
    let broken = blob("google.protobuf.StringValue", &b"\x0a\x05he"[..]);
    assert_eq!(known().show(&broken).lines, ["0a056865"]);
}

#[test]
fn messages_nested_without_end_are_not_followed() {
    let mut any = well_known::Any::default();
    for _ in 0..50_000 {
        let value = any.encode_to_vec().into();
        any = well_known::Any { type_url: format!("/{ANY}"), value };
        if any.value.len() > 100_000 {
            break;
        }
    }
    let state = blob(ANY, any.encode_to_vec());
    assert_eq!(why_hex(&known(), &state), "its messages are nested too deep");
}

fn field(name: &str, number: i32, kind: Type, type_name: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(Into::into),
        ..FieldDescriptorProto::default()
    }
}

fn user_types() -> Vec<u8> {
    let message = DescriptorProto {
        name: Some("Counter".into()),
        field: vec![
            field("count", 1, Type::Int64, None),
            field("since", 2, Type::Message, Some(".google.protobuf.Timestamp")),
        ],
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("mine.proto".into()),
        package: Some("mine".into()),
        dependency: vec!["google/protobuf/timestamp.proto".into()],
        message_type: vec![message],
        syntax: Some("proto3".into()),
        ..FileDescriptorProto::default()
    };
    let imported = DescriptorPool::global().get_file_by_name("google/protobuf/timestamp.proto");
    let imported = imported.unwrap().file_descriptor_proto().clone();
    FileDescriptorSet { file: vec![imported, file] }.encode_to_vec()
}

#[test]
fn a_descriptor_tells_the_user_s_own_types() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set.bin");
    std::fs::write(&path, user_types()).unwrap();
    let decoder = Decoder::new(Some(&path)).unwrap();
    let state = blob("mine.Counter", &b"\x08\x07\x12\x02\x08\x01"[..]);
    let expected = "{\n  \"count\": \"7\",\n  \"since\": \"1970-01-01T00:00:01Z\"\n}";
    assert_eq!(decoded(&decoder, &state), expected);
    assert!(why_hex(&decoder, &blob("mine.Counter", &b"\x18\x01"[..])).contains("mine.Counter"));
    std::fs::write(&path, b"\xff\xff").unwrap();
    let error = format!("{:#}", Decoder::new(Some(&path)).unwrap_err());
    assert!(error.contains("is no usable FileDescriptorSet"), "{error}");
    let syntax = Some("editions".into());
    let file = FileDescriptorProto { syntax, ..FileDescriptorProto::default() };
    std::fs::write(&path, FileDescriptorSet { file: vec![file] }.encode_to_vec()).unwrap();
    let error = format!("{:#}", Decoder::new(Some(&path)).unwrap_err());
    assert!(error.contains(r#"has syntax "editions""#), "{error}");
    assert!(Decoder::new(Some(Path::new("/nowhere/at/all"))).is_err());
}

#[test]
fn no_control_character_reaches_the_terminal() {
    let shown = decoded(&known(), &json("\"a\u{9b}31m\u{7f}\""));
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    assert_eq!(plain("a\u{1b}[2J\nb"), "a\\u001b[2J\nb");
    assert_eq!(one_line("a\nb"), "a\\nb");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_any_known_type_panic(
        place in 0..1_000_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let decoder = known();
        let names: Vec<_> = DescriptorPool::global().all_messages().map(|known| known.full_name().to_owned()).collect();
        let name = &names[place % names.len()];
        decoder.show(&blob(name, bytes.clone()));
        decoder.show(&blob(JSON_TYPES[place % 2], bytes));
    }

    #[test]
    fn valid_wire_formats_of_the_well_known_types_never_panic(
        place in 0..1_000_usize,
        numbers in proptest::collection::vec((1..4_u32, any::<i64>()), 0..6),
        texts in proptest::collection::vec((1..8_u32, ".{0,8}"), 0..6),
    ) {
        let decoder = known();
        let names: Vec<_> = DescriptorPool::global().all_messages().map(|known| known.full_name().to_owned()).collect();
        let mut bytes = Vec::new();
        for (tag, number) in numbers {
            prost::encoding::int64::encode(tag, &number, &mut bytes);
        }
        for (tag, text) in texts {
            prost::encoding::string::encode(tag, &text, &mut bytes);
        }
        decoder.show(&blob(&names[place % names.len()], bytes));
    }

    #[test]
    fn laying_out_keeps_what_is_said(text in ".{0,20}", number in any::<f64>(), flag in any::<bool>()) {
        let value = serde_json::json!({ &text: [number, flag, null, { "x": &text }], "": &text });
        let text = value.to_string();
        let laid_out = lay_out(&text).unwrap();
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        prop_assert_eq!(read(&laid_out), read(&text));
    }

    #[test]
    fn no_descriptor_set_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), byte: u8) {
        drop(Types::of(&bytes));
        let mut changed = user_types();
        let place = at % changed.len();
        changed[place] = byte;
        drop(Types::of(&changed));
    }
}
