//! The report as small multiples in SVG: a row of panels for goodput and one for its share of Linux's, for each amount
//! of reordering; a column for each round-trip time.

use crate::report::{BAR, Cell, Report};
use std::fmt::Write;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 84.0;
const PANEL: f64 = 270.0;
const GAP: f64 = 24.0;
/// Heights of the panels of goodput and of shares.
const HEIGHTS: [f64; 2] = [170.0, 110.0];
const ROW_GAP: f64 = 58.0;
/// Mbit/s at the ends of the logarithmic axis, and the shares at the ends of the other.
const GOODPUT: [f64; 2] = [0.1, 100.0];
const SHARE: [f64; 2] = [0.6, 1.4];

/// One for each pair, distinct in shape as well as in colour (Okabe and Ito's, for all eyes).
const STYLES: [(&str, &str); 4] = [
    ("#777777", "M-4,-4h8v8h-8z"),
    ("#0072b2", "M0,-5L5,4H-5z"),
    ("#d55e00", "M0,5L5,-4H-5z"),
    ("#009e73", "M0,-5.5L5.5,0L0,5.5L-5.5,0z"),
];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.t{font-size:15px;font-weight:600}\
.s{fill:#555}.f{fill:none;stroke:#999}.g{stroke:#ddd}.b{stroke:#b00;stroke-dasharray:4 3}.l{fill:none;stroke-width:1.5}";

/// Draws it.
pub(crate) fn svg(report: &Report) -> String {
    let mut rtts: Vec<u64> = report.cells.iter().map(|cell| cell.rtt_ms).collect();
    rtts.sort_unstable();
    rtts.dedup();
    let mut reorders: Vec<f64> = report.cells.iter().map(|cell| cell.reorder).collect();
    reorders.sort_by(f64::total_cmp);
    reorders.dedup();
    let rows = reorders.len() as f64;
    let height = TOP + rows * (HEIGHTS[0] + HEIGHTS[1] + 2.0 * ROW_GAP) + 4.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\
         <style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let _ = writeln!(
        out,
        "<text class=\"t\" x=\"{LEFT}\" y=\"24\">Goodput over lossy paths: estab beside Linux {}</text>\
         <text class=\"s\" x=\"{LEFT}\" y=\"42\">100 Mbit/s, a buffer of one BDP, CUBIC; medians of {} runs of {} s</text>",
        report.kernel, report.runs, report.seconds
    );
    legend(&mut out, report);
    let mut top = TOP;
    for reorder in reorders {
        for (kind, height) in HEIGHTS.into_iter().enumerate() {
            for (column, rtt) in rtts.iter().enumerate() {
                let of_panel = |cell: &&Cell| cell.reorder == reorder && cell.rtt_ms == *rtt;
                let mut cells: Vec<&Cell> = report.cells.iter().filter(of_panel).collect();
                cells.sort_by(|a, b| a.loss.total_cmp(&b.loss));
                let panel = Panel {
                    left: LEFT + column as f64 * (PANEL + GAP),
                    top: top + 20.0,
                    height,
                    log: kind == 0,
                };
                panel.frame(&mut out, &cells, column == 0);
                let title = match kind {
                    0 => format!("RTT {rtt} ms, {} % reordered", reorder * 100.0),
                    _ => "share of Linux → Linux".into(),
                };
                text(&mut out, panel.left, panel.top - 6.0, "start", &title);
                panel.lines(&mut out, &cells);
            }
            top += height + ROW_GAP;
        }
    }
    out + "</svg>\n"
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

fn legend(out: &mut String, report: &Report) {
    let pairs = report.cells.first().map_or(&[][..], |cell| &cell.results);
    for (number, result) in pairs.iter().enumerate() {
        let (colour, shape) = STYLES[number % STYLES.len()];
        let x = LEFT + 4.0 + number as f64 * 150.0;
        let _ = write!(
            out,
            "<path d=\"{shape}\" transform=\"translate({x},62)\" fill=\"{colour}\"/>"
        );
        text(
            out,
            x + 10.0,
            66.0,
            "start",
            &format!("{} → {}", result.from, result.to),
        );
    }
    out.push('\n');
}

struct Panel {
    left: f64,
    top: f64,
    height: f64,
    /// Goodput, on a logarithmic axis; else shares.
    log: bool,
}

impl Panel {
    fn x(&self, number: usize, of: usize) -> f64 {
        self.left + PANEL * (number as f64 + 0.5) / of.max(1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        let at = match self.log {
            true => (value / GOODPUT[0]).log10() / (GOODPUT[1] / GOODPUT[0]).log10(),
            false => (value - SHARE[0]) / (SHARE[1] - SHARE[0]),
        };
        self.top + self.height * (1.0 - at.clamp(0.0, 1.0))
    }

    /// Axes with their units: values on the left of the first column, loss below.
    fn frame(&self, out: &mut String, cells: &[&Cell], first: bool) {
        let (left, right, bottom) = (self.left, self.left + PANEL, self.top + self.height);
        let ticks: &[f64] = if self.log {
            &[0.1, 1.0, 10.0, 100.0]
        } else {
            &[0.6, 0.8, 1.0, 1.2, 1.4]
        };
        for tick in ticks {
            let y = self.y(*tick);
            let _ = write!(out, "<path class=\"g\" d=\"M{left},{y:.1}H{right}\"/>");
            if first {
                text(out, left - 6.0, y + 4.0, "end", &tick.to_string());
            }
        }
        if !self.log {
            let _ = write!(out, "<path class=\"b\" d=\"M{left},{:.1}H{right}\"/>", self.y(BAR));
        }
        let _ = write!(
            out,
            "<rect class=\"f\" x=\"{left}\" y=\"{}\" width=\"{PANEL}\" height=\"{}\"/>",
            self.top, self.height
        );
        if first {
            let unit = if self.log { "Mbit/s" } else { "ratio" };
            let middle = self.top + self.height / 2.0;
            let _ = write!(
                out,
                "<text class=\"s\" transform=\"translate({:.1},{middle:.1}) rotate(-90)\" text-anchor=\"middle\">{unit}</text>",
                left - 42.0
            );
        }
        for (number, cell) in cells.iter().enumerate() {
            let loss = format!("{} %", cell.loss * 100.0);
            text(out, self.x(number, cells.len()), bottom + 15.0, "middle", &loss);
        }
        let _ = write!(
            out,
            "<text class=\"s\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">packets lost, each way</text>",
            left + PANEL / 2.0,
            bottom + 30.0
        );
        out.push('\n');
    }

    fn lines(&self, out: &mut String, cells: &[&Cell]) {
        let pairs = cells.first().map_or(0, |cell| cell.results.len());
        for pair in usize::from(!self.log)..pairs {
            let (colour, shape) = STYLES[pair % STYLES.len()];
            let mut line = String::new();
            let mut marks = String::new();
            for (number, cell) in cells.iter().enumerate() {
                let result = &cell.results[pair];
                let (value, unit) = match self.log {
                    true => (result.median(), " Mbit/s"),
                    false => (cell.ratio(result), " of Linux → Linux"),
                };
                // Side by side, so that equal ones can be told apart.
                let x = self.x(number, cells.len()) + (pair as f64 - 1.5) * 9.0;
                let y = self.y(value);
                let _ = write!(line, "{}{x:.1},{y:.1}", if number == 0 { "M" } else { "L" });
                let _ = write!(
                    marks,
                    "<path d=\"{shape}\" transform=\"translate({x:.1},{y:.1})\" fill=\"{colour}\">\
                     <title>{} → {}: {value:.2}{unit}</title></path>",
                    result.from, result.to
                );
            }
            let _ = writeln!(
                out,
                "<path class=\"l\" stroke=\"{colour}\" stroke-opacity=\".45\" d=\"{line}\"/>{marks}"
            );
        }
    }
}
