use std::collections::BTreeSet;

use super::*;
use crate::ingress::json::OPENAPI;
use crate::ingress::metrics::ROUTES;

#[test]
fn names_are_decoded_once() {
    let found = Resource::find("/api/v1/system/s%2525/actors/a%2Fb").unwrap();
    assert_eq!(found, Resource::Actor { system: "s%25".into(), name: "a/b".into() });
    assert_eq!(Resource::find("/api/v1/system/s/actors/%ff"), Err(NoResource::NotText));
}

#[test]
fn empty_segments_do_not_count() {
    assert_eq!(Resource::find("//api/v1/system/"), Ok(Resource::Register));
    assert_eq!(Resource::find("/health/"), Ok(Resource::Health));
    assert_eq!(Resource::find("/"), Err(NoResource::Unknown));
    assert_eq!(Resource::find("/a/b/c/d/e/f/g/h/i"), Err(NoResource::Unknown));
}

#[test]
fn a_call_is_found_however_its_path_is_spelled() {
    for (path, system, name) in [
        ("/api/v1/system/s/actors/a/invoke", "s", "a"),
        ("/api/v1/system/s/actors/a%2Fb/invoke", "s", "a/b"),
        ("/api/v1/system/s%25/actors/a/invoke", "s%", "a"),
        ("/api/v1/system/%ff/actors/a/invoke", "\u{fffd}", "a"),
        ("/api/v1//system/s/actors//a/invoke/", "s", "a"),
    ] {
        let invoke = Resource::Invoke { system: system.into(), name: name.into() };
        assert_eq!(Resource::find(path), Ok(invoke), "{path}");
    }
    for none in ["s/actors/a/b/invoke", "s/actors/a/invoke/b", "s/actors/a/invoked", "s/b/a/invoke"]
    {
        let path = format!("/api/v1/system/{none}");
        assert_eq!(Resource::find(&path), Err(NoResource::Unknown), "{path}");
    }
    let missing = Resource::find("/api/v1/system//actors/a/invoke");
    assert_eq!(missing, Err(NoResource::Unknown), "there is no system");
}

#[test]
fn spawn_is_an_endpoint_only_for_post() {
    let path = "/api/v1/system/s/actors/spawn";
    assert_eq!(
        Resource::find(path).unwrap().under(&Method::POST),
        Resource::Spawn { system: "s".into() }
    );
    let actor = Resource::Actor { system: "s".into(), name: "spawn".into() };
    assert_eq!(Resource::find(path).unwrap().under(&Method::GET), actor);
}

#[test]
fn an_actor_has_a_past() {
    let part = |path: &'static str| match Resource::find(path) {
        Ok(Resource::History { system, name, part }) if (&*system, &*name) == ("s", "a/b") => {
            Some(part)
        }
        _ => None,
    };
    assert_eq!(part("/api/v1/system/s/actors/a%2Fb/revisions"), Some(Part::Revisions));
    assert_eq!(part("/api/v1/system/s/actors/a%2Fb/revisions/7"), Some(Part::Revision("7")));
    assert_eq!(part("/api/v1/system/s/actors/a%2Fb/state/"), Some(Part::State));
    assert_eq!(part("/api/v1/system/s/actors/a%2Fb/restore"), Some(Part::Restore));
    assert_eq!(part("/api/v1/system/s/actors/a%2Fb/checkpoint"), Some(Part::Checkpoint));
    for unknown in ["", "/state/1", "/revisions/1/2", "/past"] {
        let path = format!("/api/v1/system/s/actors/a/b{unknown}");
        assert_eq!(Resource::find(&path), Err(NoResource::Unknown), "{path}");
    }
}

#[test]
fn durable_topics_are_listed_and_their_subscribers_shown() {
    let find = |path| Resource::find(path).unwrap();
    let all = find("/api/v1/channels");
    assert_eq!(all, Resource::Channels(Channels::All));
    assert!(all.allows(&Method::GET) && !all.allows(&Method::POST));
    assert_eq!(all.asks(&Method::GET), Asks::Administer);
    let one = find("/api/v1/system/s/channels/a%2Fb/subscribers");
    let (system, topic) = ("s".into(), "a/b".into());
    assert_eq!(one, Resource::Channels(Channels::Subscribers { system, topic }));
}

#[test]
fn effects_are_looked_at_together_and_one_by_one() {
    let find = |path| Resource::find(path).unwrap();
    assert_eq!(find("/api/v1/effects"), Resource::Outboxes(Outboxes::All));
    let retry = find("/api/v1/effects/retry");
    assert_eq!(retry, Resource::Outboxes(Outboxes::Change(DeadLetterChange::Retry)));
    assert!(retry.allows(&Method::POST) && !retry.allows(&Method::GET));
    let one = |change| {
        let (system, source) = ("s".into(), "a/b".into());
        Resource::Outboxes(Outboxes::One { system, source, id: "1.2.3", change })
    };
    let path = "/api/v1/system/s/actors/a%2Fb/effects/1.2.3";
    assert_eq!(find(path), one(None));
    assert!(find(path).allows(&Method::DELETE) && !find(path).allows(&Method::POST));
    let path = format!("{path}/retry");
    assert_eq!(find(&path), one(Some(DeadLetterChange::Retry)));
    assert_eq!(find(&path).asks(&Method::POST), Asks::Administer);
    assert_eq!(Resource::find(&format!("{path}/1")), Err(NoResource::Unknown));
    assert_eq!(Resource::find("/api/v1/effects/all"), Err(NoResource::Unknown));
}

#[test]
fn changes_of_schedules_are_audited_and_looking_at_them_is_not() {
    for path in ["", "/n", "/n/pause"] {
        let path = format!("/api/v1/system/s/schedules{path}");
        let asks = |method| Resource::find(&path).unwrap().asks(&method);
        assert_eq!((asks(Method::GET), asks(Method::HEAD)), (Asks::Register, Asks::Register));
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(asks(method), Asks::Schedule, "{path}");
        }
    }
    assert!(Asks::Schedule.is_audited() && !Asks::Register.is_audited());
}

#[test]
fn each_resource_is_described_with_its_methods() {
    let described = OPENAPI;
    let described: serde_json::Value = serde_json::from_slice(&described).unwrap();
    // A request for no resource has a name in metrics, too, and so have those that only the admin port knows.
    let mut names = BTreeSet::from(["none", "admin", "console"]);
    for (path, operations) in described["paths"].as_object().unwrap() {
        let methods: BTreeSet<String> =
            operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        for method in &methods {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            // The name of a parameter in braces stands for a name.
            let resource = Resource::find(path).unwrap().under(&method);
            let allowed = resource.allowed().split(", ").filter(|allowed| *allowed != "HEAD");
            let allowed: BTreeSet<String> = allowed.map(str::to_owned).collect();
            assert_eq!(allowed, methods, "{path}");
            names.insert(resource.label());
        }
    }
    assert_eq!(names, BTreeSet::from(ROUTES));
}

#[test]
fn a_revision_is_a_number() {
    assert_eq!(revision(None), Ok(None));
    assert_eq!(revision(Some("revision=0")), Ok(None));
    assert_eq!(revision(Some("a=b&revision=7")), Ok(Some(7)));
    assert!(revision(Some("revision=-1")).is_err());
    assert!(revision(Some("revision=")).is_err());
}
