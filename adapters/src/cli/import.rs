//! `tidegate import`: writes an exported file into a store.

use std::path::PathBuf;

use clap::Args;

use super::offline::{settings, with_effects, with_store};
use super::print;
use crate::app::StartError;
use crate::app::stores::Purpose;
use crate::config::Flags;
use crate::offline::{Import, Imported, check, give_up, import};

/// Writes a file of `tidegate export` into the store of a stopped proxy
///
/// The whole file is checked before anything is written. After an interruption, run it again: it continues. Until it is done,
/// no proxy starts on that store.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The file
    #[arg(required_unless_present = "give_up")]
    file: Option<PathBuf>,
    /// Adds to a store that is not empty; actors that exist already stay as they are
    #[arg(long)]
    merge: bool,
    /// Ends an import that was not finished; what it wrote stays
    #[arg(long, conflicts_with_all = ["file", "merge"])]
    give_up: bool,
    #[command(flatten)]
    flags: Flags,
}

impl ImportArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let settings = settings(&self.flags)?;
        let checked = self.file.as_deref().map(|file| check(file, &settings.vault)).transpose()?;
        let purpose = if self.give_up { Purpose::GiveUp } else { Purpose::Import };
        let done = with_store(&settings, purpose, async |store| {
            let notes = store.notes.as_deref();
            let notes = notes.ok_or_else(|| anyhow::anyhow!("the store keeps no notes"))?;
            let Some(file) = &checked else {
                let was = give_up(notes).await.map_err(anyhow::Error::from)?;
                return Ok(if was { "forgotten" } else { "no import is unfinished" }.to_owned());
            };
            let job = Import { file, vault: &settings.vault, merge: self.merge };
            let done = import(store.states.clone(), &*store.registry, notes, job).await?;
            let Imported { registered, actors, revisions, outbox, kept, differing } = done;
            let there = if kept > 0 {
                format!(
                    "; {kept} of these actors were there already and stay as they were, {differing} of them in another \
                     version"
                )
            } else {
                String::new()
            };
            Ok(format!(
                "imported {registered} registered entries, {actors} actors and {revisions} revisions{}{there}",
                with_effects(outbox)
            ))
        });
        print(&format!("{}\n", done.await?))
    }
}
