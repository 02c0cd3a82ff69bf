//! The rule as a table.

use super::*;

fn client(peer: &str) -> Identity {
    Identity::of(match peer {
        "unix" => PeerAddress::UnixSocket,
        address => PeerAddress::Ip(address.parse().unwrap()),
    })
}

/// A request of this client that asks for nothing that is not open.
fn of(client: &Identity) -> Asked<'_> {
    let (asks, page, token) = (Asks::Use, Page::default(), Shown::Nothing);
    Asked { asks, client, page, token, is_user_function: false, host: None }
}

/// A request without token from this peer, under this trust.
fn asked(asks: Asks, peer: &str, trust: &Trust) -> Result<(), Refused> {
    decide(&Asked { asks, ..of(&client(peer)) }, trust)
}

fn with_token() -> Trust {
    Trust { admin_token: Some(AdminToken::new("secret")), ..Trust::default() }
}

/// All kinds of peers: an untrusted one, a trusted one, three over loopback, and the Unix socket.
const PEERS: [&str; 6] = ["10.0.0.7", "192.0.2.9", "127.0.0.1", "::1", "::ffff:127.0.0.1", "unix"];

fn network() -> Vec<IpNet> {
    vec!["192.0.2.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()]
}

#[test]
fn anybody_calls_reads_states_and_asks_for_health() {
    let closed = Trust { loopback: false, ..with_token() };
    for peer in PEERS {
        for asks in [Asks::Status, Asks::Use] {
            assert_eq!(asked(asks, peer, &Trust::default()), Ok(()), "{peer}");
            assert_eq!(asked(asks, peer, &closed), Ok(()), "{peer}");
        }
    }
}

#[test]
fn trusted_peers_register() {
    use Refused::{Untrusted, UntrustedLoopback};
    let open = Trust { peers: network(), ..Trust::default() };
    let no_loopback = Trust { loopback: false, ..open.clone() };
    let and_token = Trust { peers: network(), ..with_token() };
    for (peer, by_default, networks, without_loopback) in [
        ("10.0.0.7", Err(Untrusted), Err(Untrusted), Err(Untrusted)),
        ("192.0.2.9", Err(Untrusted), Ok(()), Ok(())),
        ("::ffff:192.0.2.9", Err(Untrusted), Ok(()), Ok(())),
        ("fd00::9", Err(Untrusted), Ok(()), Ok(())),
        ("fd00:0:0:1::9", Err(Untrusted), Err(Untrusted), Err(Untrusted)),
        ("127.0.0.1", Ok(()), Ok(()), Err(UntrustedLoopback)),
        ("::1", Ok(()), Ok(()), Err(UntrustedLoopback)),
        ("::ffff:127.0.0.1", Ok(()), Ok(()), Err(UntrustedLoopback)),
        ("unix", Ok(()), Ok(()), Ok(())),
    ] {
        assert_eq!(asked(Asks::Register, peer, &Trust::default()), by_default, "{peer}");
        assert_eq!(asked(Asks::Register, peer, &open), networks, "{peer}");
        assert_eq!(asked(Asks::Register, peer, &no_loopback), without_loopback, "{peer}");
        // A token is never needed for these.
        assert_eq!(asked(Asks::Register, peer, &and_token), networks, "{peer}");
    }
}

#[test]
fn the_machine_of_the_user_function_registers_and_administers_nothing() {
    let user_function = |asks| {
        let client = client("10.0.0.7");
        let asked = Asked { asks, is_user_function: true, ..of(&client) };
        decide(&asked, &Trust::default())
    };
    assert_eq!(user_function(Asks::Register), Ok(()));
    assert_eq!(user_function(Asks::Administer), Err(Refused::NotLocal));
}

#[tokio::test]
async fn the_machine_of_the_user_function_is_trusted_for_where_it_is() {
    let user_function = Some(UserFunction::new("10.0.0.7".into()));
    let trust = Trust { user_function, ..Trust::default() };
    let (head, ()) = http::Request::delete("/").body(()).unwrap().into_parts();
    for (peer, is_trusted) in [
        ("10.0.0.7", true),
        ("::ffff:10.0.0.7", true),
        ("10.0.0.8", false),
        ("127.0.0.1", true),
        ("unix", true),
    ] {
        let client = client(peer);
        assert_eq!(trust.trusts(client.peer).await, is_trusted, "{peer}");
        assert_eq!(trust.trusts_without_lookup(client.peer), is_trusted, "{peer}");
        let registers = trust.check(Asks::Register, &client, &head, None).await;
        let drains = trust.check(Asks::Drain, &client, &head, None).await;
        assert_eq!((registers.is_ok(), drains.is_ok()), (is_trusted, is_trusted), "{peer}");
    }
    assert!(!trust.trusts(Some(PeerAddress::Nats)).await);
    let user_function = Some(UserFunction::new("127.0.0.1".into()));
    let closed = Trust { loopback: false, user_function, ..Trust::default() };
    let local = client("127.0.0.1");
    assert!(!closed.trusts(local.peer).await, "local clients are not trusted");
    assert!(!closed.trusts_without_lookup(local.peer));
    let user_function = Some(UserFunction::new("host.invalid".into()));
    let unknown = Trust { user_function, ..Trust::default() };
    // Not a future: a failed call waits for no lookup.
    assert!(!unknown.trusts_without_lookup(client("10.0.0.7").peer));
    let registers = closed.check(Asks::Register, &local, &head, None).await;
    assert_eq!(registers, Err(Refused::UntrustedLoopback));
    assert!(closed.check(Asks::Drain, &local, &head, None).await.is_err());
}

#[test]
fn administrators_are_local_until_there_is_a_token() {
    let open = Trust { peers: network(), ..Trust::default() };
    let no_loopback = Trust { loopback: false, ..Trust::default() };
    for (peer, without_token, without_loopback) in [
        ("10.0.0.7", Err(Refused::NotLocal), Err(Refused::NotLocal)),
        // To be trusted is not enough.
        ("192.0.2.9", Err(Refused::NotLocal), Err(Refused::NotLocal)),
        ("127.0.0.1", Ok(()), Err(Refused::NoAdministrator)),
        ("::1", Ok(()), Err(Refused::NoAdministrator)),
        ("unix", Ok(()), Ok(())),
    ] {
        assert_eq!(asked(Asks::Administer, peer, &open), without_token, "{peer}");
        assert_eq!(asked(Asks::Administer, peer, &no_loopback), without_loopback, "{peer}");
        assert_eq!(asked(Asks::Administer, peer, &with_token()), Err(Refused::NoToken), "{peer}");
    }
}

#[test]
fn whoever_shows_the_token_may_do_everything() {
    let closed = Trust { loopback: false, ..with_token() };
    for peer in PEERS {
        for asks in [Asks::Register, Asks::Administer] {
            let client = client(peer);
            let shows = |token| decide(&Asked { asks, token, ..of(&client) }, &closed);
            assert_eq!(shows(Shown::Right), Ok(()), "{peer}");
            if asks == Asks::Administer {
                assert_eq!(shows(Shown::Wrong), Err(Refused::WrongToken), "{peer}");
            }
        }
    }
}

#[test]
fn a_registration_names_its_own_address_unless_the_token_is_shown() {
    use Refused::{HostElsewhere, UnixSocketOverTcp};
    let trust = Trust { peers: network(), ..with_token() };
    for (peer, host, without_token, with_token) in [
        ("192.0.2.9", "192.0.2.9:8090", Ok(()), Ok(())),
        ("::ffff:192.0.2.9", "192.0.2.9:8090", Ok(()), Ok(())),
        ("192.0.2.9", "[::ffff:192.0.2.9]:8090", Ok(()), Ok(())),
        ("192.0.2.9", "192.0.2.10:8090", Err(HostElsewhere), Ok(())),
        ("192.0.2.9", "127.0.0.1:8090", Err(HostElsewhere), Ok(())),
        ("192.0.2.9", "[::1]:8090", Err(HostElsewhere), Ok(())),
        ("192.0.2.9", "0.0.0.0:8090", Err(HostElsewhere), Ok(())),
        ("192.0.2.9", "localhost:8090", Err(HostElsewhere), Ok(())),
        ("192.0.2.9", "attacker.example:80", Err(HostElsewhere), Ok(())),
        ("192.0.2.9", "unix:/run/docker.sock", Err(UnixSocketOverTcp), Err(UnixSocketOverTcp)),
        ("fd00::9", "[fd00::9]:8090", Ok(()), Ok(())),
        ("fd00::9", "[fd00::a]:8090", Err(HostElsewhere), Ok(())),
        ("127.0.0.1", "127.0.0.1:8090", Ok(()), Ok(())),
        ("127.0.0.1", "[::1]:8090", Ok(()), Ok(())),
        ("127.0.0.1", "localhost:8090", Ok(()), Ok(())),
        ("::1", "127.0.0.9:8090", Ok(()), Ok(())),
        ("127.0.0.1", "192.0.2.9:8090", Err(HostElsewhere), Ok(())),
        ("127.0.0.1", "localhost.attacker.example:80", Err(HostElsewhere), Ok(())),
        ("127.0.0.1", "unix:/run/docker.sock", Err(UnixSocketOverTcp), Err(UnixSocketOverTcp)),
        ("unix", "unix:/run/host.sock", Ok(()), Ok(())),
        ("unix", "127.0.0.1:8090", Ok(()), Ok(())),
        ("unix", "localhost:8090", Ok(()), Ok(())),
        ("unix", "192.0.2.9:8090", Err(HostElsewhere), Ok(())),
    ] {
        let (client, host) = (client(peer), HostAddress::new(host));
        let shows = |token| {
            let (asks, host) = (Asks::Register, Some(&host));
            decide(&Asked { asks, token, host, ..of(&client) }, &trust)
        };
        assert_eq!(shows(Shown::Nothing), without_token, "{peer} names {host}");
        assert_eq!(shows(Shown::Right), with_token, "{peer} names {host}");
        // It is drained where it may be registered, and by administrators.
        let drains = |token| {
            let (asks, host) = (Asks::Drain, Some(&host));
            decide(&Asked { asks, token, host, ..of(&client) }, &trust)
        };
        let by_others = without_token.map_err(|_| Refused::NoToken);
        assert_eq!(drains(Shown::Nothing), by_others, "{peer} drains {host}");
        assert_eq!(drains(Shown::Right), Ok(()), "{peer} drains {host}");
    }
}

#[test]
fn a_web_page_changes_nothing_unless_its_origin_is_known() {
    let origins = vec!["https://console.example".into()];
    let trust = Trust { origins, peers: network(), ..with_token() };
    for (origin, decided) in [
        (None, Ok(())),
        (Some("https://console.example"), Ok(())),
        (Some("https://Console.Example"), Ok(())),
        (Some("http://console.example"), Err(Refused::Origin)),
        (Some("https://console.example:8443"), Err(Refused::Origin)),
        (Some("http://evil"), Err(Refused::Origin)),
        (Some("http://127.0.0.1:9001"), Err(Refused::Origin)),
        (Some("null"), Err(Refused::Origin)),
        (Some(""), Err(Refused::Origin)),
    ] {
        for peer in PEERS {
            let client = client(peer);
            let page = Page { origin: origin.map(str::as_bytes), host: None };
            // Whoever's browser it is: also an administrator's.
            for asks in [Asks::Use, Asks::Register, Asks::Administer] {
                let asked = Asked { asks, page, token: Shown::Right, ..of(&client) };
                assert_eq!(decide(&asked, &trust), decided, "{peer} {origin:?}");
            }
            let status = Asked { asks: Asks::Status, page, ..of(&client) };
            assert_eq!(decide(&status, &trust), Ok(()));
        }
    }
}

#[test]
fn local_clients_call_the_proxy_by_a_name_that_no_page_can_have() {
    let trust = Trust { host_names: vec!["proxy.internal".into()], ..Trust::default() };
    for (host, decided) in [
        (None, Ok(())),
        (Some(""), Ok(())),
        (Some("localhost"), Ok(())),
        (Some("LocalHost:9001"), Ok(())),
        (Some("127.0.0.1:9001"), Ok(())),
        // What Python's SDK says.
        (Some("0.0.0.0:9001"), Ok(())),
        (Some("[::1]"), Ok(())),
        (Some("[::1]:9001"), Ok(())),
        (Some("192.0.2.1"), Ok(())),
        (Some("proxy.internal:9001"), Ok(())),
        (Some("Proxy.Internal"), Ok(())),
        (Some("evil.example:9001"), Err(Refused::HostName)),
        (Some("localhost.evil.example"), Err(Refused::HostName)),
        (Some("127.0.0.1.evil.example"), Err(Refused::HostName)),
        (Some("127.0.0.1:9001.evil.example"), Err(Refused::HostName)),
        (Some("a.proxy.internal"), Err(Refused::HostName)),
        (Some("evil"), Err(Refused::HostName)),
    ] {
        for peer in PEERS {
            let client = client(peer);
            let page = Page { origin: None, host: host.map(str::as_bytes) };
            let is_loopback = peer != "unix" && client.peer.unwrap().is_local();
            let decided = if is_loopback { decided } else { Ok(()) };
            let asked = Asked { page, ..of(&client) };
            assert_eq!(decide(&asked, &trust), decided, "{peer} {host:?}");
            assert_eq!(decide(&Asked { asks: Asks::Status, ..asked }, &trust), Ok(()));
        }
    }
}

#[test]
fn every_refusal_names_the_setting_that_opens_it() {
    for (refused, setting) in [
        (Refused::Untrusted, "TIDEGATE_TRUSTED_PEERS"),
        (Refused::UntrustedLoopback, "TIDEGATE_TRUST_LOOPBACK"),
        (Refused::NotLocal, "TIDEGATE_ADMIN_TOKEN"),
        (Refused::NoAdministrator, "TIDEGATE_ADMIN_TOKEN"),
        (Refused::NoToken, "TIDEGATE_ADMIN_TOKEN"),
        (Refused::WrongToken, "TIDEGATE_ADMIN_TOKEN"),
        (Refused::HostElsewhere, "TIDEGATE_ADMIN_TOKEN"),
        (Refused::UnixSocketOverTcp, "PROXY_UDS_ENABLED"),
        (Refused::Origin, "TIDEGATE_ORIGINS"),
        (Refused::HostName, "TIDEGATE_HOST_NAMES"),
    ] {
        assert!(refused.to_string().contains(setting), "{refused}");
    }
}
