//! Files: what settings name besides certificates: policies, users, keys of tokens, descriptors, and credentials for NATS. They
//! are read as a start reads them.

use super::Finding;
use crate::config::Settings;
use crate::ingress::{Auth, AuthOptions};
use crate::nats::NatsAuth;
use crate::policies::PolicyFolder;
use crate::wire::json::Types;

/// A finding for each that is set.
pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(policies(&settings.policies));
    let auth = &settings.http.auth;
    if let Some(file) = &auth.users {
        let users = AuthOptions { token_keys: None, ..auth.clone() };
        let text = format!("{}: names and hashes can be read", file.display());
        found.push(credentials("users", users, text, "TIDEGATE_USERS"));
    }
    if let Some(file) = &auth.token_keys {
        let keys = AuthOptions { users: None, ..auth.clone() };
        let text = format!("{}: the keys can be used", file.display());
        found.push(credentials("tokens", keys, text, "TIDEGATE_TOKEN_KEYS"));
    }
    if let Some(file) = &settings.descriptors {
        found.push(match Types::load(Some(file)) {
            Ok(_) => Finding::ok("types", format!("{}: its types are known", file.display())),
            Err(error) => unusable("types", &error, "TIDEGATE_DESCRIPTORS"),
        });
    }
    found
}

/// The file that is shown to NATS, if it is used: calls and broadcasts have the same one.
pub(super) async fn of_nats(settings: &Settings) -> Option<Finding> {
    let about = "nats";
    let mut connections = [&settings.nats.calls, &settings.nats.broadcasts].into_iter().flatten();
    let file = connections.find_map(|options| options.auth.file())?;
    let auth = NatsAuth::Credentials(file.to_owned());
    Some(match auth.check().await {
        Ok(()) => Finding::ok(about, format!("{}: credentials can be read", file.display())),
        Err(error) => unusable(about, &error, "TIDEGATE_NATS_CREDS_FILE"),
    })
}

/// `None`: there is no directory, and nobody named one.
fn policies(folder: &PolicyFolder) -> Option<Finding> {
    let about = "policies";
    match folder.load() {
        Ok(policies) if policies.is_empty() && !folder.is_given => None,
        Ok(policies) => {
            let (shown, count) = (folder.path.display(), policies.iter().count());
            let policies = if count == 1 { "policy" } else { "policies" };
            Some(Finding::ok(about, format!("{shown}: {count} {policies}")))
        }
        Err(error) => Some(unusable(about, &error, "TIDEGATE_POLICIES_DIR")),
    }
}

/// `options` name one file only, so that each has its finding.
fn credentials(
    about: &'static str,
    options: AuthOptions,
    text: String,
    setting: &'static str,
) -> Finding {
    match Auth::open(options, None) {
        Ok(_) => Finding::ok(about, text),
        Err(error) => unusable(about, &error, setting),
    }
}

fn unusable(about: &'static str, error: &dyn std::error::Error, setting: &str) -> Finding {
    Finding::error(about, format!("{error}; a start fails (64): {setting} says what is read"))
}
