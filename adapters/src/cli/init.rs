//! Init: writes a first actor, as in `examples/`, with what builds it.

use std::fs::OpenOptions;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{made, print};
use crate::app::StartError;

/// Writes a first actor that speaks JSON, and what builds it; never overwrites
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where; it is made if it is not there
    dir: PathBuf,
    /// In which language
    #[arg(long, value_enum)]
    lang: Language,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    Node,
    Python,
    Go,
    Rust,
}

/// A file: its path below the directory, and its content.
type Page = (&'static str, &'static str);

impl Language {
    /// What is written, and what runs it.
    fn pages(self) -> (&'static [Page], &'static str) {
        match self {
            Self::Node => (
                &[
                    ("counter.mjs", include_str!("../../../examples/node/counter.mjs")),
                    ("package.json", include_str!("../../../examples/node/package.json")),
                ],
                "npm install && npm start",
            ),
            Self::Python => (
                &[
                    ("counter.py", include_str!("../../../examples/python/counter.py")),
                    ("requirements.txt", include_str!("../../../examples/python/requirements.txt")),
                ],
                "pip install -r requirements.txt && python3 counter.py",
            ),
            Self::Go => (
                &[
                    ("main.go", include_str!("../../../examples/go/main.go")),
                    ("go.mod", include_str!("../../../examples/go/go.mod")),
                ],
                "go run .",
            ),
            Self::Rust => (
                &[
                    ("src/main.rs", include_str!("../../../examples/rust/src/main.rs")),
                    ("Cargo.toml", include_str!("../../../examples/rust/Cargo.toml")),
                ],
                "cargo run",
            ),
        }
    }
}

impl InitArgs {
    pub(super) fn run(&self) -> Result<(), StartError> {
        let (pages, start) = self.lang.pages();
        if let Some(there) =
            pages.iter().map(|(name, _)| self.dir.join(name)).find(|path| path.exists())
        {
            let there = there.display();
            return Err(StartError::NotMade(format!(
                "{there} is there already: nothing is written"
            )));
        }
        for (name, content) in pages {
            let path = self.dir.join(name);
            made::directory_of(&path)?;
            let opened = OpenOptions::new().write(true).create_new(true).open(&path);
            made::write(&path, opened, content.as_bytes())?;
        }
        let directory = self.dir.display();
        print(&format!(
            "Written. With `tidegate serve` running:\n  cd {directory} && {start}\n  \
             curl localhost:9001/api/v1/system/demo/actors/counter/invoke -H 'content-type: application/json' -d '{{\"action\": \"increment\"}}'\n"
        ))
    }
}
