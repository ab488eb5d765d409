//! The tables of the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::family::{FAMILIES, Family};
use super::report::{Caught, Held, Summary, seconds};

const HEAD: &str = "| faults | store | runs | injected | submitted | acknowledged | lost | ran twice | late ends refused | killed worker's task elsewhere within | first run after the broker's return |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";

/// What runs of families came to, a row a family, and which faults happened how often.
#[must_use]
pub fn of_runs(title: &str, runs: &[Summary]) -> String {
    let mut text = format!("{title}\n\n{HEAD}");
    let mut injected = BTreeMap::new();
    for family in FAMILIES {
        let mut of_family = runs.iter().filter(|run| run.family == family.name);
        if let Some(first) = of_family.next() {
            let mut all = first.clone();
            of_family.for_each(|run| all.add(run));
            text += &row(&family, &all);
            for (name, count) in all.injected {
                *injected.entry(name).or_insert(0) += count;
            }
        }
    }
    let faults: Vec<String> = injected
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let _ = write!(text, "\nThe faults by name: {}.\n", faults.join(", "));
    text
}

fn row(family: &Family, all: &Summary) -> String {
    let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), seconds);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        family.about,
        family.durability.as_str(),
        all.runs,
        all.faults,
        all.submitted,
        all.acknowledged,
        all.lost,
        all.ran_twice,
        all.refused,
        time(all.recovery_ms),
        time(all.return_ms)
    )
}

/// The mutants, and what caught each.
#[must_use]
pub fn of_mutants(caught: &[Caught]) -> String {
    let mut text =
        "| broken library | faults | caught by | and by | for example |\n|---|---|---|---|---|\n"
            .to_owned();
    for one in caught {
        let also = one.also.join(", ");
        let _ = writeln!(
            text,
            "| {} | `{}` | {} | {also} | {} |",
            one.mutant, one.family, one.broke, one.example
        );
    }
    text
}

/// A long run: what was done, and what everybody held meanwhile.
#[must_use]
pub fn of_soak(run: &Summary) -> String {
    let mut text = format!(
        "{}.\n\n| of | what | at each count, the first after a quarter of the time |\n|---|---|--:|\n",
        run.line()
    );
    for Held { of, what, counts } in &run.held {
        let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
        let _ = writeln!(text, "| {of} | {what} | {} |", counts.join(", "));
    }
    text
}

/// Puts a text into its place in a document, between two comments that name it.
pub fn write(path: &Path, place: &str, text: &str) -> Result<()> {
    let document =
        fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let (begin, end) = (
        format!("<!-- {place}: begin -->\n"),
        format!("<!-- {place}: end -->"),
    );
    let from = document
        .find(&begin)
        .with_context(|| format!("the document has no place '{place}'"))?
        + begin.len();
    let to = document[from..]
        .find(&end)
        .with_context(|| format!("the place '{place}' has no end"))?
        + from;
    fs::write(
        path,
        format!("{}{text}{}", &document[..from], &document[to..]),
    )?;
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
            injected: [("kill".to_owned(), 2)].into(),
            ..Summary::default()
        };
        let table = of_runs(
            "Title",
            &[run(1, Some(1500)), run(2, None), Summary::default()],
        );
        let rows: Vec<&str> = table.lines().skip(4).collect();
        assert!(
            rows[0].contains("| 2 | 0 | 0 | 0 | 3 |") && rows[0].contains("1.5 s"),
            "{}",
            rows[0]
        );
        assert_eq!(rows[1..], ["", "The faults by name: kill 4."]);
    }
}
