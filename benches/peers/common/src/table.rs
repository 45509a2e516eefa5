//! Tables: a row per work, a column per subject, ratios to the first column's figure.

use crate::sample::{Results, Sample};

/// A row: its title, the work and point it shows, and the unit to show it in.
pub struct Row {
    /// What the reader sees.
    pub title: String,
    /// The work and its point; of several, each subject's best (the smallest) is shown.
    pub of: Vec<(String, u64)>,
    /// What to divide by.
    pub per: f64,
    /// The better figure is the larger.
    pub more_is_better: bool,
}

impl Row {
    /// A row of one figure, in its own unit.
    pub fn new(title: impl ToString, work: &str, point: u64) -> Row {
        Row {
            title: title.to_string(),
            of: vec![(work.into(), point)],
            per: 1.0,
            more_is_better: false,
        }
    }

    /// The same, in microseconds.
    pub fn us(self) -> Row {
        Row { per: 1000.0, ..self }
    }

    fn sample<'a>(&self, results: &'a Results, subject: &str) -> Option<&'a Sample> {
        let mut of = self
            .of
            .iter()
            .filter_map(|(work, point)| results.get(subject, work, *point));
        let first = of.next()?;
        Some(of.fold(first, |best, s| match (best.value, s.value) {
            (Some(b), Some(v)) if v < b => s,
            (None, Some(_)) => s,
            _ => best,
        }))
    }
}

/// Three significant digits, thousands apart.
pub fn figure(value: f64) -> String {
    match value {
        v if v >= 1000.0 => {
            let digits = format!("{v:.0}");
            let mut out = String::new();
            for (i, c) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i) % 3 == 0 {
                    out.push(',');
                }
                out.push(c);
            }
            out
        }
        v if v >= 100.0 || v == v.trunc() => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The comparison as a Markdown table. Beside a figure stands how many times `reference`'s it is; `–`: it could not, or did not.
pub fn markdown(results: &Results, reference: &str, rows: &[Row]) -> String {
    let mut subjects = results.subjects();
    subjects.sort_by_key(|s| *s != reference);
    let mut out = format!(
        "| work | {} |\n|---|{}\n",
        subjects.join(" | "),
        "---|".repeat(subjects.len())
    );
    for row in rows {
        let base = row.sample(results, reference).and_then(|s| s.value);
        let cells: Vec<String> = subjects
            .iter()
            .map(
                |subject| match (row.sample(results, subject).and_then(|s| s.value), base) {
                    (None, _) => "–".into(),
                    (Some(v), Some(base)) if *subject != reference && base > 0.0 => {
                        format!("{} ({}×)", figure(v / row.per), figure(v / base))
                    }
                    (Some(v), _) => figure(v / row.per),
                },
            )
            .collect();
        if cells.iter().any(|c| c != "–") {
            out += &format!("| {} | {} |\n", row.title, cells.join(" | "));
        }
    }
    out
}

/// What the samples' notes say, a line each.
pub fn notes(results: &Results) -> String {
    let noted = results.samples.iter().filter(|s| !s.note.is_empty());
    noted
        .map(|s| format!("{}, {} {}: {}\n", s.subject, s.work, s.point, s.note))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let shown = [0.123, 1.0, 12.34, 123.4, 1234.5, 1_234_567.0].map(figure);
        assert_eq!(shown, ["0.12", "1", "12.3", "123", "1,234", "1,234,567"]);
    }

    #[test]
    fn a_row_shows_ratios_to_the_reference_and_dashes_for_the_absent() {
        let mut results = Results::default();
        for (subject, value) in [("peer", Some(400.0)), ("estab", Some(200.0)), ("other", None)] {
            let sample = Sample {
                subject: subject.into(),
                value,
                ..Sample::of("rr", 1, "ns", vec![])
            };
            results.add(sample);
        }
        let table = markdown(
            &results,
            "estab",
            &[Row::new("request", "rr", 1).us(), Row::new("none", "rr", 7)],
        );
        assert_eq!(table.lines().nth(2), Some("| request | 0.20 | 0.40 (2×) | – |"));
        assert_eq!(table.lines().count(), 3);
    }
}
