//! Table: every setting there is.

mod access;
mod storage;
mod traces;
mod calls;
mod nats;
mod process;
mod topics;

use std::sync::LazyLock;

use super::forms;
use super::upstream::{NO_EFFECT, SWITCHES};
use super::value::Kind;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name: the protocol's own, or `TIDEGATE_*`.
    pub name: &'static str,
    /// What it holds: unit and range.
    pub kind: Kind,
    /// What it is when nobody sets it.
    pub default: Default,
    /// What it means.
    pub doc: &'static str,
    /// What else to say about a wrong value.
    pub hint: Option<&'static str>,
}

/// What a setting is when nobody sets it.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// Nothing.
    Unset,
    /// This, as a user would write it.
    Is(&'static str),
    /// That many thousandths of the memory that the process may use.
    Thousandths(u64),
    /// This, or that many thousandths of the memory that the process may use if that is less.
    IsOrThousandths(&'static str, u64),
}

const PORT: i64 = 65_535;
const MINUTE: u64 = 60_000;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// What a rate limit takes.
const RATE: Kind =
    Kind::Form("calls per second or minute, such as 100/s, or with a burst 100/s:200", forms::rate);
/// Elixir's levels and tracing's.
const LEVELS: &[&str] = &[
    "trace",
    "all",
    "debug",
    "info",
    "notice",
    "warn",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
    "off",
    "none",
];

const fn setting(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Setting {
    Setting { name, kind, default, doc, hint: None }
}

/// All settings: ours, then those of upstream that have no effect here.
pub static TABLE: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let ignored = NO_EFFECT.iter().flat_map(|(why, names)| {
        let row = |name: &&'static str| {
            let takes = if SWITCHES.contains(name) { &Kind::Switch } else { &Kind::Text };
            setting(name, Kind::Ignored(why, takes), Default::Unset, "No effect here.")
        };
        names.iter().map(row)
    });
    let effective = [
        access::SETTINGS,
        storage::SETTINGS,
        calls::SETTINGS,
        topics::SETTINGS,
        nats::SETTINGS,
        process::SETTINGS,
        traces::SETTINGS,
    ];
    effective.into_iter().flatten().copied().chain(ignored).collect()
});

/// Former names, with the name of today. They work, with a warning at start.
pub(super) const FORMER: &[(&str, &str)] = &[
    ("TIDEGATE_DOOR_EVENTS", "TIDEGATE_ADMISSION_EVENTS"),
    ("TIDEGATE_DOOR_BYTES", "TIDEGATE_ADMISSION_BYTES"),
];
