//! `tidegate completions` and `tidegate man`: what a package brings beside the binary, made from the command line itself.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, made, print};
use crate::app::StartError;

const NAME: &str = "tidegate";

/// Prints a script that completes commands and flags in a shell
///
/// For bash: tidegate completions bash > /usr/share/bash-completion/completions/tidegate
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(&self) -> Result<(), StartError> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), NAME, &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}

/// Writes a man page for each command into DIR
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory, such as `/usr/share/man/man1`; pages of the same name are replaced
    dir: PathBuf,
}

impl ManArgs {
    pub(super) fn run(&self) -> Result<(), StartError> {
        let written = fs::create_dir_all(&self.dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.dir));
        written.map_err(|error| made::not_made(&self.dir, &error))?;
        print(&format!("man pages written to {}\n", self.dir.display()))
    }
}
