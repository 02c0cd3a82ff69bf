//! `tidegate reseal`: seals everything with the current key.

use clap::Args;

use super::offline::{settings, with_store};
use super::print;
use crate::app::StartError;
use crate::app::stores::Purpose;
use crate::config::Flags;
use crate::offline::{OfflineError, Progress, Resealed, reseal, systems, systems_with_effects};
use crate::store::only_current;

/// Seals every state in the store of a stopped proxy with the current key
///
/// States in the clear, sealed with a former key, or sealed otherwise than `TIDEGATE_SEALING` says, are written again. It may be
/// interrupted and repeated. After it has finished for all systems, former keys need not be set any more.
#[derive(Debug, Args)]
pub(super) struct ResealArgs {
    /// Only this system; former keys are still needed after that
    #[arg(long)]
    system: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

impl ResealArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let settings = settings(&self.flags)?;
        let vault = &settings.vault;
        let text = with_store(&settings, Purpose::Reseal, async |store| {
            if !vault.seals() {
                let text = "there is no key to seal with: SPAWN_STATESTORE_KEY is not set";
                return Err(StartError::Usage(text.into()));
            }
            let registered = store.registry.load().await.map_err(anyhow::Error::from)?;
            let mut systems = systems(&registered);
            systems.extend(systems_with_effects(&store.states).await?);
            if let Some(system) = &self.system {
                systems.retain(|known| known == system);
                if systems.is_empty() {
                    let text = format!("there is nothing of system {system}");
                    return Err(StartError::Usage(text));
                }
            }
            store.note_key(vault).await?;
            let mut progress = Progress::new("sealing", registered.len() as u64);
            let done = reseal(store.states.clone(), vault, systems, &mut progress).await;
            progress.end();
            let mut text = told(done?);
            if self.system.is_some() {
                text +=
                    "other systems were left out: TIDEGATE_STATESTORE_OLD_KEYS is still needed\n";
            } else if let Some(notes) = &store.notes {
                let noting = |error| OfflineError::Store { doing: "noting the key".into(), error };
                only_current(&**notes, vault).await.map_err(noting)?;
                text += "everything is sealed with SPAWN_STATESTORE_KEY: TIDEGATE_STATESTORE_OLD_KEYS can be dropped\n";
            }
            Ok(text)
        });
        print(&text.await?)
    }
}

fn told(done: Resealed) -> String {
    let Resealed { actors, revisions, heads_written, revisions_written, effects, effects_written } =
        done;
    let states = format!("{heads_written} of {actors} states");
    let revisions = format!("{revisions_written} of {revisions} revisions");
    if effects == 0 {
        return format!("sealed again {states} and {revisions}\n");
    }
    let effects = format!("{effects_written} of {effects} undelivered effects");
    format!("sealed again {states}, {revisions} and {effects}\n")
}
