//! Machine: what the operating system gives the process.

use rustix::process::{Resource, getrlimit};
use tidegate_stages::ports::Clock;
use tidegate_stages::state::Timestamp;

use super::Finding;
use crate::clock::{self, SystemClock};
use crate::config::{Database, Settings};

/// File descriptors for everything that is neither a client nor a host: standard streams, the runtime, name service, log.
const FILES_BESIDE: u64 = 64;
/// Files that the embedded store holds open, and connections to the nodes of a database.
const FILES_OF_STORE: u64 = 512;

pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    vec![clock(SystemClock.now().0), descriptors(getrlimit(Resource::Nofile).maximum, settings)]
}

fn clock(now: u64) -> Finding {
    let about = "clock";
    if let Some(text) = clock::concern(Timestamp(now)) {
        return Finding::error(about, text);
    }
    let now = i64::try_from(now).ok().and_then(|now| jiff::Timestamp::from_microsecond(now).ok());
    Finding::ok(about, now.map_or_else(String::new, |now| format!("it is {now}")))
}

/// `most` is the hard limit: the soft one can be raised to it.
fn descriptors(most: Option<u64>, settings: &Settings) -> Finding {
    let about = "files";
    let (clients, hosts) =
        (settings.http.limits.connections as u64, u64::from(settings.host_connections));
    let store = match settings.database {
        Database::Embedded | Database::Scylla(_) => FILES_OF_STORE,
        Database::Memory => 0,
    };
    let needed = clients + hosts + store + FILES_BESIDE;
    match most {
        None => Finding::ok(about, "any number of file descriptors"),
        Some(most) if most >= needed => {
            Finding::ok(about, format!("{most} file descriptors, {needed} may be needed"))
        }
        Some(most) => Finding::warning(
            about,
            format!(
                "{most} file descriptors (hard limit), {needed} may be needed: {clients} clients (TIDEGATE_HTTP_CONNECTIONS), \
                 {hosts} calls of a host (TIDEGATE_HOST_CONNECTIONS), {store} of the store; raise LimitNOFILE= or `ulimit -Hn`, or \
                 lower these settings"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity;
    use super::*;

    #[test]
    fn a_clock_that_stands_wrong_is_told() {
        const MADE: u64 = 1_767_225_600_000_000;
        assert_eq!(clock(0).severity, Severity::Error);
        assert_eq!(clock(MADE - 1).severity, Severity::Error);
        assert_eq!(clock(MADE + 315_576_000_000_001).severity, Severity::Error);
        let right = clock(MADE + 1_000_000);
        assert_eq!(right.severity, Severity::Ok);
        assert!(right.text.contains("2026-01-01T00:00:01Z"), "{}", right.text);
    }
}
