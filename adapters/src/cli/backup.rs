//! `tidegate backup`: copies the store of a running proxy into a directory.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::Method;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, ProxyArgs, read};
use super::print;
use crate::app::StartError;
use crate::app::stores::not_opened;
use crate::config::{Database, Settings};
use crate::offline::Progress;
use crate::store::{BackupPage, Options, Totals, write_backup};
use crate::telemetry;

const PATH: &str = "/api/v1/backup";
/// Pages that wait to be written.
const PAGES: usize = 1;

/// Copies everything that a running proxy's embedded store holds into DIR, while calls are served
///
/// The copy holds what the store held when the command began, with every change that was acknowledged before. The command reads the
/// copy to its end before it succeeds. Sealed states stay sealed: `tidegate restore-backup` needs no key, but the proxy does.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    /// The directory for the copy; it must be empty, or not be there yet
    dir: PathBuf,
    /// How much is read from the proxy per second at most, in MiB
    #[arg(long, value_name = "MIB", default_value = "32")]
    rate: NonZeroU32,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

#[derive(Debug, Deserialize)]
struct Begun {
    id: String,
    about_bytes: u64,
}

impl BackupArgs {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let client = Client::new(&self.proxy_args)?;
        telemetry::log(&client.settings.log)?;
        only_embedded(&client.settings)?;
        let (pages, written) = flume::bounded(PAGES);
        let dir = self.dir.clone();
        // Nothing is asked of the proxy before the directory was found to be empty.
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let writing = tokio::task::spawn_blocking(move || {
            let pages = std::iter::once_with(move || ready.send(()).is_ok());
            let pages = pages.flat_map(|_| written.clone());
            let mut progress = None;
            let done = write_backup(&dir, &Options::default(), pages, |bytes| {
                let progress = progress.get_or_insert_with(|| Progress::new("verifying", 0));
                progress.at(bytes, || megabytes(bytes));
            });
            progress.into_iter().for_each(Progress::end);
            done
        });
        let copied = match is_ready.await {
            Ok(()) => copy(&client, self.rate, pages).await,
            // The directory cannot be used, and the writer says why.
            Err(_) => Ok(()),
        };
        let written = writing.await.map_err(anyhow::Error::from)?;
        // When both fail, the writer only says that the copy broke off.
        copied?;
        let Totals { entries, bytes, .. } = written.map_err(|error| not_opened(&error, ""))?;
        let dir = self.dir.display();
        print(&format!("backed up {entries} entries ({bytes} bytes) to {dir}, and verified them\n"))
    }
}

/// Refuses stores that have no directory.
pub(super) fn only_embedded(settings: &Settings) -> Result<(), StartError> {
    match settings.database {
        Database::Embedded => Ok(()),
        Database::Scylla(_) => Err(StartError::Usage(
            "states are kept in a database, which has its own backups: ScyllaDB Manager, `nodetool snapshot` on every node, \
             or Medusa for Cassandra; `tidegate export` writes a file with the proxy stopped"
                .into(),
        )),
        Database::Memory => Err(StartError::Usage(
            "PROXY_DATABASE_TYPE=memory keeps nothing that could be backed up".into(),
        )),
    }
}

/// Fetches page after page and hands it to the writer, within the rate.
async fn copy(
    client: &Client,
    rate: NonZeroU32,
    pages: flume::Sender<BackupPage>,
) -> anyhow::Result<()> {
    let begun: Begun = read(&post(client, PATH).await?)?;
    let path = format!("{PATH}/{}", begun.id);
    let mut progress = Progress::new("copying", begun.about_bytes);
    let (started, mut copied) = (Instant::now(), 0_u64);
    loop {
        let page = post(client, &path).await?;
        let page =
            BackupPage::decode(&page).context("the proxy sent what is no page of a backup")?;
        let is_last = page.totals.is_some();
        copied += page.bytes;
        progress.at(copied, || megabytes(copied));
        // The writer has ended only if it failed; it says why.
        if pages.send_async(page).await.is_err() || is_last {
            progress.end();
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "a delay need not be exact")]
        let due = Duration::from_secs_f64(copied as f64 / (f64::from(rate.get()) * 1_048_576.0));
        sleep_until(started + due).await;
    }
}

async fn post(client: &Client, path: &str) -> anyhow::Result<Bytes> {
    client.send(Method::POST, path).await.map_err(anyhow::Error::from)
}

fn megabytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
