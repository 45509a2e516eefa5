//! Plots: lines over two logarithmic axes, as SVG.

use plotters::prelude::*;
use std::path::Path;

/// A subject's points.
pub struct Line {
    /// Whose.
    pub name: String,
    /// (x, y), ascending in x.
    pub points: Vec<(f64, f64)>,
}

/// A chart's words.
pub struct Words<'a> {
    /// Over it.
    pub title: &'a str,
    /// Under the x axis.
    pub x: &'a str,
    /// Beside the y axis.
    pub y: &'a str,
}

const COLOURS: [RGBColor; 8] = [
    RGBColor(213, 60, 47),
    RGBColor(38, 110, 184),
    RGBColor(46, 145, 82),
    RGBColor(142, 84, 173),
    RGBColor(222, 140, 30),
    RGBColor(90, 90, 90),
    RGBColor(20, 160, 170),
    RGBColor(190, 80, 140),
];

/// Draws `lines` to an SVG file. Points at x = 0 stand at x = 1, the axis being logarithmic.
pub fn loglog(path: &Path, words: &Words, lines: &[Line]) -> Result<(), String> {
    let all = || lines.iter().flat_map(|l| &l.points);
    let span = |of: fn(&(f64, f64)) -> f64| {
        all().map(of).fold((f64::MAX, f64::MIN), |(low, high), v| {
            (low.min(v.max(1e-9)), high.max(v))
        })
    };
    let (x, y) = (span(|p| p.0.max(1.0)), span(|p| p.1));
    if all().next().is_none() {
        return Err("nothing to plot".into());
    }
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(path, (860, 520)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(words.title, ("sans-serif", 18))
            .margin(12)
            .margin_right(90)
            .x_label_area_size(44)
            .y_label_area_size(74)
            .build_cartesian_2d((x.0..x.1 * 1.1).log_scale(), (y.0 / 1.5..y.1 * 1.5).log_scale())?;
        let number = |v: &f64| crate::table::figure(*v);
        chart
            .configure_mesh()
            .light_line_style(RGBColor(240, 240, 240))
            .x_desc(words.x)
            .y_desc(words.y)
            .x_label_formatter(&number)
            .y_label_formatter(&number)
            .draw()?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let points: Vec<(f64, f64)> = line.points.iter().map(|p| (p.0.max(1.0), p.1)).collect();
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, colour.filled())))?;
            if let Some(last) = points.last() {
                let style = ("sans-serif", 14).into_font().color(colour);
                let label = EmptyElement::at(*last) + Text::new(line.name.clone(), (7, -7), style);
                chart.draw_series([label])?;
            }
        }
        area.present()?;
        Ok(())
    };
    draw().map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_names_its_lines() {
        let path = std::env::temp_dir().join(format!("peers-plot-{}.svg", std::process::id()));
        let words = Words {
            title: "cost",
            x: "N",
            y: "ns",
        };
        let line = Line {
            name: "estab".into(),
            points: vec![(0.0, 200.0), (1e6, 900.0)],
        };
        loglog(&path, &words, &[line]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(svg.contains("estab") && svg.contains("cost"));
        assert!(loglog(&path, &words, &[]).is_err());
    }
}
