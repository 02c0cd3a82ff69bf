//! Fuzz: policy files.

use std::net::IpAddr;

use tidegate_stages::access::{Access, CallKind, Decision, Policies, Policy, Subject};
use tidegate_stages::actor::ActorRef;
use tidegate_stages::identity::{Identity, PeerAddress};

use crate::fuzz::run;

const DENY: &str = "type: deny\n";

/// Whether each of some calls is allowed.
fn decided(policies: Vec<Policy>) -> Vec<bool> {
    let policies = Policies::new(policies);
    let anonymous = Identity::of(PeerAddress::Ip(IpAddr::from([10, 0, 0, 7])));
    let alice = Identity { token_subject: Some("alice".into()), ..anonymous.clone() };
    let billing = Identity { tls_client: Some("billing".into()), ..anonymous.clone() };
    let joe = ActorRef::new("shop", "joe");
    let subjects = [
        Subject::Client(&anonymous),
        Subject::Client(&alice),
        Subject::Client(&billing),
        Subject::Actor(&joe),
    ];
    let mut allowed = Vec::new();
    for subject in subjects {
        for kind in CallKind::ALL {
            for (system, name, action) in [("shop", "cart-7", "get"), ("", "*", "a,b")] {
                let access = Access { subject, kind, system, name, action };
                allowed.push(matches!(policies.decide(&access), Decision::Allowed(_)));
            }
        }
    }
    allowed
}

#[test]
fn policy_files() {
    let seeds = [
        "type: allow\n",
        "# who may call carts\ntype: allow\nidentities: [alice, tls:billing, peer:10.0.0.0/8]\nactions: get, add*\n",
        "type: \"deny\"\nactors: [\"joe\", *-7]\nactor_systems: shop\ntargets: cart-*\nkinds: invoke, effect\n",
        "identities: token:alice, *\nsystems: [ ]\n",
    ];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec());
    run("policies", seeds.into(), |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let lines = u32::try_from(text.lines().count()).unwrap().max(1);
        let policy = match Policy::parse("a.policy", text) {
            Ok(policy) => policy,
            Err(error) => {
                assert!((1..=lines).contains(&error.line) && !error.text.is_empty(), "{error}");
                return;
            }
        };
        let alone = decided(vec![policy.clone()]);
        // What says nothing changes nothing, and neither does saying it twice.
        let longer = format!("# nothing\n{text}\n\n  # nothing\n");
        let longer = Policy::parse("b.policy", &longer).unwrap();
        assert_eq!(decided(vec![longer.clone()]), alone);
        assert_eq!(decided(vec![longer, policy]), alone);
        // Deny wins, in any order.
        for both in [[DENY, text], [text, DENY]] {
            let both = both.map(|text| Policy::parse("c.policy", text).unwrap());
            assert!(!decided(both.into()).contains(&true));
        }
    });
}
