//! The figures, for people and for programs.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::plot::Plot;
use crate::stats::median;

/// One figure beside its floors; medians.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it is called in JSON.
    pub name: String,
    /// In what it is measured.
    pub unit: &'static str,
    /// pmq's.
    pub pmq: f64,
    /// The same key operations as plain pipelined commands.
    pub floor: Option<f64>,
    /// The least that plain commands can do.
    pub bare: Option<f64>,
}

impl Figure {
    /// A figure that has no floor yet.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, pmq: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            pmq,
            floor: None,
            bare: None,
        }
    }

    /// The medians of two lists of samples.
    #[must_use]
    pub fn medians(name: &str, unit: &'static str, pmq: Vec<f64>, floor: Vec<f64>) -> Self {
        Self::new(name, unit, median(pmq)).floor(median(floor))
    }

    pub(crate) fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    pub(crate) fn bare(mut self, bare: f64) -> Self {
        self.bare = Some(bare);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.floor
            .filter(|floor| *floor > 0.0)
            .map(|floor| self.pmq / floor)
    }
}

/// Figures that belong together.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// What they are about.
    pub title: String,
    /// What the floor does, and on what it all was measured.
    pub note: String,
    /// The figures.
    pub figures: Vec<Figure>,
    pub(crate) plots: Vec<Plot>,
}

impl Section {
    /// A section without figures.
    #[must_use]
    pub fn new(title: &str, note: &str) -> Self {
        Self {
            title: title.to_owned(),
            note: note.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a figure.
    pub fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In the order in which it was measured.
    pub sections: Vec<Section>,
}

impl Report {
    /// One object: each figure, its floors as `NAME_floor` and `NAME_bare`, and `NAME_ratio` to the floor.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        for figure in self.sections.iter().flat_map(|section| &section.figures) {
            let name = &figure.name;
            let mut add = |suffix: &str, value: Option<f64>| {
                if let Some(value) = value {
                    object.insert(format!("{name}{suffix}"), json!(rounded(value)));
                }
            };
            add("", Some(figure.pmq));
            add("_floor", figure.floor);
            add("_bare", figure.bare);
            add("_ratio", figure.ratio());
        }
        object.into()
    }

    /// A table a section, in Markdown that reads well as it is.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            let _ = writeln!(text, "{}\n", section.title);
            let header = ["figure", "pmq", "floor", "ratio", "bare", "unit"];
            let mut rows = vec![header.map(str::to_owned)];
            rows.extend(section.figures.iter().map(row));
            text.push_str(&aligned(&rows));
            let _ = writeln!(text, "\n{}\n", section.note);
        }
        text
    }
}

fn row(figure: &Figure) -> [String; 6] {
    let number = |value: Option<f64>| value.map_or_else(String::new, shown);
    [
        figure.name.clone(),
        shown(figure.pmq),
        number(figure.floor),
        figure
            .ratio()
            .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        number(figure.bare),
        figure.unit.to_owned(),
    ]
}

/// Rows of a Markdown table, its columns as wide as their longest cell; numbers to the right.
fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match column {
                0 | 5 => write!(text, "| {cell:<width$} "),
                _ => write!(text, "| {cell:>width$} "),
            };
        }
        text.push_str("|\n");
        if i == 0 {
            for (column, width) in widths.iter().enumerate() {
                let rule = "-".repeat(width + 1);
                text.push_str(match column {
                    0 | 5 => "|-",
                    _ => "|",
                });
                text.push_str(&rule);
                if !matches!(column, 0 | 5) {
                    text.push(':');
                }
            }
            text.push_str("|\n");
        }
    }
    text
}

/// With as many digits as are worth reading.
fn shown(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => thousands(value.round() as i64),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: i64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut section = Section::new("Rates", "The floor is plain.");
        section.push(Figure::new("submit", "tasks/s", 200_000.0).floor(250_000.0));
        section.push(Figure::new("size", "MB", 9.5));
        Report {
            sections: vec![section],
        }
    }

    #[test]
    fn json_is_flat() {
        let expected = json!({
            "submit": 200_000.0, "submit_floor": 250_000.0, "submit_ratio": 0.8, "size": 9.5,
        });
        assert_eq!(report().json(), expected);
    }

    #[test]
    fn a_table_is_markdown() {
        let table = report().table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[2],
            "| figure |     pmq |   floor | ratio | bare | unit    |"
        );
        assert_eq!(
            lines[3],
            "|--------|--------:|--------:|------:|-----:|---------|"
        );
        assert_eq!(
            lines[4],
            "| submit | 200,000 | 250,000 |  0.80 |      | tasks/s |"
        );
        assert_eq!(
            lines[5],
            "| size   |    9.50 |         |       |      | MB      |"
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [999, 1000, 1_234_567].map(thousands),
            ["999", "1,000", "1,234,567"]
        );
    }
}
