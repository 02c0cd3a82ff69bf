//! Terminal: colours and tables for people.

use std::io::IsTerminal;

use crate::config;

/// Words that stand out, where the terminal has colours and nobody asks for none (`NO_COLOR`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Colours(bool);

impl Colours {
    pub(crate) fn of_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && config::wants_colours())
    }

    /// Plain text, for other streams.
    pub(crate) fn none() -> Self {
        Self(false)
    }

    /// For what has failed.
    pub(crate) fn red(self, text: &str) -> String {
        self.within("31", text)
    }

    /// For titles.
    pub(crate) fn bold(self, text: &str) -> String {
        self.within("1", text)
    }

    fn within(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Lines of columns: the first is the title, and all but the first column stand to the right.
pub(crate) fn table(title: &[&str], rows: &[Vec<String>], colours: Colours) -> String {
    let width_of = |column: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([title.chars().count()]).max().unwrap_or_default()
    };
    let widths: Vec<_> =
        title.iter().enumerate().map(|(column, title)| width_of(column, title)).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| -> String {
        let cells = cells.zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut text = colours.bold(&line(&mut title.iter().copied())) + "\n";
    for row in rows {
        text += &(line(&mut row.iter().map(String::as_str)) + "\n");
    }
    text
}
