//! Output: whether a command prints for people or for programs.

use clap::{Args, ValueEnum};

/// How a command prints.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// How it is printed: a table for people, or JSON for programs
    #[arg(long, value_enum, value_name = "FORM", default_value = "table")]
    output: Form,
    /// The same as `--output json`
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Json,
}

impl Output {
    /// Whether JSON is asked for.
    pub(super) fn is_json(self) -> bool {
        self.json || self.output == Form::Json
    }
}
