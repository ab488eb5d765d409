//! Plots as SVG: lines over a logarithmic or linear axis, a legend, nothing else.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figure::Report;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 55.0;
const COLORS: [&str; 6] = [
    "#0072b2", "#999999", "#d55e00", "#56b4e9", "#009e73", "#cc79a7",
];

/// A line of a plot.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Curve {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            points: Vec::new(),
        }
    }
}

/// How an axis is labelled and scaled.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) logarithmic: bool,
}

/// A plot.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The file's name, without its ending.
    pub(crate) file: &'static str,
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) curves: Vec<Curve>,
}

impl Report {
    /// Writes the plots of what was measured into a directory, as SVG; answers the names of the files.
    pub fn plot(&self, directory: &Path) -> Result<Vec<String>> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("could not make the directory {}", directory.display()))?;
        let mut names = Vec::new();
        for plot in self.sections.iter().flat_map(|section| &section.plots) {
            let file = directory.join(format!("{}.svg", plot.file));
            std::fs::write(&file, plot.svg())
                .with_context(|| format!("could not write {}", file.display()))?;
            names.push(file.display().to_string());
        }
        Ok(names)
    }
}

/// An axis over a range of values, drawn from one place to another.
struct Scale {
    logarithmic: bool,
    range: (f64, f64),
    place: (f64, f64),
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64>, place: (f64, f64)) -> Self {
        let logarithmic = axis.logarithmic;
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        let range = if logarithmic {
            let low = low.max(1e-9);
            (
                10f64.powf(low.log10().floor()),
                10f64.powf(high.log10().ceil()),
            )
        } else {
            let step = step(high);
            (0.0, (high / step).ceil() * step)
        };
        Self {
            logarithmic,
            range,
            place,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        let part = if self.logarithmic {
            (value.max(low) / low).log10() / (high / low).log10().max(1e-9)
        } else {
            value / high.max(1e-9)
        };
        self.place.0 + part * (self.place.1 - self.place.0)
    }

    fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.range;
        let (mut ticks, mut tick) = (Vec::new(), low);
        while tick <= high * 1.001 {
            ticks.push(tick);
            tick = if self.logarithmic {
                tick * 10.0
            } else {
                tick + step(high)
            };
        }
        ticks
    }
}

/// A round distance between ticks, of which some five make up `high`.
fn step(high: f64) -> f64 {
    let rough = (high / 5.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].map(|n| n * power);
    round
        .into_iter()
        .find(|n| *n >= rough * 0.999)
        .unwrap_or(rough)
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 => format!("{}k", v / 1e3),
        v => format!("{}", (v * 1000.0).round() / 1000.0),
    }
}

impl Plot {
    fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Scale::new(&self.x, points().map(|p| p.0), (LEFT, WIDTH - RIGHT));
        let y = Scale::new(&self.y, points().map(|p| p.1), (HEIGHT - BOTTOM, TOP));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        text(&mut svg, (LEFT, 22.0), "start", self.title);
        self.draw_axes(&mut svg, &x, &y);
        for (i, curve) in self.curves.iter().enumerate() {
            draw_curve(&mut svg, i, curve, (&x, &y));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Scale, y: &Scale) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let at = y.at(tick);
            line(svg, (LEFT, at), (right, at));
            text(svg, (LEFT - 6.0, at + 4.0), "end", &number(tick));
        }
        for tick in x.ticks() {
            let at = x.at(tick);
            line(svg, (at, TOP), (at, bottom));
            text(svg, (at, bottom + 18.0), "middle", &number(tick));
        }
        let middle = f64::midpoint(LEFT, right);
        text(svg, (middle, HEIGHT - 14.0), "middle", self.x.label);
        let _ = writeln!(
            svg,
            "<text transform=\"translate(18 {:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(TOP, bottom),
            self.y.label
        );
    }
}

fn draw_curve(svg: &mut String, i: usize, curve: &Curve, (x, y): (&Scale, &Scale)) {
    let color = COLORS[i % COLORS.len()];
    let places: Vec<String> = curve
        .points
        .iter()
        .map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>",
        places.join(" ")
    );
    for place in &places {
        let (cx, cy) = place.split_once(',').unwrap_or_default();
        let _ = writeln!(
            svg,
            "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{color}\"/>"
        );
    }
    let at = (WIDTH - RIGHT + 14.0, TOP + 10.0 + 20.0 * i as f64);
    let _ = writeln!(
        svg,
        "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{color}\"/>",
        at.0,
        at.1 - 6.0
    );
    text(svg, (at.0 + 20.0, at.1), "start", &curve.name);
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{text}</text>",
        at.0, at.1
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let scale = |logarithmic, values: &[f64]| {
            let axis = Axis {
                label: "",
                logarithmic,
            };
            Scale::new(&axis, values.iter().copied(), (0.0, 100.0)).ticks()
        };
        assert_eq!(
            scale(false, &[10.0, 93.0]),
            [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
        );
        assert_eq!(scale(true, &[102.0, 1e5]), [100.0, 1e3, 1e4, 1e5]);
    }

    #[test]
    fn values_stand_where_the_axis_says() {
        let axis = Axis {
            label: "",
            logarithmic: true,
        };
        let scale = Scale::new(&axis, [1.0, 100.0].into_iter(), (0.0, 100.0));
        assert!((scale.at(10.0) - 50.0).abs() < 1e-9);
    }
}
