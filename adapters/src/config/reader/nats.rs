//! NATS: where it is, and what it is shown.

use zeroize::Zeroizing;

use super::Reader;
use crate::config::lists::parse_servers;
use crate::config::settings::NatsConnections;
use crate::config::{Mistake, Mistakes, tls};
use crate::nats::{NatsAuth, NatsOptions};

impl Reader<'_> {
    /// Reads the settings of both connections. What has `TIDEGATE_NATS` in its name is for both.
    ///
    /// # Errors
    /// When one setting lacks another.
    pub(super) fn nats(&self) -> Result<NatsConnections, Mistakes> {
        let calls = self.switch("SPAWN_USE_INTERNAL_NATS").then_some("SPAWN_INTERNAL_NATS");
        let broadcasts =
            (self.text("SPAWN_PUBSUB_ADAPTER") == "nats").then_some("SPAWN_PUBSUB_NATS");
        let used: Vec<_> = [calls, broadcasts].into_iter().flatten().collect();
        self.check_credentials(&used)?;
        tls::check_nats(self.0, &used)?;
        let options = |prefix: Option<&str>| prefix.map(|prefix| self.of_nats(prefix)).transpose();
        Ok(NatsConnections { calls: options(calls)?, broadcasts: options(broadcasts)? })
    }

    /// The connection whose settings begin so.
    fn of_nats(&self, prefix: &str) -> Result<NatsOptions, Mistakes> {
        let servers = parse_servers(&self.text(&format!("{prefix}_HOSTS")));
        Ok(NatsOptions {
            servers: servers.expect("they were checked"),
            auth: self.nats_auth(prefix)?,
            tls: tls::nats(self.0, prefix)?,
            longest_pause: self.time("SPAWN_INTERNAL_NATS_BACKOFF_PERIOD"),
        })
    }

    /// Refuses a file of credentials that no connection shows.
    fn check_credentials(&self, used: &[&str]) -> Result<(), Mistakes> {
        let shows_another = |prefix: &&str| self.switch(&format!("{prefix}_AUTH"));
        let is_given = self.value("TIDEGATE_NATS_CREDS_FILE").is_some();
        match used.first() {
            Some(prefix) if is_given && used.iter().all(shows_another) => {
                let text = format!("{prefix}_AUTH is given too: one of them is enough");
                mistake("TIDEGATE_NATS_CREDS_FILE".into(), text)
            }
            _ => Ok(()),
        }
    }

    fn nats_auth(&self, prefix: &str) -> Result<NatsAuth, Mistakes> {
        let name = |name: &str| format!("{prefix}_AUTH{name}");
        if !self.switch(&name("")) {
            let file = self.value("TIDEGATE_NATS_CREDS_FILE").map(ToString::to_string);
            return Ok(file.map_or(NatsAuth::Nothing, |file| NatsAuth::Credentials(file.into())));
        }
        let secret = |name: String| self.0.secret(&name).map(Zeroizing::new);
        if self.text(&name("_TYPE")) == "jwt" {
            let Some(token) = secret(name("_JWT")) else {
                return mistake(name("_TYPE"), format!("needs {prefix}_AUTH_JWT when it is jwt"));
            };
            return Ok(NatsAuth::Bearer(token));
        }
        let password = secret(name("_PASS"));
        Ok(NatsAuth::Password {
            user: self.text(&name("_USER")),
            password: password.unwrap_or_else(|| Zeroizing::new("admin".into())),
        })
    }
}

fn mistake<T>(setting: String, text: String) -> Result<T, Mistakes> {
    Err(Mistakes(vec![Mistake { setting, text }]))
}
