//! `tidegate export`: writes everything in a store to a file.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use jiff::Timestamp;
use tidegate_stages::ports::Clock;
use tracing::warn;

use super::offline::{settings, with_effects, with_store};
use super::print;
use crate::app::StartError;
use crate::app::stores::Purpose;
use crate::clock::SystemClock;
use crate::config::{Flags, Settings};
use crate::offline::{Export, Exported, Progress, export};

/// Writes everything that the store of a stopped proxy holds into a file, for `tidegate import`
///
/// The file has a JSON object per line: what is registered, then each actor with its history and its latest state. States are
/// in the clear unless --sealed is given; the file is readable by its owner only.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The file; it must not exist yet
    #[arg(value_parser = PathBufValueParser::new().try_map(no_stream))]
    file: PathBuf,
    /// Continues an interrupted export into FILE
    #[arg(long)]
    resume: bool,
    /// Seals states in the file with the key that seals them at rest
    #[arg(long)]
    sealed: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Refuses `-`: an export is written under another name until it is whole, and goes on in its file after an interruption.
fn no_stream(file: PathBuf) -> Result<PathBuf, &'static str> {
    if file == Path::new("-") {
        return Err("an export is not written to stdout: name a file (./- for one of this name)");
    }
    Ok(file)
}

impl ExportArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let settings = settings(&self.flags)?;
        if self.sealed && !settings.vault.seals() {
            let text = "--sealed needs a key, and SPAWN_STATESTORE_KEY is not set";
            return Err(StartError::Usage(text.into()));
        }
        if settings.vault.seals() && !self.sealed {
            warn!("states are written in the clear, though a key is set; --sealed seals them");
        }
        let exported = with_store(&settings, Purpose::Read, async |store| {
            self.export(&settings, store.states.clone(), &*store.registry).await
        });
        let Exported { registered, actors, revisions, outbox, bytes } = exported.await?;
        let file = self.file.display();
        print(&format!(
            "exported {registered} registered entries, {actors} actors and {revisions} revisions{} ({bytes} bytes) to \
             {file}\n",
            with_effects(outbox)
        ))
    }

    async fn export(
        &self,
        settings: &Settings,
        states: std::sync::Arc<dyn tidegate_stages::ports::StateStore>,
        registry: &dyn tidegate_stages::ports::Registry,
    ) -> Result<Exported, StartError> {
        let now = i64::try_from(SystemClock.now().0).unwrap_or_default();
        let now = Timestamp::from_microsecond(now).map_err(anyhow::Error::from)?;
        let job = Export {
            path: &self.file,
            vault: self.sealed.then_some(&*settings.vault),
            resume: self.resume,
            at: &now.to_string(),
        };
        let mut progress = Progress::new("exporting", 0);
        let exported = export(states, registry, job, &mut progress).await;
        progress.end();
        Ok(exported?)
    }
}
