//! Instructions that estab takes for one operation, counted by valgrind: the same on every machine that compiles the same code,
//! so that a change of a few per cent shows however noisy the machine is.

use anyhow::{Context, Result, ensure};
use peers_common::table::figure;
use std::process::Command;

/// What is counted: its words, the work, the point, operations of one count, and what one of them is worth.
const COUNTED: [(&str, &str, u64, u64, f64); 6] = [
    ("bulk, MTU 1500: per 1460 B", "bulk", 1500, 8, 1460.0 / (1 << 20) as f64),
    (
        "bulk, MTU 65535: per 1460 B",
        "bulk",
        65_535,
        8,
        1460.0 / (1 << 20) as f64,
    ),
    ("connect, 64 B each way, close", "conn", 0, 2000, 1.0),
    ("the same with 1,000 TIME_WAITs held", "conn", 1000, 2000, 1.0),
    ("64 B request and reply, 1 of 1", "rr", 1, 5000, 1.0),
    ("64 B request and reply, 1 of 1,000", "rr", 1000, 5000, 1.0),
];

/// Counts all, and prints a table.
pub fn run() -> Result<()> {
    println!("| work | instructions |\n|---|---|");
    for (words, work, point, ops, worth) in COUNTED {
        // What comes before and after the operations is in both counts alike.
        let (few, many) = (count(work, point, ops)?, count(work, point, 2 * ops)?);
        let each = many.saturating_sub(few) as f64 / ops as f64;
        println!("| {words} | {} |", figure(each * worth));
    }
    Ok(())
}

/// Instructions of a process that does `ops` operations.
fn count(work: &str, point: u64, ops: u64) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["subject", "estab", work, "0"])
        .args([ops, point].map(|n| n.to_string()))
        .output()
        .context("valgrind: Debian's package of that name has it")?;
    let told = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "valgrind: {told}");
    let collected = told
        .lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.with_context(|| format!("no count in what valgrind said: {told}"))
}
