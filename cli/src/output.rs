//! What is printed on standard output: tables for people, JSON lines for programs.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, Table, presets};
use serde::Serialize;

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Colors {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colors {
    /// Whether to write them to a stream that is a terminal or not.
    pub(crate) fn suit(self, terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && !set("NO_COLOR") && !dumb,
        }
    }
}

/// Writes results to standard output. Errors and notes go to standard error instead.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    color: bool,
}

/// How well something is, which is its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Broken.
    Bad,
}

impl Output {
    /// Output for programs (`json`) or people.
    #[must_use]
    pub fn new(json: bool, colors: Colors) -> Self {
        Self {
            json,
            color: colors.suit(io::stdout().is_terminal()),
        }
    }

    /// Whether a program reads it.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Writes bytes as they are, and flushes: what was written has left this process.
    pub fn raw(self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(bytes).and_then(|()| out.flush());
        written.map_err(unwritten)
    }

    /// Writes a line.
    pub fn line(self, text: &str) -> io::Result<()> {
        self.raw(format!("{text}\n").as_bytes())
    }

    /// Writes a value as one line of JSON.
    pub fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        Ok(self.raw(&line)?)
    }

    /// Writes rows under a header, or nothing where there are none.
    pub fn table(self, header: &[&str], rows: Vec<Vec<Cell>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = table(header, rows);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        self.line(&table.trim_fmt())
    }

    /// A text in the colour of `mood`.
    #[must_use]
    pub fn colored(self, text: &str, mood: Mood) -> String {
        let code = match mood {
            Mood::Good => 32,
            Mood::Doubtful => 33,
            Mood::Bad => 31,
        };
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Rows under a header, as text without colours.
#[must_use]
pub fn plain_table(header: &[&str], rows: Vec<Vec<Cell>>) -> String {
    let mut table = table(header, rows);
    table.force_no_tty();
    table.trim_fmt()
}

fn table(header: &[&str], rows: Vec<Vec<Cell>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let header = header
        .iter()
        .map(|title| Cell::new(title.to_uppercase()).add_attribute(Attribute::Bold));
    table.set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell of a table in the colour of `mood`.
#[must_use]
pub fn cell(text: impl ToString, mood: Mood) -> Cell {
    let color = match mood {
        Mood::Good => Color::Green,
        Mood::Doubtful => Color::Yellow,
        Mood::Bad => Color::Red,
    };
    Cell::new(text).fg(color)
}

/// A number that is good at 0, in a table.
#[must_use]
pub fn count(n: u64, otherwise: Mood) -> Cell {
    if n == 0 {
        Cell::new(0)
    } else {
        cell(n, otherwise)
    }
}

/// Says which stream could not be written to.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
pub(crate) fn unwritten(error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("could not write to standard output: {error}"),
    )
}

/// Tells the user something on standard error.
pub fn note(text: &str) {
    // Nobody is left to tell where standard error is closed.
    let _ = writeln!(io::stderr(), "pmq: {text}");
}
