//! Ladders as text, at most 110 columns wide.

use crate::exchange::{Collector, Exchange, Skipped, Step, What};
use estab_proto::trace::{OptionTrace, OptionsTrace};
use estab_proto::{SegmentTrace, TcpFlags, TimerKind};
use std::fmt::Write;

const STATE: usize = 11;
const ARROW: usize = 70;

/// Every connection of `collector`, one ladder after the other.
pub fn render_all(collector: &Collector) -> String {
    let mut out = String::new();
    for exchange in collector.exchanges() {
        out.push_str(&render(exchange));
        out.push('\n');
    }
    if collector.left_out() > 0 {
        let _ = writeln!(out, "… and {} more connections", collector.left_out());
    }
    out
}

/// One connection: the end that opened it stands on the left.
pub fn render(exchange: &Exchange) -> String {
    let mut out = String::new();
    let (left, right) = if exchange.opened_by_remote {
        (exchange.remote.to_string(), format!("{} (estab)", exchange.local))
    } else {
        (format!("{} (estab)", exchange.local), exchange.remote.to_string())
    };
    let _ = writeln!(out, "{:>10}  {left}{:>pad$}{right}", "", "", pad = pad(&left, &right));
    let start = exchange.head.first().map_or(0, |step| step.at_ns);
    let mut last = (String::new(), String::new());
    for step in &exchange.head {
        line(&mut out, exchange, step, start, &mut last);
    }
    let Skipped {
        segments_in,
        bytes_in,
        segments_out,
        bytes_out,
        others,
    } = exchange.skipped;
    if segments_in + segments_out + others > 0 {
        let (a, b) = ((segments_in, bytes_in), (segments_out, bytes_out));
        let (right_going, left_going) = if exchange.opened_by_remote { (a, b) } else { (b, a) };
        let text = format!(
            "⋮ {} segments with {} bytes ▶, {} with {} bytes ◀",
            right_going.0, right_going.1, left_going.0, left_going.1
        );
        let _ = writeln!(out, "{:>10}  {:STATE$} │ {text:^ARROW$} │", "⋮", "");
    }
    for step in &exchange.tail {
        line(&mut out, exchange, step, start, &mut last);
    }
    out
}

fn pad(left: &str, right: &str) -> usize {
    (2 * STATE + ARROW + 6)
        .saturating_sub(left.chars().count() + right.chars().count())
        .max(2)
}

fn line(out: &mut String, exchange: &Exchange, step: &Step, start: u64, last: &mut (String, String)) {
    let flip = exchange.opened_by_remote;
    let (left, right) = if flip {
        (step.remote, step.local)
    } else {
        (step.local, step.remote)
    };
    let middle = match step.what {
        What::Segment { ours, segment, dropped } => arrow(&label(&segment), ours != flip, dropped),
        What::Timer { kind, retries } => {
            let times = if retries > 1 {
                format!(", the {retries}th time in a row")
            } else {
                String::new()
            };
            let text = format!("{}{times}", timer(kind));
            if flip {
                format!("{text:>ARROW$}")
            } else {
                format!("{text:<ARROW$}")
            }
        }
        What::State => " ".repeat(ARROW),
    };
    // A state is written where it is entered; an unbroken line says that it lasts.
    let shown = |state: String, last: &mut String| {
        let changed = state != *last;
        let text = if changed { state.clone() } else { String::new() };
        *last = state;
        text
    };
    let left = shown(left.netstat().to_string(), &mut last.0);
    let right = shown(right.netstat().to_string(), &mut last.1);
    let seconds = step.at_ns.saturating_sub(start) as f64 / 1e9;
    let text = format!("{seconds:>10.6}  {left:>STATE$} │ {middle} │ {right}");
    let _ = writeln!(out, "{}", text.trim_end());
}

/// packetdrill's notation, without padding and without the timestamps' values, which say nothing to a reader here;
/// that they are in use shows on the SYNs.
fn label(segment: &SegmentTrace) -> String {
    let mut short = *segment;
    short.options = OptionsTrace::default();
    let mut text = short.to_string();
    let mut separator = " <";
    for option in segment.options.iter() {
        let word = match option {
            OptionTrace::Nop | OptionTrace::Eol => continue,
            OptionTrace::Timestamps { .. } if segment.flags.contains(TcpFlags::SYN) => "TS".to_string(),
            OptionTrace::Timestamps { .. } => continue,
            other => other.to_string(),
        };
        text.push_str(separator);
        text.push_str(&word);
        separator = ",";
    }
    if separator == "," {
        text.push('>');
    }
    text
}

fn arrow(label: &str, rightwards: bool, dropped: Option<&'static str>) -> String {
    let label = match dropped {
        Some(reason) => format!("{label} ✗ {reason}"),
        None => label.to_string(),
    };
    let width = ARROW - 4;
    let label = if label.chars().count() > width {
        let cut: String = label.chars().take(width - 1).collect();
        format!("{cut}…")
    } else {
        label
    };
    let dashes = ARROW - 3 - label.chars().count();
    let (before, after) = (dashes / 2, dashes - dashes / 2);
    match (rightwards, dropped.is_some()) {
        (true, false) => format!("{} {label} {}▶", "─".repeat(before), "─".repeat(after)),
        (false, false) => format!("◀{} {label} {}", "─".repeat(before), "─".repeat(after)),
        (_, true) => format!("{} {label} {}╳", "╌".repeat(before), "╌".repeat(after)),
    }
}

fn timer(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::Retransmit => "⏰ retransmission timeout",
        TimerKind::LossProbe => "⏰ tail loss probe",
        TimerKind::Reorder => "⏰ reordering window over",
        TimerKind::Persist => "⏰ zero-window probe",
        TimerKind::Keepalive => "⏰ keepalive",
        TimerKind::DelayedAck => "⏰ delayed ACK",
        TimerKind::FinWait2 => "⏰ FIN_WAIT2 over",
        TimerKind::TimeWait => "⏰ 2·MSL over",
        TimerKind::SynAck => "⏰ SYN-ACK unanswered",
        TimerKind::Pacing => "⏰ pacing",
        TimerKind::Open => "⏰ open unanswered",
    }
}
