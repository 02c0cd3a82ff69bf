//! Config: the only reader of the environment.
//!
//! Every setting is a row of [`table::TABLE`], which drives parsing, `tidegate config`, `--help` and `docs/settings.md`.
//! Precedence: flag > environment > file (`--config`, `TIDEGATE_CONFIG`) > default; empty means unset (decision 31). All mistakes
//! are reported at once.

mod table;
mod upstream;
mod forms;
mod lists;
mod value;
mod kubernetes;
mod sources;
mod memory;
mod shares;
mod tls;
mod reader;
mod settings;
mod trust;
mod traces;
mod topics;
mod secret;
mod show;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use settings::{
    AdminListen, Bounds, Database, Drain, HttpSettings, Listen, LogSettings, NatsConnections,
    Settings, TraceSettings,
};
pub use shares::Memory;
pub use show::{effective, effective_json, help, markdown};
pub use sources::{Flags, Source};
pub use table::{Setting, TABLE};
pub use value::{Kind, Value};

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, as it was written.
    pub setting: String,
    /// What is wrong with it.
    pub text: String,
}

/// All that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} mistake(s):", self.0.len())?;
        for Mistake { setting, text } in &self.0 {
            write!(f, "\n  {setting}: {text}")?;
        }
        Ok(())
    }
}

/// A setting's value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The value; `None`: unset, and there is no default, or set to what only another database would read.
    pub value: Option<Value>,
    /// Where it comes from.
    pub source: Source,
}

impl Effective {
    /// Why a value that was given has no effect, if it has none.
    fn no_effect(&self, kind: Kind) -> Option<&'static str> {
        match (kind, &self.source) {
            (_, Source::Default) => None,
            (Kind::Ignored(why, _), _) => Some(why),
            _ if self.value.is_none() => Some(upstream::OF_ANOTHER_DATABASE),
            _ => None,
        }
    }
}

/// The value of every setting, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    values: BTreeMap<&'static str, Effective>,
    service_links: Vec<String>,
    former: Vec<Former>,
    memory_bytes: u64,
}

/// A setting that was given under its former name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Former {
    /// The name as it was given.
    pub name: &'static str,
    /// The name of today.
    pub now: &'static str,
}

impl Config {
    /// Reads flags, environment and file.
    ///
    /// # Errors
    /// With all mistakes that were found.
    pub fn load(flags: &Flags) -> Result<Self, Mistakes> {
        let environment = sources::environment();
        let file = match flags.config.clone().or_else(|| sources::config_path(&environment)) {
            Some(path) => Some(sources::file(&path)?),
            None => None,
        };
        let config =
            sources::resolve(&flags.set, &environment, file.as_ref(), memory::limit_bytes())?;
        config.read_secret_files()
    }

    /// Returns the value of a setting and where it comes from.
    ///
    /// # Panics
    /// When the table has no such setting.
    pub fn get(&self, name: &str) -> &Effective {
        self.values.get(name).expect("the table has a row for every setting that is asked for")
    }

    /// A text that is never shown.
    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        self.get(name).value.as_ref().and_then(Value::reveal).map(str::to_owned)
    }

    /// The values in the types that the stages take.
    ///
    /// # Errors
    /// When values contradict each other.
    pub fn settings(&self) -> Result<Settings, Mistakes> {
        Settings::new(self)
    }

    /// Settings that are set and have no effect.
    pub fn without_effect(&self) -> impl Iterator<Item = WithoutEffect> {
        self.iter().filter_map(|(setting, effective)| {
            let why = effective.no_effect(setting.kind)?;
            let setting = setting.name;
            let asks_unless = upstream::ASK_UNLESS.iter().find(|(name, _)| *name == setting);
            let asks = asks_unless.is_some_and(|(_, unless)| {
                effective.value.as_ref().is_some_and(|value| value.to_string() != *unless)
            });
            Some(WithoutEffect { setting, why, asks })
        })
    }

    /// Names in the environment that Kubernetes sets for a Service called `tidegate`. They are ignored.
    pub fn service_links(&self) -> &[String] {
        &self.service_links
    }

    /// The bounds in bytes beside the memory limit.
    pub fn memory(&self) -> Memory {
        Memory::of(self)
    }

    /// Settings that were given under their former names.
    pub fn former(&self) -> &[Former] {
        &self.former
    }

    /// Every setting, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &Effective)> {
        TABLE.iter().map(|setting| (setting, self.get(setting.name)))
    }
}

/// Where the service manager that started the process wants to be told of its readiness.
pub(crate) fn notify_socket() -> Option<std::ffi::OsString> {
    let socket = std::env::vars_os().find(|(name, _)| name == "NOTIFY_SOCKET");
    socket.map(|(_, socket)| socket).filter(|socket| !socket.is_empty())
}

/// Whether a terminal may have colours: unless `NO_COLOR` is set.
pub(crate) fn wants_colours() -> bool {
    let unwanted = std::env::vars_os().find(|(name, _)| name == "NO_COLOR");
    unwanted.is_none_or(|(_, value)| value.is_empty())
}

/// A setting of Spawn that is set and has no effect here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithoutEffect {
    /// Its name.
    pub setting: &'static str,
    /// Why it has no effect.
    pub why: &'static str,
    /// Whether its value asks for a feature that Tidegate does not have.
    pub asks: bool,
}

/// A file of settings.
#[derive(Debug, Clone)]
struct File {
    path: PathBuf,
    entries: BTreeMap<String, Result<String, String>>,
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
