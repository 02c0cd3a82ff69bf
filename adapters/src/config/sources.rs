//! Sources: flags, environment, file and defaults become one set of values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::kubernetes::is_service_link;
use super::shares::share;
use super::table::{Default, FORMER, Setting, TABLE};
use super::value::{Kind, Value};
use super::{Config, Effective, File, Former, Mistake, Mistakes};

/// Prefix of Tidegate's own names. An unknown name with it is a mistake.
pub(super) const OURS: &str = "TIDEGATE_";
/// The setting that names the file.
pub(super) const CONFIG: &str = "TIDEGATE_CONFIG";
/// Prefix of the settings of Spawn's database.
const OF_DATABASE: &str = "PROXY_DATABASE_";
/// The one of these that says which database is used.
const DATABASE: &str = "PROXY_DATABASE_TYPE";

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// The environment.
    Environment,
    /// A file.
    File(PathBuf),
    /// The setting is not set.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Settings on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// A TOML file of settings, such as `PROXY_HTTP_PORT = 9001`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one setting; may be given many times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
}

fn pair(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// Returns the variables of the environment. Text that is not UTF-8 becomes a mistake of its setting.
pub(super) fn environment() -> BTreeMap<String, String> {
    let ours = |name: &str| name.starts_with(OURS) || TABLE.iter().any(|row| row.name == name);
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| ours(name))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

pub(super) fn config_path(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    environment.get(CONFIG).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Reads a file of settings.
///
/// # Errors
/// When it cannot be read or is not TOML.
pub(super) fn file(path: &Path) -> Result<File, Mistakes> {
    let text = std::fs::read_to_string(path).map_err(|error| mistake(path, error.to_string()))?;
    parse(path, &text)
}

fn mistake(path: &Path, text: String) -> Mistakes {
    Mistakes(vec![Mistake { setting: path.display().to_string(), text }])
}

/// Reads the text of a file of settings.
pub(super) fn parse(path: &Path, text: &str) -> Result<File, Mistakes> {
    let told = |error: toml::de::Error| mistake(path, without_its_line(text, &error));
    let table: toml::Table = text.parse().map_err(told)?;
    let entries = table.into_iter().map(|(name, value)| {
        let text = match value {
            toml::Value::String(text) => Ok(text),
            toml::Value::Integer(number) => Ok(number.to_string()),
            toml::Value::Boolean(switch) => Ok(switch.to_string()),
            other => {
                Err(format!("must be text, a number, true or false, not a {}", other.type_str()))
            }
        };
        (name, text)
    });
    Ok(File { path: path.to_owned(), entries: entries.collect() })
}

/// What is wrong and where. The line itself may hold a secret, and so may a number that is too large.
fn without_its_line(text: &str, error: &toml::de::Error) -> String {
    let what = error.message();
    let what = if what.starts_with("invalid type") { "number too large" } else { what };
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|sign| *sign != '\n').count() + 1;
    format!("line {line}, column {column}: {what}")
}

/// Joins all sources. A wrong value of a setting of Spawn's database is a mistake only where such a database is used: Spawn's own
/// values need not fit here.
///
/// # Errors
/// With every mistake in any of them, also in values that another source overrides.
pub(super) fn resolve(
    flags: &[(String, String)],
    environment: &BTreeMap<String, String>,
    file: Option<&File>,
    memory_bytes: u64,
) -> Result<Config, Mistakes> {
    let (mut mistakes, mut service_links) = (Vec::new(), Vec::new());
    let (mut by_former, mut of_database) = (BTreeMap::new(), Vec::new());
    let mut found: BTreeMap<&'static str, Effective> =
        TABLE.iter().map(|setting| (setting.name, default(setting, memory_bytes))).collect();
    // The source of the lowest precedence goes first; each later one overrides it.
    let from_file = file.into_iter().flat_map(|file| {
        let source = Source::File(file.path.clone());
        file.entries.iter().map(move |(name, value)| (name, value.clone(), source.clone()))
    });
    let from_environment =
        environment.iter().map(|(name, value)| (name, Ok(value.clone()), Source::Environment));
    let from_flags = flags.iter().map(|(name, value)| (name, Ok(value.clone()), Source::Flag));
    for (name, given, source) in from_file.chain(from_environment).chain(from_flags) {
        let mut wrong = |text: String| {
            let setting = format!("{name} ({source})");
            mistakes.push(Mistake { setting, text });
        };
        let former = FORMER.iter().find(|(former, _)| former == name);
        let now = former.map_or(name.as_str(), |(_, now)| now);
        let Some(setting) = TABLE.iter().find(|setting| setting.name == now) else {
            match given {
                Ok(value)
                    if source == Source::Environment
                        && name
                            .strip_prefix(OURS)
                            .is_some_and(|rest| is_service_link(rest, &value)) =>
                {
                    service_links.push(name.clone());
                }
                _ => wrong(unknown(name)),
            }
            continue;
        };
        let given = match given {
            Ok(given) if given.is_empty() => continue,
            Ok(given) => given,
            Err(text) => {
                wrong(text);
                continue;
            }
        };
        match setting.kind.parse(&given) {
            Ok(value) => {
                let effective = Effective { value: Some(value), source };
                match former {
                    Some((former, now)) => {
                        by_former.insert(Former { name: former, now }, effective)
                    }
                    None => found.insert(setting.name, effective),
                };
            }
            Err(text) if setting.name.starts_with(OF_DATABASE) && setting.name != DATABASE => {
                of_database.push(Mistake { setting: format!("{name} ({source})"), text });
                found.insert(setting.name, Effective { value: None, source });
            }
            Err(text) => wrong(match setting.hint {
                Some(hint) => format!("{text}; {hint}"),
                None => text,
            }),
        }
    }
    if found[DATABASE].value == Some(Value::Text("scylla".into())) {
        mistakes.append(&mut of_database);
    }
    let former = by_former.keys().copied().collect();
    for (Former { name, now }, effective) in by_former {
        if found[now].source == Source::Default {
            found.insert(now, effective);
        } else if found[now].value != effective.value {
            let text =
                format!("is the former name of {now}, which is given too and says otherwise");
            mistakes.push(Mistake { setting: format!("{name} ({})", effective.source), text });
        }
    }
    if mistakes.is_empty() {
        Ok(Config { values: found, service_links, former, memory_bytes })
    } else {
        Err(Mistakes(mistakes))
    }
}

fn default(setting: &Setting, memory_bytes: u64) -> Effective {
    let parsed = |text| setting.kind.parse(text).expect("a default fits its own setting");
    let of_memory = |part| {
        let Kind::Bytes { min, max } = setting.kind else {
            unreachable!("only sizes have a share of the memory")
        };
        share(memory_bytes, part).clamp(min, max)
    };
    let value = match setting.default {
        Default::Unset => None,
        Default::Is(text) => Some(parsed(text)),
        Default::Thousandths(part) => Some(Value::Bytes(of_memory(part))),
        Default::IsOrThousandths(text, part) => match parsed(text) {
            Value::Bytes(bytes) => Some(Value::Bytes(bytes.min(of_memory(part)))),
            other => Some(other),
        },
    };
    Effective { value, source: Source::Default }
}

/// Returns the error of an unknown setting, with the nearest known name.
fn unknown(name: &str) -> String {
    let names = TABLE.iter().filter(|setting| !matches!(setting.kind, Kind::Ignored(..)));
    let likeness = |known: &str| strsim::sorensen_dice(without_owner(name), without_owner(known));
    let nearest = names
        .map(|setting| (likeness(setting.name), setting.name))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let (_, nearest) = nearest.expect("the table has settings");
    format!(
        "there is no such setting; did you mean {nearest}? `tidegate serve --help` lists them all"
    )
}

/// Removes `TIDEGATE_`, `PROXY_` and the like: `TIDEGATE_HTTP_PORT` probably means `PROXY_HTTP_PORT`.
fn without_owner(name: &str) -> &str {
    name.split_once('_').map_or(name, |(_, rest)| rest)
}
