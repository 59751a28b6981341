//! Draws the ratios: a bar for each figure, on a logarithmic axis around 1.

use std::fmt::Write;

/// A figure beside Erlang's.
pub struct Bar {
    pub name: String,
    /// Atoll's cost relative to Erlang's.
    pub ratio: f64,
    /// The target: the ratio must not exceed it.
    pub target: Option<f64>,
}

const ROW_HEIGHT: f64 = 18.0;
const NAMES_WIDTH: f64 = 260.0;
const AXIS_WIDTH: f64 = 560.0;
const TOP: f64 = 48.0;
/// The ends of the axis.
const RATIOS: [f64; 2] = [0.01, 100.0];
const LINES: [f64; 5] = [0.01, 0.1, 1.0, 10.0, 100.0];

/// An SVG document.
pub fn svg(bars: &[Bar]) -> String {
    let height = TOP + ROW_HEIGHT * bars.len() as f64 + 12.0;
    let width = NAMES_WIDTH + AXIS_WIDTH + 80.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">Cost beside Erlang's (left of 1: Atoll is better); the mark is the target</text>\n"
    );
    // Writing to a string can't fail.
    for line in LINES {
        let x = place(line);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{height}\" stroke=\"#ccc\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{line}</text>",
            TOP - 6.0
        );
    }
    let one = place(1.0);
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW_HEIGHT * row as f64;
        let end = place(bar.ratio);
        let (x, width) = (one.min(end), (one - end).abs().max(1.0));
        let is_met = bar.target.is_none_or(|target| bar.ratio <= target);
        let colour = if is_met { "#2a9d8f" } else { "#e76f51" };
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{:.1}\">{}</text>\
             <rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
            y + 13.0,
            bar.name,
            y + 3.0,
            ROW_HEIGHT - 6.0,
            NAMES_WIDTH + AXIS_WIDTH + 16.0,
            y + 13.0,
            bar.ratio
        );
        if let Some(target) = bar.target {
            let x = place(target);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"black\" stroke-width=\"2\"/>",
                y + ROW_HEIGHT
            );
        }
    }
    svg += "</svg>\n";
    svg
}

/// Where a ratio is on the axis.
fn place(ratio: f64) -> f64 {
    let [low, high] = RATIOS.map(f64::log10);
    let part = (ratio.log10().clamp(low, high) - low) / (high - low);
    NAMES_WIDTH + part * AXIS_WIDTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_better_is_left_of_one_and_what_misses_is_marked() {
        let bar = |name: &str, ratio, target| Bar {
            name: name.to_owned(),
            ratio,
            target,
        };
        assert!(place(0.5) < place(1.0) && place(1.0) < place(2.0));
        assert_eq!(place(0.0), NAMES_WIDTH);
        let picture = svg(&[bar("good", 0.5, Some(1.0)), bar("bad", 2.0, Some(1.0))]);
        assert!(picture.starts_with("<svg") && picture.ends_with("</svg>\n"));
        let rows: Vec<_> = picture
            .lines()
            .filter(|line| line.contains("fill=\"#"))
            .collect();
        let [good, bad] = rows[LINES.len()..] else {
            panic!("{rows:?}");
        };
        assert!(good.contains("good") && good.contains("#2a9d8f"));
        assert!(bad.contains("bad") && bad.contains("#e76f51"));
    }
}
