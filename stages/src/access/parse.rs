//! Parse: reads the text of a policy file.

use super::list::{Item, List};
use super::{Key, Narrowed, PolicyError, PolicyType};

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) policy_type: PolicyType,
    /// Where it says so; the first line when it does not.
    pub(super) line: u32,
    /// The keys that it names.
    pub(super) narrowed: Vec<Narrowed>,
}

/// Reads a file: lines of `key: value`, empty lines, and lines that begin with `#`.
///
/// # Errors
/// The first mistake, with its line.
pub(super) fn parse(file: &str, text: &str) -> Result<Parsed, PolicyError> {
    let mut parsed = Parsed { policy_type: PolicyType::Allow, line: 1, narrowed: Vec::new() };
    let mut type_line = None;
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let wrong = |text: String| PolicyError { file: file.into(), line, text };
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| wrong(format!("must be `key: value`, not {text:?}")))?;
        let (key, value) = (key.trim(), value.trim());
        if key == "type" {
            if let Some(first) = type_line.replace(line) {
                return Err(wrong(format!("`type` is in line {first} already")));
            }
            (parsed.policy_type, parsed.line) = (policy_type(value).map_err(wrong)?, line);
            continue;
        }
        let key = Key::ALL.into_iter().find(|known| known.name() == key).ok_or_else(|| {
            let known = Key::ALL.map(Key::name).join(", ");
            wrong(format!("{key:?} is no key of a policy, these are: type, {known}"))
        })?;
        if let Some(first) = parsed.narrowed.iter().find(|first| first.key == key) {
            return Err(wrong(format!("`{}` is in line {} already", key.name(), first.line)));
        }
        let list = list(key, value).map_err(wrong)?;
        parsed.narrowed.push(Narrowed { key, line, list, text: value.into() });
    }
    if type_line.is_none() && parsed.narrowed.is_empty() {
        let text = "the file says nothing; `type: allow` alone allows everything".into();
        return Err(PolicyError { file: file.into(), line: 1, text });
    }
    Ok(parsed)
}

fn policy_type(value: &str) -> Result<PolicyType, String> {
    let bare = value.trim_matches(['"', '\'']);
    if bare.eq_ignore_ascii_case("allow") {
        Ok(PolicyType::Allow)
    } else if bare.eq_ignore_ascii_case("deny") {
        Ok(PolicyType::Deny)
    } else {
        Err(format!("`type` must be allow or deny, not {value:?}"))
    }
}

/// Reads `*`, `a, b` or `["a", "b"]`.
fn list(key: Key, value: &str) -> Result<List, String> {
    let inner = match (value.strip_prefix('['), value.strip_suffix(']')) {
        (None, None) => value,
        (Some(_), Some(_)) if value.len() > 1 => &value[1..value.len() - 1],
        _ => {
            return Err(format!("a list begins with [ and ends with ] in one line, not {value:?}"));
        }
    };
    let (mut items, mut is_everything) = (Vec::new(), false);
    let mut rest = inner.trim();
    loop {
        let (item, after) = item(key, rest)?;
        if item == "*" {
            is_everything = true;
        } else {
            items.push(Item::parse(key, item)?);
        }
        match after.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if after.is_empty() => break,
            None => return Err(format!("a comma is missing before {after:?}")),
        }
    }
    Ok(if is_everything { List::Everything } else { List::Values(items) })
}

/// Takes one item off: its text, and what comes after it.
fn item(key: Key, rest: &str) -> Result<(&str, &str), String> {
    for quote in ['"', '\''] {
        if let Some(quoted) = rest.strip_prefix(quote) {
            let (item, after) = quoted
                .split_once(quote)
                .ok_or_else(|| format!("the quote of {rest:?} is not closed"))?;
            return if item.is_empty() {
                Err("a name is empty".into())
            } else {
                Ok((item, after.trim_start()))
            };
        }
    }
    let end = rest.find(',').unwrap_or(rest.len());
    let (item, after) = rest.split_at(end);
    let item = item.trim_end();
    if item.is_empty() {
        return Err("a name is missing; `*` stands for all".into());
    }
    if item.contains(['"', '[', ']', '#']) {
        return Err(format!("{item:?} has to be in quotes; a comment has a line of its own"));
    }
    if item.contains(':') && matches!(key, Key::Actors | Key::ActorSystems | Key::Actions) {
        let text = "is a list in Spawn, which separates names by colons: use commas, or put one name in quotes";
        return Err(format!("{item:?} {text}"));
    }
    Ok((item, after))
}
