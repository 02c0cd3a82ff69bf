//! Confirm: asks before many things are changed. Without a terminal only `--yes` says so.

use std::io::{IsTerminal, Write};

use anyhow::{Context, anyhow};

use super::print;
use crate::app::StartError;

/// Asks at the terminal whether to do this, such as `drop 3 dead letters`.
///
/// # Errors
/// When the answer is no, or there is no terminal: then nothing must be done.
pub(super) fn confirm(what: &str) -> Result<(), StartError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let text = format!("nothing is done: nobody can be asked whether to {what}, --yes does it");
        return Err(anyhow!(text).into());
    }
    print(&format!("{what}? [y/N] "))?;
    std::io::stdout().flush().context("the question cannot be shown")?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).context("the answer cannot be read")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing is done").into()),
    }
}
