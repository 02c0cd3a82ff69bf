//! Notices: what the proxy says of its settings when it starts, and what `tidegate doctor` says of them.

use crate::config::{Config, Former, WithoutEffect};

/// Something that an operator should know of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Whether it asks for a change.
    pub(crate) is_warning: bool,
    /// What it is, and what to do.
    pub(crate) text: String,
}

/// All notices of these settings.
pub(crate) fn of(config: &Config) -> Vec<Notice> {
    let warning = |text| Notice { is_warning: true, text };
    let mut notices = Vec::new();
    for WithoutEffect { setting, why, asks } in config.without_effect() {
        let what = if asks { "what it asks for is not there" } else { "set, but without effect" };
        notices.push(Notice { is_warning: asks, text: format!("{setting}: {what}: {why}") });
    }
    if !config.service_links().is_empty() {
        let names = config.service_links().join(" ");
        notices.push(warning(format!(
            "ignored: {names}: Kubernetes sets them beside a Service; `enableServiceLinks: false` in the pod keeps them out"
        )));
    }
    let memory = config.memory();
    notices.push(if memory.fits() {
        Notice { is_warning: false, text: memory.to_string() }
    } else {
        warning(format!(
            "{memory}; what is not counted in bytes may need the memory that they leave"
        ))
    });
    for Former { name, now } in config.former() {
        notices.push(warning(format!("{name} is a former name: the setting is {now} now")));
    }
    notices
}
