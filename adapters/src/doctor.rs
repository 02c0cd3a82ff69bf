//! Doctor: looks at everything that a start needs and says what is wrong and what to do. Changes nothing.
//!
//! Each check is the one that the start makes. A check that finds nothing wrong says what it has seen.

mod certificates;
mod files;
mod finding;
mod machine;
mod storage;

use crate::app::StartError;
use crate::app::notices;
use crate::config::{Config, Flags, Settings};
pub(crate) use finding::{Finding, Severity};

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

/// Everything but the settings themselves.
pub(crate) async fn examine(settings: &Settings) -> Result<Vec<Finding>, StartError> {
    let mut found = machine::examine(settings);
    found.extend(certificates::examine(settings));
    found.extend(files::examine(settings));
    found.extend(storage::examine(settings).await?);
    Ok(found)
}
