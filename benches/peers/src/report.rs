//! The table and the plots.

use crate::suite::WORKS;
use anyhow::{Result, anyhow};
use peers_common::Results;
use peers_common::plot::{Line, Words, loglog};
use peers_common::table::{self, Row, figure};
use std::path::Path;

/// Whose figures the ratios are to.
const REFERENCE: &str = "estab";

/// Prints the table and what to know about it; draws the plots.
pub fn show(results: &Results, plots: Option<&Path>) -> Result<()> {
    println!(
        "{}; CPU time of one core, medians; in brackets the ratio to {REFERENCE}'s.\n",
        results.machine
    );
    println!("{}", table::markdown(results, REFERENCE, &rows(results)));
    print!("{}", table::notes(results));
    if let Some(dir) = plots {
        std::fs::create_dir_all(dir)?;
        draw(
            results,
            dir,
            "rr",
            "rr.svg",
            "64 B request and reply on one of N connections",
            ("N", "ns of CPU"),
            |ns| ns,
        )?;
        let words = ("TIME_WAITs held", "connections per CPU-second");
        draw(
            results,
            dir,
            "conn",
            "conn.svg",
            "Connect, accept, 64 B each way, close",
            words,
            |ns| 1e9 / ns,
        )?;
    }
    Ok(())
}

fn rows(results: &Results) -> Vec<Row> {
    let mut rows = vec![
        Row::new("bulk, MTU 1500: ns per 1460 B", "bulk", 1500),
        Row {
            of: vec![("bulk".into(), 9000), ("bulk".into(), 65_535)],
            ..Row::new("bulk, packets of 9–64 kB: ns per 1460 B", "bulk", 0)
        },
    ];
    let points = |work: &str| {
        let mut points: Vec<u64> = results
            .samples
            .iter()
            .filter(|s| s.work == work)
            .map(|s| s.point)
            .collect();
        points.sort_unstable();
        points.dedup();
        points
    };
    for (work, ..) in WORKS {
        for point in points(work) {
            let n = figure(point as f64);
            rows.push(match work {
                "conn" => Row::new(
                    format!("connect, 64 B each way, close; {n} TIME_WAITs held: µs"),
                    work,
                    point,
                )
                .us(),
                "rr" => Row::new(format!("64 B request and reply, 1 of {n}: µs"), work, point).us(),
                "flood" => Row::new(format!("SYN flood, {n} SYNs: ns per SYN"), work, point),
                "idle" => Row::new("bytes per idle connection", work, point),
                "halfopen" => Row::new("bytes per half-open connection", work, point),
                "timewait" => Row::new("bytes per TIME_WAIT", work, point),
                _ => continue,
            });
            if work == "flood" {
                rows.push(Row::new("the same: of 100 honest clients served", "served", point));
            }
        }
    }
    rows
}

fn draw(
    results: &Results,
    dir: &Path,
    work: &str,
    file: &str,
    title: &str,
    (x, y): (&str, &str),
    of: impl Fn(f64) -> f64,
) -> Result<()> {
    let lines: Vec<Line> = results
        .subjects()
        .into_iter()
        .map(|name| {
            let samples = results.samples.iter().filter(|s| s.subject == name && s.work == work);
            let mut points: Vec<(f64, f64)> = samples.filter_map(|s| Some((s.point as f64, of(s.value?)))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line {
                name: name.into(),
                points,
            }
        })
        .filter(|line| !line.points.is_empty())
        .collect();
    loglog(&dir.join(file), &Words { title, x, y }, &lines).map_err(|e| anyhow!(e))
}
