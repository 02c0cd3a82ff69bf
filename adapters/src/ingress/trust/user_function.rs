//! User function: the addresses of the machine that `USER_FUNCTION_HOST` names.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// How long a name may take to be looked up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer counts, also that there is none: however many ask, a name is looked up once in that time.
const LOOKUP_COUNTS: Duration = Duration::from_secs(5);

/// The machine of the user function: an address, or a name that is looked up when somebody asks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UserFunction(Arc<Machine>);

#[derive(Debug)]
struct Machine {
    name: String,
    found: Mutex<Option<Found>>,
    /// One lookup at a time.
    looking: Semaphore,
}

#[derive(Debug)]
struct Found {
    until: Instant,
    addresses: Vec<IpAddr>,
}

impl UserFunction {
    /// The machine of this name or address.
    pub fn new(name: String) -> Self {
        Self(Arc::new(Machine { name, found: Mutex::new(None), looking: Semaphore::new(1) }))
    }

    /// Whether the machine has this address. A name that cannot be looked up in time has none.
    pub(super) async fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if let Some(own) = self.own() {
            return own == address;
        }
        if let Some(known) = self.known(address) {
            return known;
        }
        let looking = async {
            // The semaphore is never closed.
            let _one_at_a_time = self.0.looking.acquire().await.ok();
            if let Some(known) = self.known(address) {
                return known;
            }
            let addresses = self.look_up().await;
            let has = addresses.contains(&address);
            let until = Instant::now() + LOOKUP_COUNTS;
            *self.0.found.lock() = Some(Found { until, addresses });
            has
        };
        timeout(2 * LOOKUP_LIMIT, looking).await.unwrap_or(false)
    }

    /// Whether the machine has this address, as far as that is known without a lookup: the last one counts, however long ago
    /// it was. A name that was not looked up yet has none.
    pub(super) fn had(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if let Some(own) = self.own() {
            return own == address;
        }
        self.0.found.lock().as_ref().is_some_and(|found| found.addresses.contains(&address))
    }

    /// The address that stands in place of a name.
    fn own(&self) -> Option<IpAddr> {
        let bare = self.0.name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().ok().map(|own| own.to_canonical())
    }

    /// Whether the last lookup found the address, if it still counts.
    fn known(&self, address: IpAddr) -> Option<bool> {
        let found = self.0.found.lock();
        let found = found.as_ref().filter(|found| Instant::now() < found.until)?;
        Some(found.addresses.contains(&address))
    }

    async fn look_up(&self) -> Vec<IpAddr> {
        let name = &self.0.name;
        match timeout(LOOKUP_LIMIT, lookup_host((name.as_str(), 0))).await {
            Ok(Ok(found)) => found.map(|found| found.ip().to_canonical()).collect(),
            Ok(Err(error)) => {
                warn!(name, %error, "USER_FUNCTION_HOST cannot be looked up");
                Vec::new()
            }
            Err(_) => {
                warn!(name, limit = ?LOOKUP_LIMIT, "USER_FUNCTION_HOST is not looked up in time");
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_has_the_addresses_that_its_name_stands_for() {
        let local: IpAddr = [127, 0, 0, 1].into();
        let elsewhere: IpAddr = [10, 0, 0, 7].into();
        for (name, is_local) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.7", false),
            ("[fd00::1]", false),
            ("nobody.invalid", false),
        ] {
            let machine = UserFunction::new(name.into());
            let is_named = matches!(name, "localhost" | "nobody.invalid");
            assert_eq!(machine.had(local), is_local && !is_named, "{name} is not looked up");
            for _ in 0..2 {
                assert_eq!(machine.has(local).await, is_local, "{name}");
                assert_eq!(machine.has(elsewhere).await, name == "10.0.0.7", "{name}");
                assert_eq!(machine.had(local), is_local, "{name}");
                assert_eq!(machine.had(elsewhere), name == "10.0.0.7", "{name}");
            }
        }
        let six = UserFunction::new("[fd00::1]".into());
        assert!(six.has("fd00::1".parse().unwrap()).await);
    }
}
