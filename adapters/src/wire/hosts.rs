//! Hosts: encodes the hosts of a system's definitions.

use bytes::Bytes;
use serde::Serialize;
use tidegate_stages::actor::HostAddress;
use tidegate_stages::mesh::HostView;

use super::history::json;

/// Encodes a list of hosts.
pub fn hosts(hosts: &[HostView]) -> Bytes {
    #[derive(Serialize)]
    struct Host {
        address: String,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        away_seconds: Option<u64>,
        definitions: usize,
        running: usize,
    }
    #[derive(Serialize)]
    struct Hosts {
        hosts: Vec<Host>,
    }
    let hosts = hosts.iter().map(|host| Host {
        address: host.address.to_string(),
        state: match (host.away_for, host.is_new) {
            (Some(_), _) => "away",
            (None, true) => "new",
            (None, false) => "up",
        },
        away_seconds: host.away_for.map(|away_for| away_for.as_secs()),
        definitions: host.definitions,
        running: host.running,
    });
    json(&Hosts { hosts: hosts.collect() })
}

/// Encodes that a host was drained, and how many of its turns still run.
pub fn drained(address: &HostAddress, running: usize) -> Bytes {
    #[derive(Serialize)]
    struct Drained<'a> {
        drained: &'a str,
        running: usize,
    }
    json(&Drained { drained: address.as_str(), running })
}
