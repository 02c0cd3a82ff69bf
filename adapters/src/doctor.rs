//! Doctor: looks at everything that a start needs and says what is wrong and what to do. Changes nothing.
//!
//! Each check is the one that the start makes. A check that finds nothing wrong says what it has seen.

mod certificates;
mod files;
mod finding;
mod machine;
mod places;
mod storage;

use crate::app::StartError;
use crate::app::notices;
use crate::config::{Config, Flags, Settings};
pub(crate) use finding::{Finding, Severity};
pub(crate) use places::{admin_port, may_listen};

/// The settings, as far as they can be used, and what was found of them.
pub(crate) fn configuration(flags: &Flags) -> (Option<Settings>, Vec<Finding>) {
    let about = "settings";
    let config = match Config::load(flags) {
        Ok(config) => config,
        Err(mistakes) => return (None, vec![Finding::error(about, mistakes.to_string())]),
    };
    let mut found: Vec<_> = notices::of(&config)
        .into_iter()
        .map(|notice| {
            let severity = if notice.is_warning { Severity::Warning } else { Severity::Ok };
            Finding { severity, about, text: notice.text }
        })
        .collect();
    match config.settings() {
        Ok(settings) => (Some(settings), found),
        Err(mistakes) => {
            found.push(Finding::error(about, mistakes.to_string()));
            (None, found)
        }
    }
}

/// What was found of everything but settings and ports.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(crate) found: Vec<Finding>,
    /// Whether a running proxy holds the data directory.
    pub(crate) is_in_use: bool,
}

/// Looks at everything but the settings themselves and the ports.
pub(crate) async fn examine(settings: &Settings) -> Result<Examined, StartError> {
    let mut found = machine::examine(settings);
    found.extend(certificates::examine(settings));
    found.extend(files::examine(settings));
    found.extend(files::of_nats(settings).await);
    found.extend(places::audit_file(settings));
    let (of_store, is_in_use) = storage::examine(settings).await?;
    found.extend(of_store);
    Ok(Examined { found, is_in_use })
}
