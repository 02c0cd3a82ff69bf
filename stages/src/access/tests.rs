use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::identity::PeerAddress;

fn policies(files: &[&str]) -> Policies {
    let parse = |(number, text)| Policy::parse(&format!("p/{number}.policy"), text).unwrap();
    Policies::new((1..).zip(files.iter().copied()).map(parse).collect())
}

fn token(subject: &str) -> Identity {
    Identity { token_subject: Some(subject.into()), ..peer("10.0.0.7") }
}

fn peer(address: &str) -> Identity {
    Identity::of(PeerAddress::Ip(address.parse().unwrap()))
}

fn tls(name: &str) -> Identity {
    Identity { tls_client: Some(name.into()), ..peer("10.0.0.7") }
}

fn unix() -> Identity {
    Identity::of(PeerAddress::UnixSocket)
}

/// Whether this client may call `action` of the actor `system/name`.
fn may(policies: &Policies, client: &Identity, system: &str, name: &str, action: &str) -> bool {
    let (subject, kind) = (Subject::Client(client), CallKind::Invoke);
    is_allowed(policies, &Access { subject, kind, system, name, action })
}

/// Whether an actor may send an effect to `add` of `s/target`.
fn actor_may(policies: &Policies, system: &str, name: &str) -> bool {
    let actor = ActorRef::new(system, name);
    let subject = Subject::Actor(&actor);
    let target =
        Access { subject, kind: CallKind::Effect, system: "s", name: "target", action: "add" };
    is_allowed(policies, &target)
}

fn is_allowed(policies: &Policies, access: &Access<'_>) -> bool {
    matches!(policies.decide(access), Decision::Allowed(_))
}

#[test]
fn without_files_everything_is_allowed_and_upstreams_own_file_allows_everything() {
    for policies in [Policies::default(), policies(&["type: \"allow\""])] {
        assert!(may(&policies, &peer("10.0.0.7"), "s", "joe", "add"));
        assert!(actor_may(&policies, "s", "moe"));
    }
    assert!(!may(&policies(&["type: deny"]), &token("alice"), "s", "joe", "add"));
}

#[test]
fn a_deny_wins_and_what_no_allow_matches_is_refused() {
    let both = policies(&["targets: joe*", "type: deny\ntargets: *-secret"]);
    let client = token("alice");
    assert!(may(&both, &client, "s", "joe-1", "add"));
    assert!(!may(&both, &client, "s", "joe-secret", "add"), "a deny wins");
    assert!(!may(&both, &client, "s", "moe", "add"), "no allow matches");
    let only_deny = policies(&["type: deny\ntargets: *-secret"]);
    assert!(may(&only_deny, &client, "s", "moe", "add"), "only denies: the rest is allowed");
    assert!(!may(&only_deny, &client, "s", "joe-secret", "add"));
}

#[test]
fn a_decision_names_the_policy_and_a_mismatch_its_line() {
    let two = policies(&["identities: bob", "# first\n\ntype: deny\ntargets: joe"]);
    let client = token("alice");
    let mut access = Access {
        subject: Subject::Client(&client),
        kind: CallKind::Invoke,
        system: "s",
        name: "joe",
        action: "add",
    };
    let Decision::Refused(Some(policy)) = two.decide(&access) else { panic!("it is denied") };
    assert_eq!((policy.file.as_str(), policy.line), ("p/2.policy", 3));
    access.name = "moe";
    assert!(matches!(two.decide(&access), Decision::Refused(None)));
    let missed = two.iter().map(|policy| policy.mismatch(&access).unwrap());
    let missed: Vec<_> = missed.map(|it| (it.key.name(), it.line, it.text.as_str())).collect();
    assert_eq!(missed, [("identities", 1, "bob"), ("targets", 4, "joe")]);
}

#[test]
fn an_anonymous_client_matches_no_named_rule() {
    let anonymous = peer("10.0.0.7");
    for rule in [
        "identities: alice",
        "identities: a*",
        "identities: token:*",
        "identities: tls:*",
        "actors: *oe",
    ] {
        assert!(!may(&policies(&[rule]), &anonymous, "s", "joe", "add"), "{rule}");
        let denied = format!("type: deny\n{rule}");
        assert!(may(&policies(&[&denied]), &anonymous, "s", "joe", "add"), "{denied}");
    }
    for rule in ["identities: *", "identities: [alice, *]", "actors: *", "identities: peer:*"] {
        assert!(may(&policies(&[rule]), &anonymous, "s", "joe", "add"), "{rule}");
    }
    let over_nats = Identity::of(PeerAddress::Nats);
    for rule in ["identities: peer:*", "identities: peer:0.0.0.0/0, peer:::/0, peer:unix"] {
        assert!(!may(&policies(&[rule]), &over_nats, "s", "joe", "add"), "{rule}");
    }
}

