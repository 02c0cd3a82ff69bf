//! NATS: where it is, and what it is shown.

use zeroize::Zeroizing;

use super::Reader;
use crate::config::lists::parse_servers;
use crate::config::{Mistake, Mistakes, tls};
use crate::nats::{NatsAuth, NatsOptions};

impl Reader<'_> {
    /// `None`: it is not used.
    ///
    /// # Errors
    /// When one setting lacks another.
    pub(super) fn nats(&self) -> Result<Option<NatsOptions>, Mistakes> {
        if !self.switch("SPAWN_USE_INTERNAL_NATS") {
            return Ok(None);
        }
        let servers = parse_servers(&self.text("SPAWN_INTERNAL_NATS_HOSTS"));
        Ok(Some(NatsOptions {
            servers: servers.expect("they were checked"),
            auth: self.nats_auth()?,
            tls: tls::nats(self.0)?,
            longest_pause: self.time("SPAWN_INTERNAL_NATS_BACKOFF_PERIOD"),
            calls_at_once: self.small("TIDEGATE_NATS_CALLS") as usize,
        }))
    }

    fn nats_auth(&self) -> Result<NatsAuth, Mistakes> {
        let mistake = |setting: &str, text: &str| {
            Err(Mistakes(vec![Mistake { setting: setting.into(), text: text.into() }]))
        };
        let file = self.value("TIDEGATE_NATS_CREDS_FILE").map(ToString::to_string);
        match (self.switch("SPAWN_INTERNAL_NATS_AUTH"), file) {
            (false, None) => return Ok(NatsAuth::Nothing),
            (false, Some(file)) => return Ok(NatsAuth::Credentials(file.into())),
            (true, Some(_)) => {
                let text = "SPAWN_INTERNAL_NATS_AUTH is given too: one of them is enough";
                return mistake("TIDEGATE_NATS_CREDS_FILE", text);
            }
            (true, None) => {}
        }
        let secret = |name| self.0.secret(name).map(Zeroizing::new);
        if self.text("SPAWN_INTERNAL_NATS_AUTH_TYPE") == "jwt" {
            let Some(token) = secret("SPAWN_INTERNAL_NATS_AUTH_JWT") else {
                let text = "needs SPAWN_INTERNAL_NATS_AUTH_JWT when it is jwt";
                return mistake("SPAWN_INTERNAL_NATS_AUTH_TYPE", text);
            };
            return Ok(NatsAuth::Bearer(token));
        }
        let password = secret("SPAWN_INTERNAL_NATS_AUTH_PASS");
        Ok(NatsAuth::Password {
            user: self.text("SPAWN_INTERNAL_NATS_AUTH_USER"),
            password: password.unwrap_or_else(|| Zeroizing::new("admin".into())),
        })
    }
}
