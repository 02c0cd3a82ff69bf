//! The rule as a table.

use super::*;

fn client(peer: &str) -> Identity {
    Identity::of(match peer {
        "unix" => PeerAddress::UnixSocket,
        address => PeerAddress::Ip(address.parse().unwrap()),
    })
}

/// A request without token from this peer, under this trust.
fn asked(asks: Asks, peer: &str, trust: &Trust) -> Result<(), Refused> {
    let (token, is_user_function, host) = (Shown::Nothing, false, None);
    decide(&Asked { asks, client: &client(peer), token, is_user_function, host }, trust)
}

fn with_token() -> Trust {
    Trust { admin_token: Some(AdminToken::new("secret".into())), ..Trust::default() }
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
        let (client, token) = (client("10.0.0.7"), Shown::Nothing);
        let asked = Asked { asks, client: &client, token, is_user_function: true, host: None };
        decide(&asked, &Trust::default())
    };
    assert_eq!(user_function(Asks::Register), Ok(()));
    assert_eq!(user_function(Asks::Administer), Err(Refused::NotLocal));
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
            let shows = |token| {
                let (is_user_function, host) = (false, None);
                decide(&Asked { asks, client: &client, token, is_user_function, host }, &closed)
            };
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
            decide(&Asked { asks, client: &client, token, is_user_function: false, host }, &trust)
        };
        assert_eq!(shows(Shown::Nothing), without_token, "{peer} names {host}");
        assert_eq!(shows(Shown::Right), with_token, "{peer} names {host}");
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
    ] {
        assert!(refused.to_string().contains(setting), "{refused}");
    }
}
