//! Offline: shared by the commands that work on the store of a stopped proxy.

use std::time::Duration;

use crate::app::StartError;
use crate::app::stores::{self, OpenStore, Purpose};
use crate::config::{Config, Database, Flags, Settings};
use crate::telemetry;

/// Time limit for closing the store.
const CLOSING: Duration = Duration::from_mins(1);

/// Reads the settings and starts the log.
pub(super) fn settings(flags: &Flags) -> Result<Settings, StartError> {
    let settings = Config::load(flags)?.settings()?;
    telemetry::log(&settings.log)?;
    if matches!(settings.database, Database::Memory) {
        let text = "PROXY_DATABASE_TYPE=memory keeps nothing that another process could read";
        return Err(StartError::Usage(text.into()));
    }
    Ok(settings)
}

/// Opens the store, runs the work, and closes the store even if the work fails.
pub(super) async fn with_store<T>(
    settings: &Settings,
    purpose: Purpose,
    work: impl AsyncFnOnce(&OpenStore) -> Result<T, StartError>,
) -> Result<T, StartError> {
    let store = stores::open(settings, purpose).await?;
    let done = work(&store).await;
    store.close(CLOSING).await;
    done
}

/// Tells of effects that are moved too, if there are any.
pub(super) fn with_effects(outbox: u64) -> String {
    if outbox == 0 { String::new() } else { format!(", with {outbox} undelivered effects") }
}
