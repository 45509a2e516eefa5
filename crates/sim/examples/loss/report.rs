//! What was measured, as text and JSON.

use crate::lab::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// estab's goodput should be at least this share of Linux's.
pub(crate) const BAR: f64 = 0.9;
/// The share of late packets above which a run is measured again: the machine was too busy.
pub(crate) const TOO_LATE: f64 = 0.05;
/// Counters that say how a sender fared, by Linux's names.
const TELLING: [&str; 14] = [
    "OutSegs",
    "RetransSegs",
    "TCPTimeouts",
    "TCPLossProbes",
    "TCPSackRecovery",
    "TCPFullUndo",
    "TCPPartialUndo",
    "TCPDSACKUndo",
    "TCPLossUndo",
    "TCPSpuriousRTOs",
    "TCPDSACKRecv",
    "TCPSACKReorder",
    "TCPLostRetransmit",
    "TCPHystartTrainDetect",
];

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) kernel: String,
    pub(crate) seconds: u64,
    pub(crate) runs: u64,
    pub(crate) cells: Vec<Cell>,
    pub(crate) shares: Vec<Share>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// Probabilities.
    pub(crate) loss: f64,
    pub(crate) reorder: f64,
    pub(crate) rtt_ms: u64,
    /// Linux to Linux first.
    pub(crate) results: Vec<Result>,
}

/// One pair in one cell.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Result {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Mbit/s of each run.
    pub(crate) runs: Vec<f64>,
    /// Per cent of packets that the emulator delivered late, in each run.
    pub(crate) late: Vec<f64>,
    /// What the sender counted, in all runs.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// Two flows over one bottleneck: in each run who starts a moment earlier, and who starts later.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) rtt_ms: u64,
    pub(crate) estab_first: Vec<Both>,
    pub(crate) linux_first: Vec<Both>,
    /// The reference.
    pub(crate) linux_both: Vec<Both>,
}

/// Mbit/s of the flow that started first, and of the other.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Both {
    pub(crate) first: f64,
    pub(crate) second: f64,
    /// Per cent of packets that the emulator delivered late.
    pub(crate) late: f64,
}

fn round(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}

pub(crate) fn mbit(bits: f64) -> f64 {
    round(bits / 1e6, 1000.0)
}

pub(crate) fn percent(share: f64) -> f64 {
    round(share * 100.0, 100.0)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

impl Result {
    pub(crate) fn new(from: &str, to: &str) -> Result {
        Result {
            from: from.into(),
            to: to.into(),
            ..Result::default()
        }
    }

    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.runs.push(mbit(outcome.goodput[0]));
        self.late.push(percent(outcome.late()));
        for name in TELLING {
            let n = outcome.counters[0].get(name).copied().unwrap_or(0);
            *self.counters.entry(name.into()).or_default() += n;
        }
    }

    pub(crate) fn median(&self) -> f64 {
        median(&self.runs)
    }

    /// In most runs the machine was too busy.
    pub(crate) fn disturbed(&self) -> bool {
        median(&self.late) > TOO_LATE * 100.0
    }
}

impl Cell {
    /// A pair's goodput over that of Linux to Linux.
    pub(crate) fn ratio(&self, result: &Result) -> f64 {
        result.median() / self.results[0].median()
    }
}

impl Both {
    pub(crate) fn new(outcome: &Outcome) -> Option<Both> {
        let [first, second] = outcome.goodput[..] else {
            return None;
        };
        Some(Both {
            first: mbit(first),
            second: mbit(second),
            late: percent(outcome.late()),
        })
    }
}

impl Share {
    /// What part of the bottleneck is the first's, in per cent.
    fn of_first(runs: &[Both]) -> f64 {
        let parts: Vec<f64> = runs.iter().map(|run| run.first / (run.first + run.second)).collect();
        median(&parts) * 100.0
    }

    pub(crate) fn text(&self) -> String {
        let runs = [&self.estab_first, &self.linux_first, &self.linux_both];
        let [estab, linux, reference] = runs.map(|runs| Share::of_first(runs));
        let all = (estab + 100.0 - linux) / 2.0;
        format!(
            "{:>6} {estab:>12.0}:{:<2.0} {:>12.0}:{linux:<2.0} {all:>11.0}:{:<2.0} {reference:>15.0}:{:.0}\n",
            self.rtt_ms,
            100.0 - estab,
            100.0 - linux,
            100.0 - all,
            100.0 - reference,
        )
    }
}

impl Report {
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        // One line a pair: small enough to keep, and to compare.
        let text = serde_json::to_string(self)?;
        Ok(text
            .replace("{\"from\"", "\n{\"from\"")
            .replace("{\"loss\"", "\n{\"loss\"")
            + "\n")
    }

    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "Linux {}, 100 Mbit/s, a buffer of one BDP, CUBIC; Mbit/s, the median of {} runs of {} s\n",
            self.kernel, self.runs, self.seconds
        );
        out += &self.header();
        for cell in &self.cells {
            out += &row(cell);
        }
        if self
            .cells
            .iter()
            .flat_map(|cell| &cell.results)
            .any(|result| result.disturbed())
        {
            out += "* the machine was too busy: in most runs more than 5 % of the packets came over 1 ms late\n";
        }
        if !self.shares.is_empty() {
            out += "two flows, estab's part and Linux's; the last column is Linux beside Linux, the first's part and the other's\n";
            out += "RTT ms     estab first     Linux first  in both orders     Linux and Linux\n";
        }
        out.extend(self.shares.iter().map(Share::text));
        out
    }

    /// The row of the last cell, with a header before the first.
    pub(crate) fn last(&self) -> String {
        let header = if self.cells.len() == 1 {
            self.header()
        } else {
            String::new()
        };
        header + &self.cells.last().map(row).unwrap_or_default()
    }

    fn header(&self) -> String {
        let mut out = format!("{:>6} {:>6} {:>7}", "loss %", "RTT ms", "reord %");
        for result in self.cells.first().map_or(&[][..], |cell| &cell.results) {
            let _ = write!(out, " {:>19}", format!("{}→{}", result.from, result.to));
        }
        out + "\n"
    }
}

fn row(cell: &Cell) -> String {
    let mut out = format!(
        "{:>6} {:>6} {:>7}",
        percent(cell.loss),
        cell.rtt_ms,
        percent(cell.reorder)
    );
    for (number, result) in cell.results.iter().enumerate() {
        let mark = if result.disturbed() { "*" } else { " " };
        let ratio = match number {
            0 => String::new(),
            _ => {
                let ratio = cell.ratio(result);
                format!("({ratio:.2}){}", if ratio < BAR { "!" } else { " " })
            }
        };
        let _ = write!(out, " {:>9.2}{mark}{ratio:>9}", result.median());
    }
    out + "\n"
}