#[test]
fn a_client_is_known_by_token_certificate_or_address() {
    for (rule, matching, other) in [
        ("alice", vec![token("alice"), tls("alice")], vec![token("Alice"), token("bob")]),
        ("token:alice", vec![token("alice")], vec![tls("alice"), token("token:alice")]),
        ("tls:*.shop", vec![tls("till.shop")], vec![token("till.shop"), tls("shop")]),
        ("peer:10.0.*", vec![peer("10.0.3.4"), token("bob")], vec![peer("10.1.0.1"), unix()]),
        ("peer:::1", vec![peer("0:0:0:0:0:0:0:1")], vec![peer("127.0.0.1"), peer("::2")]),
        ("peer:::ffff:10.0.0.7", vec![token("bob")], vec![peer("10.0.0.8")]),
        (
            "peer:10.0.0.0/8",
            vec![peer("10.0.0.0"), peer("10.255.255.255")],
            vec![peer("11.0.0.0"), peer("9.255.255.255"), peer("a00::"), unix()],
        ),
        ("peer:10.1.2.3/15", vec![peer("10.0.0.0"), peer("10.1.9.9")], vec![peer("10.2.0.0")]),
        ("peer:::ffff:10.0.0.0/104", vec![peer("10.9.9.9")], vec![peer("11.0.0.0")]),
        ("peer:10.0.0.7/32", vec![peer("10.0.0.7")], vec![peer("10.0.0.6")]),
        ("peer:0.0.0.0/0", vec![peer("192.0.2.1")], vec![peer("::1"), unix()]),
        ("peer:fd00::/127", vec![peer("fd00::1")], vec![peer("fd00::2"), peer("10.0.0.7")]),
        ("peer:unix", vec![unix()], vec![peer("127.0.0.1"), token("peer:unix")]),
        ("alice, \"b,b\", 'c'", vec![token("b,b"), token("c"), token("alice")], vec![token("b")]),
    ] {
        let policies = policies(&[&format!("identities: {rule}")]);
        for client in matching {
            assert!(may(&policies, &client, "s", "joe", "add"), "{rule} {client:?}");
        }
        for client in other {
            assert!(!may(&policies, &client, "s", "joe", "add"), "{rule} {client:?}");
        }
    }
}

#[test]
fn targets_are_actors_with_or_without_their_system() {
    for (rule, matching, other) in [
        ("joe", vec![("s", "joe"), ("t", "joe")], vec![("s", "s/joe")]),
        ("s/joe", vec![("s", "joe")], vec![("t", "joe"), ("s", "moe")]),
        ("s/*", vec![("s", "joe"), ("s", "a/b")], vec![("t", "joe")]),
        ("*/a/b", vec![("s", "a/b")], vec![("s", "b")]),
        ("shop-*/cart-*", vec![("shop-eu", "cart-7")], vec![("shop-eu", "till")]),
    ] {
        let policies = policies(&[&format!("targets: [{rule}]")]);
        for (system, name) in matching {
            assert!(may(&policies, &token("alice"), system, name, "add"), "{rule} {system}/{name}");
        }
        for (system, name) in other {
            assert!(
                !may(&policies, &token("alice"), system, name, "add"),
                "{rule} {system}/{name}"
            );
        }
    }
}

#[test]
fn actors_and_their_systems_match_the_calling_actor_and_never_a_client() {
    let joes = policies(&["actors: [\"joe\"]\nactor_systems: s"]);
    assert!(actor_may(&joes, "s", "joe"));
    assert!(!actor_may(&joes, "t", "joe") && !actor_may(&joes, "s", "moe"));
    assert!(!may(&joes, &token("joe"), "s", "target", "add"), "a client is no actor");
    assert!(!actor_may(&policies(&["identities: joe"]), "s", "joe"), "an actor is no client");
    let workflow = policies(&["kinds: effect, pipe, forward, broadcast", "identities: alice"]);
    assert!(actor_may(&workflow, "s", "joe") && may(&workflow, &token("alice"), "s", "joe", "add"));
    assert!(!may(&workflow, &token("bob"), "s", "joe", "add"));
}

#[test]
fn actions_and_kinds_narrow() {
    let adds = policies(&["actions: add, sub*\nkinds: [invoke]"]);
    let client = token("alice");
    for (action, allowed) in [("add", true), ("subtract", true), ("get", false)] {
        assert_eq!(may(&adds, &client, "s", "joe", action), allowed, "{action}");
    }
    let (subject, kind) = (Subject::Client(&client), CallKind::State);
    let read = Access { subject, kind, system: "s", name: "joe", action: "add" };
    assert!(!is_allowed(&adds, &read));
    assert!(is_allowed(&policies(&["kinds: *"]), &read));
}

