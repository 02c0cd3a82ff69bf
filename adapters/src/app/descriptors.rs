//! Descriptors: how many files and sockets the process may have open, and who gets them. Clients get what hosts and the store
//! leave, so that many clients are connections refused, and no call that fails at its host or its store.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::config::Settings;

/// For everything else: the runtime, the log, journals and locks, names being looked up.
const OTHERS: u64 = 64;
/// Part of the limit that the store's cache of open files gets, unless that is more than it takes.
const STORE: u64 = 4;
/// Without a limit, for the arithmetic.
const UNLIMITED: u64 = 1 << 30;

/// Who gets how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    limit: u64,
    clients: u64,
    hosts: u64,
    store_files: u64,
}

impl Shares {
    /// Hosts get what they ask for, up to a half of what the store leaves; clients get the rest.
    fn of(limit: u64, clients: u64, hosts: u64, store_files: u64) -> Self {
        let store_files = store_files.min(limit / STORE);
        let free = limit.saturating_sub(OTHERS + store_files);
        let hosts = hosts.min(free / 2).max(1);
        let clients = clients.min(free.saturating_sub(hosts)).max(1);
        Self { limit, clients, hosts, store_files }
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, clients, hosts, store_files } = self;
        if *limit == UNLIMITED {
            f.write_str("files and sockets are not limited")?;
        } else {
            write!(f, "at most {limit} files and sockets may be open")?;
        }
        write!(
            f,
            ": {clients} connections of clients, {hosts} to hosts, {store_files} files of the store"
        )
    }
}

/// Raises the limit of the process as far as it may, and bounds connections and files of the settings by it.
pub(super) fn share(settings: &mut Settings) {
    let asked = (settings.http.limits.connections as u64, u64::from(settings.host_connections));
    let shares = Shares::of(raise(), asked.0, asked.1, settings.store_files as u64);
    let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
    settings.http.limits.connections = count(shares.clients);
    settings.host_connections = u32::try_from(shares.hosts).unwrap_or(u32::MAX);
    settings.host.connections = count(shares.hosts);
    settings.store_files = count(shares.store_files);
    if (shares.clients, shares.hosts) == asked {
        info!("{shares}");
    } else {
        warn!(
            "{shares}; TIDEGATE_HTTP_CONNECTIONS and TIDEGATE_HOST_CONNECTIONS ask for {} and {}: raise the hard limit (ulimit -Hn, LimitNOFILE=) or lower them",
            asked.0, asked.1
        );
    }
}

/// Raises the soft limit to the hard one. Returns what is in force.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if let Err(error) = raised {
        warn!(%error, "the limit of open files and sockets stays as it is");
        return current.unwrap_or(UNLIMITED);
    }
    maximum.unwrap_or(UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_hosts_and_the_store_leave() {
        let shares = |limit| {
            let shares = Shares::of(limit, 10_000, 4_096, 900);
            assert!(shares.clients + shares.hosts + shares.store_files + OTHERS <= limit);
            (shares.clients, shares.hosts, shares.store_files)
        };
        assert_eq!(shares(1 << 20), (10_000, 4_096, 900));
        assert_eq!(shares(UNLIMITED), (10_000, 4_096, 900));
        assert_eq!(shares(8_192), (3_614, 3_614, 900));
        assert_eq!(shares(1_024), (352, 352, 256));
        assert_eq!(shares(256), (64, 64, 64));
        let few = Shares::of(10, 10_000, 4_096, 900);
        assert_eq!((few.clients, few.hosts), (1, 1), "it starts, and says so");
    }
}
