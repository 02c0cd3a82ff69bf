//! Finding: what a check has seen.

use std::fmt;

use serde::Serialize;

/// How bad it is, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// The proxy works, but something is lost or refused when it comes to the worst.
    Warning,
    /// The proxy does not start, or refuses calls.
    Error,
}

/// What a check has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What was looked at.
    pub(crate) about: &'static str,
    /// What it is, and what to do.
    pub(crate) text: String,
}

impl Finding {
    pub(crate) fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, about, text: text.into() }
    }

    pub(crate) fn warning(about: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, about, text: text.into() }
    }

    pub(crate) fn error(about: &'static str, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, about, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error => "ERROR",
        };
        write!(f, "{severity:<8} {:<9} ", self.about)?;
        // Further lines stand below the first.
        let mut lines = self.text.lines();
        f.write_str(lines.next().unwrap_or_default())?;
        lines.try_for_each(|line| write!(f, "\n{:<19}{}", "", line.trim_start()))
    }
}