#[test]
fn a_mistake_is_told_with_file_and_line() {
    for (text, line, part) in [
        ("", 1, "says nothing"),
        ("# nothing\n", 1, "says nothing"),
        ("targets", 1, "key: value"),
        ("type: allow\n\ntarget: joe", 3, "\"target\" is no key"),
        ("Targets: joe", 1, "no key"),
        ("type: maybe", 1, "allow or deny"),
        ("type: deny\ntype: allow", 2, "in line 1 already"),
        ("targets: a\n# b\ntargets: c", 3, "in line 1 already"),
        ("targets:", 1, "a name is missing"),
        ("targets: []", 1, "a name is missing"),
        ("targets: a,", 1, "a name is missing"),
        ("targets: a,,b", 1, "a name is missing"),
        ("targets: [a, b", 1, "ends with ]"),
        ("targets: a]", 1, "begins with ["),
        ("targets: [", 1, "ends with ]"),
        ("targets: \"a", 1, "not closed"),
        ("targets: \"\"", 1, "empty"),
        ("targets: \"a\" \"b\"", 1, "a comma is missing"),
        ("targets: a*b*", 1, "more than one *"),
        ("targets: joe # the first", 1, "a comment has a line of its own"),
        ("actors: joe:bob", 1, "by colons"),
        ("kinds: invoke, call", 1, "these are: invoke, state"),
        ("type: deny\nidentities: peer:localhost", 2, "\"localhost\" is no peer"),
        ("identities: alice, peer:till.shop", 1, "no peer"),
        ("identities: peer:", 1, "no peer"),
        ("identities: peer:UNIX", 1, "no peer"),
        ("identities: peer:10.0.0", 1, "no peer"),
        ("identities: peer:10.0.0.0/33", 1, "no peer"),
        ("identities: peer:10.0.0.0/", 1, "no peer"),
        ("identities: peer:10.0.0.0/-1", 1, "no peer"),
        ("identities: peer:fd00::/129", 1, "no peer"),
        // It has neither addresses of IPv4 nor any that a client can have.
        ("identities: peer:::ffff:10.0.0.0/95", 1, "no peer"),
        ("identities: peer:10.0.0.7:8090", 1, "no peer"),
        ("identities: peer:unix/8", 1, "no peer"),
        ("identities: peer:10.*/8", 1, "no peer"),
        ("identities: peer:*.shop", 1, "no peer"),
        ("identities: peer:FD00:*", 1, "no peer"),
        ("identities: peer:1*.*", 1, "no peer"),
    ] {
        let error = Policy::parse("policies/x.policy", text).unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("policies/x.policy", line), "{text:?}");
        assert!(error.text.contains(part), "{text:?}: {error}");
    }
    assert!(Policy::parse("x.policy", "actors: \"joe:bob\"\r\n").is_ok());
}

/// A policy over names of two letters, and the file that says so.
fn rule() -> impl Strategy<Value = (bool, [Option<Vec<&'static str>>; 3])> {
    let names = proptest::sample::subsequence(vec!["a", "b", "a*", "*"], 1..3);
    let names = move || proptest::option::of(names.clone());
    (any::<bool>(), [names(), names(), names()])
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(type|targets|actors|kinds)?[:,*\\[\\]\"'a \n#/]{0,30}") {
        let _told = Policy::parse("x.policy", &text);
    }

    #[test]
    fn decisions_are_those_of_a_naive_model(
        rules in proptest::collection::vec(rule(), 0..4),
        (identity, target, action) in ("[ab]{0,2}", "[ab]{1,2}", "[ab]{1,2}"),
    ) {
        let file = |(deny, lists): &(bool, [Option<Vec<&str>>; 3])| {
            let mut text = format!("type: {}\n", if *deny { "deny" } else { "allow" });
            for (key, list) in ["identities", "targets", "actions"].iter().zip(lists) {
                if let Some(list) = list {
                    text = format!("{text}{key}: [{}]\n", list.join(", "));
                }
            }
            text
        };
        let files: Vec<String> = rules.iter().map(file).collect();
        let read = policies(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let client = Identity {
            token_subject: (!identity.is_empty()).then(|| Arc::from(identity.as_str())),
            ..peer("10.0.0.7")
        };
        // The model: `*` is everything, `a*` begins with a.
        let values = [&identity, &target, &action];
        let matches = |lists: &[Option<Vec<&str>>; 3]| {
            lists.iter().zip(values).all(|(list, value)| {
                let Some(list) = list else { return true };
                list.contains(&"*")
                    || (!value.is_empty()
                        && (list.contains(&value.as_str())
                            || (list.contains(&"a*") && value.starts_with('a'))))
            })
        };
        let denied = rules.iter().any(|(deny, lists)| *deny && matches(lists));
        let allowed = rules.iter().any(|(deny, lists)| !deny && matches(lists));
        let has_allow = rules.iter().any(|(deny, _)| !deny);
        let expected = !denied && (allowed || !has_allow);
        prop_assert_eq!(may(&read, &client, "s", &target, &action), expected);
    }
}
