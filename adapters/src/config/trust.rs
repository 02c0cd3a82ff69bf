//! Trust: the settings that say who may do what, and browsers from where.

use super::lists::{parse_names, parse_networks, parse_origins};
use super::reader::Reader;
use crate::ingress::{AdminToken, Trust, UserFunction};
use crate::net::UNIX_PREFIX;

impl Reader<'_> {
    pub(super) fn trust(&self) -> Trust {
        let token = self.value("TIDEGATE_ADMIN_TOKEN");
        let parsed = |name, parse: fn(&str) -> Result<Vec<String>, String>| {
            parse(&self.text(name)).expect("it was checked")
        };
        Trust {
            loopback: self.switch("TIDEGATE_TRUST_LOOPBACK"),
            peers: parse_networks(&self.text("TIDEGATE_TRUSTED_PEERS")).expect("it was checked"),
            user_function: self.user_function().map(UserFunction::new),
            admin_token: token.map(|token| AdminToken::new(token.to_string())),
            origins: parsed("TIDEGATE_ORIGINS", parse_origins),
            host_names: parsed("TIDEGATE_HOST_NAMES", parse_names),
        }
    }

    /// The other machine that hosts of a sidecar run on, if it is another one.
    fn user_function(&self) -> Option<String> {
        let host = self.text("USER_FUNCTION_HOST");
        let is_here = matches!(host.as_str(), "0.0.0.0" | "::" | "[::]" | "localhost")
            || host.starts_with(UNIX_PREFIX);
        (!is_here && self.text("PROXY_DEPLOYMENT_MODE") == "sidecar").then_some(host)
    }
}
