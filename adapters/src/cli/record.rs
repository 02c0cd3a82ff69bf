//! `tidegate record`: writes a recording of a running proxy into a file.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde::Deserialize;

use super::client::{Client, ProxyArgs, read};
use super::{made, print, say};
use crate::app::StartError;

const EXAMPLES: &str = "\
Examples:
  tidegate record before-restart.json
  tidegate record - | gzip > recording.json.gz
  tidegate record --proxy 10.0.0.7:9002 recording.json     an admin port elsewhere

The console of any Tidegate opens the file, at #record.";

/// Writes what the console shows, of the last ten minutes, into a file, for a bug report; no states, payloads or secrets
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Record {
    /// The file, which only its owner may read; `-`: stdout
    file: PathBuf,
    /// Replaces a file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    proxy_args: ProxyArgs,
}

/// What is said of a recording.
#[derive(Debug, Deserialize)]
struct Told {
    address: String,
    recorded_at: String,
    looks: Vec<serde::de::IgnoredAny>,
}

impl Record {
    pub(super) async fn run(self) -> Result<(), StartError> {
        let is_stdout = self.file == Path::new("-");
        if !is_stdout && !self.force && self.file.exists() {
            return Err(self.exists());
        }
        let mut client = Client::new(&self.proxy_args)?;
        if !client.is_given {
            client.ask_admin_port()?;
        }
        let asked = client.send(Method::GET, "/admin/record").await;
        let recording = asked.map_err(anyhow::Error::from)?;
        let Told { address, recorded_at, looks } = read(&recording)?;
        if is_stdout {
            return print(&String::from_utf8_lossy(&recording));
        }
        self.write(&recording)?;
        let (size, file) = (recording.len(), self.file.display());
        say(&format!(
            "{file}: {size} bytes, {} looks at {address}, recorded at {recorded_at}",
            looks.len()
        ));
        Ok(())
    }

    fn write(&self, recording: &[u8]) -> Result<(), StartError> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).create_new(true);
        let opened = if self.force {
            // A new file, whose mode is this one, takes the place of one that is there.
            match std::fs::remove_file(&self.file) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => options.open(&self.file),
            }
        } else {
            options.open(&self.file)
        };
        match opened {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(self.exists()),
            opened => made::write(&self.file, opened, recording),
        }
    }

    fn exists(&self) -> StartError {
        let file = self.file.display();
        StartError::NotMade(format!("{file} is there already: nothing is written without --force"))
    }
}
