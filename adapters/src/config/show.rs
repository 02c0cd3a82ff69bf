//! Show: the settings as a user reads them.

use std::fmt::Write;

use serde_json::json;

use super::table::{Default, Setting, TABLE};
use super::upstream::NO_EFFECT;
use super::value::Kind;
use super::{Config, Source, trust};

const UNSET: &str = "(unset)";

/// The effective settings with their values, secrets masked. What has no effect is there only if it is set.
fn shown(config: &Config) -> impl Iterator<Item = (&'static str, Option<String>, &Source)> {
    config.iter().filter_map(|(setting, effective)| {
        let is_ignored = matches!(setting.kind, Kind::Ignored(..));
        if is_ignored && effective.source == Source::Default {
            return None;
        }
        let value = match effective.no_effect(setting.kind) {
            // A value without effect may be another program's secret.
            Some(why) => Some(format!("(set; no effect: {why})")),
            None => effective.value.as_ref().map(ToString::to_string),
        };
        Some((setting.name, value, &effective.source))
    })
}

/// The effective settings as JSON, with what [`effective`] says besides.
pub fn effective_json(config: &Config) -> serde_json::Value {
    let settings = shown(config).map(|(name, value, source)| {
        json!({ "name": name, "value": value, "source": source.to_string() })
    });
    json!({
        "settings": settings.collect::<Vec<_>>(),
        "memory": config.memory().to_string(),
        "trust": trust::sentence(config),
    })
}

/// The effective settings, one a line, each with its source.
pub fn effective(config: &Config) -> String {
    let mut text = String::new();
    for (name, value, source) in shown(config) {
        let value = value.as_deref().unwrap_or(UNSET);
        line(&mut text, format_args!("{name} = {value}    # {source}"));
    }
    for name in config.service_links() {
        let why = "(ignored: Kubernetes sets it beside a Service)";
        line(&mut text, format_args!("{name} = {why}    # {}", Source::Environment));
    }
    line(&mut text, format_args!("# {}", config.memory()));
    line(&mut text, format_args!("# {}", trust::sentence(config)));
    text
}

/// All settings with default and meaning, for `--help`.
pub fn help() -> String {
    let mut text = String::from(
        "Settings, in the file of --config, in the environment or by --set NAME=VALUE, the last one winning:\n",
    );
    for setting in TABLE.iter().filter(|setting| !matches!(setting.kind, Kind::Ignored(..))) {
        line(&mut text, format_args!("\n  {} [{}]", setting.name, default(setting)));
        line(&mut text, format_args!("      {} Takes {}.", setting.doc, setting.kind.expected()));
    }
    let ignored = TABLE.iter().filter(|setting| matches!(setting.kind, Kind::Ignored(..)));
    let names: Vec<&str> = ignored.map(|setting| setting.name).collect();
    line(&mut text, format_args!("\nAccepted without effect: {}.", names.join(", ")));
    text
}

/// All settings as `docs/settings.md` shows them: a table, and the names without effect as a list.
pub fn markdown() -> String {
    let mut text =
        String::from("| setting | default | takes | meaning |\n| --- | --- | --- | --- |\n");
    for setting in TABLE.iter().filter(|setting| !matches!(setting.kind, Kind::Ignored(..))) {
        let (name, default, takes) = (setting.name, default(setting), setting.kind.expected());
        line(&mut text, format_args!("| `{name}` | {default} | {takes} | {} |", setting.doc));
    }
    line(&mut text, format_args!("\nAccepted without effect:\n"));
    for (why, names) in NO_EFFECT {
        line(&mut text, format_args!("- {why}: `{}`", names.join("`, `")));
    }
    text
}

fn default(setting: &Setting) -> String {
    match setting.default {
        Default::Unset => "unset".into(),
        Default::Is(text) => {
            setting.kind.parse(text).map_or_else(|_| text.into(), |value| value.to_string())
        }
        Default::Thousandths(part) => of_memory(part),
        Default::IsOrThousandths(text, part) => {
            format!("{text}, at most {}", of_memory(part))
        }
    }
}

fn of_memory(thousandths: u64) -> String {
    let (percent, tenths) = (thousandths / 10, thousandths % 10);
    let percent = if tenths == 0 { percent.to_string() } else { format!("{percent}.{tenths}") };
    format!("{percent} % of the memory limit")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String does not fail");
}
