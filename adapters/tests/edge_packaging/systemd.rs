//! Systemd: the unit starts the binary with settings that it knows, and keeps from it what it does not need.

use crate::{assert_settings, file, seconds};

/// The values of a key of the unit, in order.
fn all<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once('=').filter(|(name, _)| *name == key))
        .map(|(_, value)| value)
        .collect()
}

#[tokio::test]
async fn the_unit_fits_the_binary() {
    let unit = file("packaging/systemd/tidegate.service");
    assert_eq!(all(&unit, "ExecStart"), ["/usr/local/bin/tidegate serve"]);
    assert_eq!(all(&unit, "Type"), ["notify"]);
    let given: Vec<_> = all(&unit, "Environment")
        .into_iter()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(given.len() >= 2, "{given:?}");
    let effective = assert_settings(&given).await;
    assert!(effective.contains("/var/lib/tidegate"), "{effective}");
    assert_eq!(all(&unit, "StateDirectory"), ["tidegate"]);
    let drain = given.iter().find(|(name, _)| name == "TIDEGATE_DRAIN_TIMEOUT").unwrap();
    assert!(seconds(all(&unit, "TimeoutStopSec")[0]) > seconds(&drain.1), "killed while it drains");
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("StateDirectoryMode", "0700"),
    ] {
        assert_eq!(all(&unit, key), [value], "{key}");
    }
}
