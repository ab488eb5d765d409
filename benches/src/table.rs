//! The figures, for people and for programs.

use anyhow::Result;

/// One figure beside its floor.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    /// Medians.
    pub(crate) pmq: f64,
    pub(crate) floor: Option<f64>,
}

/// Prints the figures.
pub(crate) fn print(figures: &[Figure], json: bool) -> Result<()> {
    if json {
        let mut object = serde_json::Map::new();
        for figure in figures {
            object.insert(figure.name.to_owned(), serde_json::json!(figure.pmq));
            if let Some(floor) = figure.floor {
                object.insert(format!("{}_floor", figure.name), serde_json::json!(floor));
            }
        }
        println!("{}", serde_json::to_string(&object)?);
        return Ok(());
    }
    println!(
        "{:<24} {:>12} {:>12} {:>8}  unit",
        "figure", "pmq", "floor", "ratio"
    );
    for figure in figures {
        let floor = figure
            .floor
            .map_or_else(String::new, |floor| format!("{floor:.0}"));
        let ratio = figure
            .floor
            .map_or_else(String::new, |floor| format!("{:.2}", figure.pmq / floor));
        println!(
            "{:<24} {:>12.1} {floor:>12} {ratio:>8}  {}",
            figure.name, figure.pmq, figure.unit
        );
    }
    Ok(())
}
