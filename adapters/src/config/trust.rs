//! Trust: the settings that say who may do what, and browsers from where.

use std::net::IpAddr;
use std::path::Path;

use super::Config;
use super::lists::{parse_names, parse_networks, parse_origins};
use super::reader::Reader;
use super::sources::Source;
use super::value::Value;
use crate::ingress::{AdminToken, Trust, UserFunction};
use crate::net::UNIX_PREFIX;

/// Who may do what, in two sentences.
pub(super) fn sentence(config: &Config) -> String {
    let reader = Reader(config);
    let (trust, machine) = (reader.trust(), reader.user_function());
    let mut trusted = Vec::new();
    if trust.loopback {
        trusted.push("clients over loopback".to_owned());
    }
    trusted.push("clients of the Unix socket".to_owned());
    let is_loopback = |machine: &str| machine.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let machine = machine.filter(|machine| trust.loopback || !is_loopback(machine));
    trusted.extend(machine.map(|machine| format!("the machine {machine} (USER_FUNCTION_HOST)")));
    trusted.extend(trust.peers.iter().map(|network| format!("{network} (TIDEGATE_TRUSTED_PEERS)")));
    let administrators = match (&trust.admin_token, trust.loopback) {
        (Some(_), _) => {
            trusted.push("holders of TIDEGATE_ADMIN_TOKEN".to_owned());
            "only holders of TIDEGATE_ADMIN_TOKEN"
        }
        (None, true) => "clients of this machine, until TIDEGATE_ADMIN_TOKEN is set",
        (None, false) => "clients of the Unix socket, until TIDEGATE_ADMIN_TOKEN is set",
    };
    let (whoever, allowed) = (reader.whoever(), reader.allowed());
    format!(
        "trust: whoever {whoever} may invoke and read current states{allowed}; {} may register and spawn; {administrators} may delete, checkpoint, restore and read histories",
        trusted.join(", ")
    )
}

impl Reader<'_> {
    /// What a client has to show to be served.
    fn whoever(&self) -> String {
        let mut shown = Vec::new();
        let has_roots = self.value("TIDEGATE_TLS_CLIENT_CA").is_some();
        if has_roots && self.text("TIDEGATE_TLS_CLIENT_AUTH") == "required" {
            shown.push("a client certificate (TIDEGATE_TLS_CLIENT_CA)");
        }
        match self.text("TIDEGATE_AUTHENTICATION").as_str() {
            "always" => shown.push("a token or password (TIDEGATE_AUTHENTICATION)"),
            "network" => shown.push(
                "a token or password (TIDEGATE_AUTHENTICATION; not clients that are trusted for where they are)",
            ),
            _ => {}
        }
        if shown.is_empty() {
            return "reaches the proxy".into();
        }
        format!("shows {}", shown.join(" and "))
    }

    /// What else a call needs. The default directory counts when it is there.
    fn allowed(&self) -> String {
        let folder = self.text("TIDEGATE_POLICIES_DIR");
        let is_given = self.0.get("TIDEGATE_POLICIES_DIR").source != Source::Default;
        if !is_given && !Path::new(&folder).is_dir() {
            return String::new();
        }
        format!(" where the policies in {folder} allow it")
    }

    pub(super) fn trust(&self) -> Trust {
        let token = self.value("TIDEGATE_ADMIN_TOKEN").and_then(Value::reveal);
        let parsed = |name, parse: fn(&str) -> Result<Vec<String>, String>| {
            parse(&self.text(name)).expect("it was checked")
        };
        Trust {
            loopback: self.switch("TIDEGATE_TRUST_LOOPBACK"),
            peers: parse_networks(&self.text("TIDEGATE_TRUSTED_PEERS")).expect("it was checked"),
            user_function: self.user_function().map(UserFunction::new),
            admin_token: token.map(AdminToken::new),
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
