//! Filter: which lines are logged. It can be changed while the proxy runs, and is that of the settings again after a restart.

use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::Level;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::reload;

/// The target of the lines of the audit.
const AUDIT: &str = "audit";

/// Targets whose errors are logged by whoever calls them, once. Their own lines are for debugging.
const DRIVERS: [&str; 2] = ["scylla", "async_nats"];

/// Longest filter, in bytes.
const FILTER_BYTES: usize = 4_096;

/// There is one log, hence one filter.
static CONTROL: OnceLock<Control> = OnceLock::new();

struct Control {
    handle: reload::Handle<Targets, Registry>,
    /// The filter of the settings.
    at_start: String,
    now: Mutex<String>,
}

/// A filter is not understood.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a filter: a level (trace, debug, info, warn, error or off), then, after commas, TARGET=LEVEL, such as info,tidegate_stages=debug"
)]
pub(crate) struct NotAFilter(String);

/// The filter of now, and that of the settings.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Filters {
    pub(crate) filter: String,
    pub(crate) at_start: String,
}

/// Returns the layer that filters, for the one log of the process.
///
/// # Errors
/// When there is one already, or the filter is not understood.
pub(crate) fn layer(filter: &str) -> anyhow::Result<reload::Layer<Targets, Registry>> {
    let (layer, handle) = reload::Layer::new(targets(filter)?);
    let control =
        Control { handle, at_start: filter.to_owned(), now: Mutex::new(filter.to_owned()) };
    CONTROL.set(control).map_err(|_| anyhow::anyhow!("the log has been started before"))?;
    Ok(layer)
}

/// The filter of now; `None`: there is no log.
pub(crate) fn current() -> Option<Filters> {
    let control = CONTROL.get()?;
    Some(Filters { filter: control.now.lock().clone(), at_start: control.at_start.clone() })
}

/// Changes the filter; `None`: back to that of the settings.
///
/// # Errors
/// When the filter is not understood.
pub(crate) fn change(filter: Option<&str>) -> Result<Option<Filters>, NotAFilter> {
    let Some(control) = CONTROL.get() else { return Ok(None) };
    let filter = filter.unwrap_or(&control.at_start);
    let wanted = targets(filter)?;
    let mut now = control.now.lock();
    // It fails only when the log is gone.
    if control.handle.reload(wanted).is_ok() {
        filter.clone_into(&mut now);
    }
    drop(now);
    Ok(current())
}

/// Whether the log tells nothing of the audit any more after this [change].
pub(crate) fn silences_the_audit(filter: Option<&str>) -> bool {
    let filter = filter.or_else(|| CONTROL.get().map(|control| &*control.at_start));
    let wanted = filter.and_then(|filter| targets(filter).ok());
    wanted.is_some_and(|wanted| !wanted.would_enable(AUDIT, &Level::ERROR))
}

/// Reads a filter. A target counts for all below it; the longest that is given decides.
fn targets(filter: &str) -> Result<Targets, NotAFilter> {
    let wrong = || NotAFilter(filter.chars().take(200).collect());
    if filter.len() > FILTER_BYTES {
        return Err(wrong());
    }
    let (mut level, mut given) = (None, Vec::new());
    for part in filter.split(',').map(str::trim) {
        match part.split_once('=') {
            None if level.is_none() => level = Some(read(part).ok_or_else(wrong)?),
            Some((target, of_target)) if is_target(target) => {
                given.push((target, read(of_target).ok_or_else(wrong)?));
            }
            _ => return Err(wrong()),
        }
    }
    let level = level.unwrap_or(LevelFilter::INFO);
    let driver = if level >= LevelFilter::DEBUG { level } else { LevelFilter::OFF };
    // Lines of the audit are logged at every level but `off`.
    let audit = if level == LevelFilter::OFF { level } else { level.max(LevelFilter::INFO) };
    let known = DRIVERS.map(|target| (target, driver)).into_iter().chain([(AUDIT, audit)]);
    // Those that are given count more: they come later.
    Ok(Targets::new()
        .with_default(level)
        .with_targets(known)
        .with_targets(given.into_iter().filter(|(target, _)| *target != AUDIT)))
}

fn read(level: &str) -> Option<LevelFilter> {
    Some(match level {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return None,
    })
}

fn is_target(target: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-');
    !target.is_empty() && target.bytes().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_target_decides_and_the_audit_is_always_logged_but_with_off() {
        let wanted = targets("warn,tidegate_stages=debug, tidegate_stages::effects=off").unwrap();
        assert!(wanted.would_enable("tidegate", &Level::WARN));
        assert!(!wanted.would_enable("tidegate", &Level::INFO));
        assert!(wanted.would_enable("tidegate_stages::due", &Level::DEBUG));
        assert!(!wanted.would_enable("tidegate_stages::effects::feed", &Level::ERROR));
        assert!(wanted.would_enable("audit", &Level::INFO));
        assert!(targets("info,audit=off").unwrap().would_enable("audit", &Level::INFO));
        for (filter, silences) in
            [("off", true), ("off,a=info", true), ("error", false), ("loud", false)]
        {
            assert_eq!(silences_the_audit(Some(filter)), silences, "{filter}");
        }
    }

    #[test]
    fn drivers_are_for_debugging_unless_they_are_named() {
        assert!(!targets("info").unwrap().would_enable("scylla::cluster", &Level::ERROR));
        assert!(targets("debug").unwrap().would_enable("scylla::cluster", &Level::DEBUG));
        let named = targets("info,async_nats=warn").unwrap();
        assert!(named.would_enable("async_nats", &Level::WARN));
    }

    #[test]
    fn what_is_not_a_filter_is_refused() {
        let long = format!("info,{}=debug", "x".repeat(FILTER_BYTES));
        for wrong in
            ["", "loud", "info,debug", "info,=debug", "info,a b=debug", "info,a=", "a=loud", &long]
        {
            assert!(targets(wrong).is_err(), "{wrong}");
        }
    }
}
