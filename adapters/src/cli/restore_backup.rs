//! `tidegate restore-backup`: makes a data directory of a backup.

use std::path::PathBuf;

use clap::Args;

use super::backup::only_embedded;
use super::offline::settings;
use super::print;
use crate::app::StartError;
use crate::app::stores::not_opened;
use crate::config::Flags;
use crate::offline::Progress;
use crate::store::{OpenError, Options, Totals, restore_backup};

/// Makes the data directory of a stopped proxy of what `tidegate backup` wrote
///
/// The data directory (`TIDEGATE_DATA_DIR`) must be empty, or not be there yet. The backup is read to its end and stays as it is.
/// Changes that were acknowledged after the backup began are not in the backup. Do not run the backed-up proxy beside the restored one.
#[derive(Debug, Args)]
pub(super) struct RestoreBackupArgs {
    /// The backup
    dir: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

impl RestoreBackupArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let settings = settings(&self.flags)?;
        only_embedded(&settings)?;
        let (from, to) = (self.dir.clone(), settings.data_dir.clone());
        let restoring = tokio::task::spawn_blocking(move || {
            let mut progress = Progress::new("verifying", 0);
            let done = restore_backup(&from, &to, &Options::default(), |bytes| {
                progress.at(bytes, || format!("{} MiB", bytes >> 20));
            });
            progress.end();
            done
        });
        let restored = restoring.await.map_err(anyhow::Error::from)?;
        let Totals { entries, bytes, .. } = restored.map_err(|error| match error {
            // Of the backup nothing is written: what failed there is reading it.
            OpenError::Io { path, source } if path.starts_with(&self.dir) => {
                let doing = format!("cannot read {}", path.display());
                StartError::File { doing, error: source }
            }
            error => not_opened(&error, ""),
        })?;
        let to = settings.data_dir.display();
        print(&format!("restored {entries} entries ({bytes} bytes) to {to}, and verified them\n"))
    }
}
