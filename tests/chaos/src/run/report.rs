//! What runs came to, as a line each and as the table of the documentation.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::family::{FAMILIES, Family};
use crate::checker::Judgement;

/// The place of the table in a document.
const BEGIN: &str = "<!-- report: begin -->\n";
const END: &str = "<!-- report: end -->";

/// What one run came to, or several of one family together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The family.
    pub family: String,
    /// How many runs.
    pub runs: u64,
    /// Faults that happened.
    pub faults: usize,
    /// Tasks that were submitted.
    pub submitted: usize,
    /// Those that were acknowledged.
    pub acknowledged: usize,
    /// Those of them that were lost.
    pub lost: usize,
    /// Tasks that had their effect more than once.
    pub ran_twice: usize,
    /// Second ends that were refused.
    pub refused: usize,
    /// The longest time until a killed worker's task ran elsewhere, in ms.
    pub recovery_ms: Option<u64>,
    /// The longest time from the broker's return to the first run, in ms.
    pub return_ms: Option<u64>,
    /// Promises that were broken.
    pub violations: Vec<String>,
}

impl Summary {
    /// Of one run.
    #[must_use]
    pub fn of(family: &Family, judgement: &Judgement) -> Self {
        let ms = |time: Option<std::time::Duration>| time.map(|time| time.as_millis() as u64);
        Self {
            family: family.name.to_owned(),
            runs: 1,
            faults: judgement.faults,
            submitted: judgement.submitted,
            acknowledged: judgement.acknowledged,
            lost: judgement.lost,
            ran_twice: judgement.ran_twice,
            refused: judgement.refused,
            recovery_ms: ms(judgement.worst_recovery),
            return_ms: ms(judgement.worst_return),
            violations: judgement
                .violations
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    /// Adds another run of the same family.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.faults += other.faults;
        self.submitted += other.submitted;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.ran_twice += other.ran_twice;
        self.refused += other.refused;
        self.recovery_ms = self.recovery_ms.max(other.recovery_ms);
        self.return_ms = self.return_ms.max(other.return_ms);
        self.violations.extend(other.violations.iter().cloned());
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} faults, {} tasks acknowledged, {} lost, {} ran twice, {} late ends refused",
            self.faults, self.acknowledged, self.lost, self.ran_twice, self.refused
        );
        if let Some(ms) = self.recovery_ms {
            let _ = write!(
                line,
                ", a killed worker's task ran again within {}",
                seconds(ms)
            );
        }
        if let Some(ms) = self.return_ms {
            let _ = write!(
                line,
                ", first run {} after the broker was back",
                seconds(ms)
            );
        }
        line
    }

    fn row(&self) -> String {
        let about = Family::named(&self.family).map_or("", |family| family.about);
        let store = Family::named(&self.family).map_or("", |family| family.durability.as_str());
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), seconds);
        format!(
            "| {about} | {store} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
            self.runs,
            self.faults,
            self.submitted,
            self.acknowledged,
            self.lost,
            self.ran_twice,
            self.refused,
            time(self.recovery_ms),
            time(self.return_ms)
        )
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

/// The table of these runs, a row a family.
#[must_use]
pub fn table(title: &str, runs: &[Summary]) -> String {
    let mut text = format!(
        "{title}\n\n| faults | store | runs | injected | submitted | acknowledged | lost | ran twice | late ends refused | killed worker's task elsewhere within | first run after the broker's return |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for family in FAMILIES {
        let mut of_family = runs.iter().filter(|run| run.family == family.name);
        if let Some(first) = of_family.next() {
            let mut all = first.clone();
            of_family.for_each(|run| all.add(run));
            text += &all.row();
        }
    }
    text
}

/// Puts a table into its place in a document.
pub fn write(path: &Path, table: &str) -> Result<()> {
    let text =
        fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let begin = text
        .find(BEGIN)
        .context("the document has no place for the report")?
        + BEGIN.len();
    let end = text
        .find(END)
        .context("the place for the report has no end")?;
    fs::write(path, format!("{}{table}{}", &text[..begin], &text[end..]))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_family_are_one_row() {
        let run = |lost, recovery_ms| Summary {
            family: "workers".to_owned(),
            runs: 1,
            lost,
            recovery_ms,
            ..Summary::default()
        };
        let table = table(
            "Title",
            &[run(1, Some(1500)), run(2, None), Summary::default()],
        );
        let rows: Vec<&str> = table.lines().skip(4).collect();
        assert_eq!(rows.len(), 1);
        assert!(
            rows[0].contains("| 2 | 0 | 0 | 0 | 3 |") && rows[0].contains("1.5 s"),
            "{}",
            rows[0]
        );
    }
}
