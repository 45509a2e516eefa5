//! What was measured, as one line of JSON each: what a subject prints, and what `--json` keeps.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// One figure of one subject.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Sample {
    /// Who: `estab`, `smoltcp` …
    #[serde(default)]
    pub subject: String,
    /// What: `bulk`, `conn`, `rr` …
    pub work: String,
    /// Of how many or how large: the N of the work.
    pub point: u64,
    /// The median of `runs`; absent where the subject could not do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Of `value`: `ns`, `bytes`, `count` …
    pub unit: String,
    /// Each run's figure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<f64>,
    /// Why there is no value, or what to know about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Sample {
    /// A figure measured in `runs`.
    pub fn of(work: &str, point: u64, unit: &str, runs: Vec<f64>) -> Sample {
        Sample {
            subject: String::new(),
            work: work.into(),
            point,
            value: (!runs.is_empty()).then(|| crate::median(&runs)),
            unit: unit.into(),
            runs,
            note: String::new(),
        }
    }

    /// What could not be measured, and why.
    pub fn failed(work: &str, point: u64, unit: &str, why: impl ToString) -> Sample {
        Sample {
            value: None,
            runs: Vec::new(),
            note: why.to_string(),
            ..Sample::of(work, point, unit, vec![])
        }
    }

    /// The same figure, with a remark.
    pub fn noted(self, note: impl ToString) -> Sample {
        Sample {
            note: note.to_string(),
            ..self
        }
    }

    /// Prints it as the line that the comparing command reads, at once.
    pub fn print(&self) {
        use std::io::Write;
        let line = serde_json::to_string(self).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

/// All samples of a comparison.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The machine and its kernel.
    pub machine: String,
    /// In the order measured.
    pub samples: Vec<Sample>,
}

impl Results {
    /// What `path` holds; empty if there is no such file.
    pub fn load(path: &Path) -> Result<Results, String> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Results {
                machine: machine(),
                samples: Vec::new(),
            }),
            Err(e) => Err(format!("{}: {e}", path.display())),
        }
    }

    /// Writes all to `path`.
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let json = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        std::fs::write(path, json + "\n").map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Adds a sample, in place of an older one of the same figure.
    pub fn add(&mut self, sample: Sample) {
        let same = |s: &Sample| (&s.subject, &s.work, s.point) == (&sample.subject, &sample.work, sample.point);
        match self.samples.iter().position(same) {
            Some(at) => self.samples[at] = sample,
            None => self.samples.push(sample),
        }
    }

    /// The sample of a figure.
    pub fn get(&self, subject: &str, work: &str, point: u64) -> Option<&Sample> {
        self.samples
            .iter()
            .find(|s| s.subject == subject && s.work == work && s.point == point)
    }

    /// Subjects in the order they came.
    pub fn subjects(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sample in &self.samples {
            if !names.contains(&sample.subject.as_str()) {
                names.push(&sample.subject);
            }
        }
        names
    }
}

/// The processor, how many cores, and the kernel.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split(['-', '\n']).next().unwrap_or_default();
    format!(
        "{}, {cores} cores, Linux {kernel}",
        model.map_or("unknown CPU", |(_, name)| name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_figure_takes_the_older_ones_place() {
        let mut results = Results::default();
        results.add(Sample::of("rr", 1, "ns", vec![3.0, 1.0, 2.0]));
        results.add(Sample::of("rr", 100, "ns", vec![9.0]));
        results.add(Sample::failed("rr", 1, "ns", "gave up"));
        assert_eq!(results.samples.len(), 2);
        assert_eq!(results.get("", "rr", 1).unwrap().value, None);
        assert_eq!(results.get("", "rr", 100).unwrap().value, Some(9.0));
    }

    #[test]
    fn a_line_without_the_optional_fields_is_read() {
        let sample: Sample = serde_json::from_str(r#"{"work":"rr","point":1,"unit":"ns","value":2.5}"#).unwrap();
        assert_eq!((sample.value, sample.note.as_str()), (Some(2.5), ""));
    }
}
