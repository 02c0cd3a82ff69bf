//! Text: the lines of a scrape.

use std::fmt::{Arguments, Write};

use tidegate_pipeline::metrics::Kind;

/// Writes what a scrape says of a metric before its values.
pub(super) fn heading(text: &mut String, name: &str, kind: Kind, help: &str) {
    line(text, format_args!("# HELP {name} {}", help.trim()));
    line(text, format_args!("# TYPE {name} {}", kind.as_str()));
}

#[expect(clippy::let_underscore_must_use, reason = "a string takes everything")]
pub(super) fn line(text: &mut String, line: Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}
