//! estab beside its peers: one command, a table with ratios, JSON and plots.

mod count;
mod ends;
mod report;
mod subjects;
mod suite;
mod works;

use anyhow::{Result, anyhow, bail};
use clap::{Parser, Subcommand};
use peers_common::{Plan, Results};
use std::path::PathBuf;
use std::time::Duration;

/// Measures estab and its peers at the same works, side by side, and prints a table: each figure is the median of three runs
/// of CPU time of one core, with its ratio to estab's beside it. Ratios within one run decide; nanoseconds orient.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Under two minutes: shorter runs, fewer connections.
    #[arg(long)]
    quick: bool,
    /// Only these subjects.
    #[arg(long, value_delimiter = ',', value_name = "SUBJECT")]
    only: Vec<String>,
    /// Only these works: bulk, conn, rr, flood, idle, halfopen, timewait.
    #[arg(long, value_delimiter = ',', value_name = "WORK")]
    work: Vec<String>,
    /// Keep the figures in this file; those it holds of other works and subjects stay.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the plots into this directory.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Measure another build of a peer: a program that is told a work and prints samples (see src/suite.rs).
    #[arg(long, value_name = "NAME=PATH")]
    peer: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Print the table of figures kept before, and draw the plots.
    Report {
        /// What --json wrote.
        file: PathBuf,
        /// Draw the plots into this directory.
        #[arg(long, value_name = "DIR")]
        plots: Option<PathBuf>,
    },
    /// Count the instructions of estab's works under valgrind.
    Instructions,
    /// Do one work of one subject, in this process: what the comparison starts for each.
    #[command(hide = true)]
    Subject {
        name: String,
        work: String,
        milliseconds: u64,
        runs: usize,
        point: u64,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::Subject {
            name,
            work,
            milliseconds,
            runs,
            point,
        }) => {
            let plan = Plan {
                run: Duration::from_millis(milliseconds),
                runs,
            };
            subjects::run(&name, &work, point, &plan)
        }
        Some(Command::Instructions) => count::run(),
        Some(Command::Report { file, plots }) => {
            let results = Results::load(&file).map_err(|e| anyhow!(e))?;
            report::show(&results, plots.as_deref())
        }
        None => {
            let mut results = match &args.json {
                Some(file) => Results::load(file).map_err(|e| anyhow!(e))?,
                None => Results {
                    machine: peers_common::sample::machine(),
                    samples: Vec::new(),
                },
            };
            let others = args.peer.iter().map(|peer| match peer.split_once('=') {
                Some((name, path)) => Ok((name.to_string(), PathBuf::from(path))),
                None => bail!("--peer {peer}: expected NAME=PATH"),
            });
            let suite = suite::Suite {
                quick: args.quick,
                only: args.only,
                works: args.work,
                others: others.collect::<Result<_>>()?,
            };
            suite.measure(|sample| {
                results.add(sample);
                match &args.json {
                    Some(file) => results.save(file).map_err(|e| anyhow!(e)),
                    None => Ok(()),
                }
            })?;
            report::show(&results, args.plots.as_deref())
        }
    }
}
