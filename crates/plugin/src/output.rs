//! How the plugin prints: tables and screens for people, JSON or YAML for programs; colours only on a terminal.
//!
//! Much of what people read was written by others: names, notes of Events, words of a server. Everything for people goes
//! through [`printable`], so none of it can command a terminal.

use super::{Error, Result, cli::Format};
use anstyle::{AnsiColor, Style};
use roomrobot_core::printable::printable;
use serde::Serialize;
use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
};

/// Where everything goes that the plugin says.
#[derive(Debug)]
pub struct Out {
    format: Format,
    progress: bool,
}

/// What a text is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// The name of something.
    Heading,
    /// All is well.
    Good,
    /// It goes on by itself.
    Waiting,
    /// A person must act.
    Bad,
}

impl Tone {
    fn style(self) -> Style {
        let color = |color: AnsiColor| color.on_default();
        match self {
            Self::Plain => Style::new(),
            Self::Heading => Style::new().bold(),
            Self::Good => color(AnsiColor::Green),
            Self::Waiting => color(AnsiColor::Yellow),
            Self::Bad => color(AnsiColor::Red).bold(),
        }
    }
}

/// A text with its tone, as wide as it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in this tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: printable(&text.into()).into_owned(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Plain)
    }
}

impl Out {
    /// Prints in `format`.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self { format, progress: std::io::stderr().is_terminal() }
    }

    /// Whether a person reads.
    #[must_use]
    pub fn for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints `value` for programs.
    ///
    /// # Errors
    /// If it cannot be written so.
    pub fn value(&mut self, value: &impl Serialize) -> Result<()> {
        let text = match self.format {
            Format::Json => serde_json::to_string_pretty(value).map_err(|error| Error(error.to_string()))?,
            _ => serde_saphyr::to_string(value).map_err(|error| Error(error.to_string()))?,
        };
        self.raw(text.trim_end());
        self.raw("\n");
        Ok(())
    }

    /// Prints text as it is: the program's own, or made for programs. A reader that went away is not an error: `kubectl roomrobot list | head` is fine.
    pub fn raw(&mut self, text: &str) {
        let _ = anstream::stdout().write_all(text.as_bytes());
    }

    /// Prints a line.
    pub fn line(&mut self, text: &str) {
        self.toned(text, Tone::Plain);
    }

    /// Prints a line in a tone.
    pub fn toned(&mut self, text: &str, tone: Tone) {
        let style = tone.style();
        self.raw(&format!("{style}{}{style:#}\n", printable(text)));
    }

    /// Prints a table: the widths are those of the longest cells.
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<Cell>]) {
        let heads: Vec<Cell> = heads.iter().map(|head| Cell::new(*head, Tone::Heading)).collect();
        let mut widths: Vec<usize> = heads.iter().map(|head| head.text.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        for row in std::iter::once(&heads).chain(rows) {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let style = cell.tone.style();
                let last = at + 1 == row.len();
                let room = if last { 0 } else { width - cell.text.chars().count() + 3 };
                let _ = write!(line, "{style}{}{style:#}{:room$}", cell.text, "");
            }
            self.raw(line.trim_end());
            self.raw("\n");
        }
    }

    /// Tells on standard error how long work goes on, if a person sees it; the next line writes over it.
    pub fn progress(&self, what: &str) {
        if self.progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K{} ...", printable(what));
        }
    }

    /// The work is over.
    pub fn progress_over(&self) {
        if self.progress {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    /// Says something beside the result, on standard error.
    pub fn note(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{}", printable(text));
    }
}

/// A span as people say it, in its two largest units.
#[must_use]
pub fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match (seconds / 86_400, seconds % 86_400 / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s}s"),
        (0, h, m, _) => format!("{h}h{m}m"),
        (d, h, _, _) => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_as_wide_as_it_reads() {
        let cell = Cell::from("a\n\u{1b}[31m\u{202e}");
        assert_eq!(cell.text, r"a\n\u{1b}[31m\u{202e}");
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in
            [(-3, "0s"), (59, "59s"), (61, "1m1s"), (3660, "1h1m"), (90_000, "1d1h"), (864_000, "10d0h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
