//! Goodput over bad paths, estab's beside Linux's: loss × round-trip time × reordering × who sends and who receives.
//!
//! ```sh
//! cargo build --release -p estab-sim --example loss
//! sudo nice -n -15 target/release/examples/loss --json docs/loss.json --svg docs/loss.svg
//! ```
//!
//! What is measured and how to read it: docs/LOSS.md. Needs root, for the network namespaces and their TUNs; all traffic
//! stays in them.

#[cfg(target_os = "linux")]
mod lab;
#[cfg(target_os = "linux")]
mod plot;
#[cfg(target_os = "linux")]
mod report;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this measures beside Linux's TCP, and so runs on Linux only");
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::lab::{self, Flow, Outcome, Path, Who};
    use crate::plot;
    use crate::report::{Both, Cell, Report, Result, Share, TOO_LATE};
    use clap::Parser;
    use std::io;
    use std::time::Duration;

    const RATE: u64 = 100_000_000;
    const LOSSES: [f64; 4] = [0.0, 0.001, 0.01, 0.05];
    const RTTS_MS: [u64; 3] = [5, 20, 100];
    const REORDERS: [f64; 2] = [0.0, 0.05];
    /// Linux to Linux, the reference, comes first.
    pub(crate) const PAIRS: [Flow; 4] = [
        pair(Who::Linux, Who::Linux),
        pair(Who::Estab, Who::Linux),
        pair(Who::Linux, Who::Estab),
        pair(Who::Estab, Who::Estab),
    ];

    const fn pair(from: Who, to: Who) -> Flow {
        Flow { from, to }
    }

    /// Goodput over bad paths, estab's beside Linux's.
    #[derive(Parser)]
    struct Args {
        /// 8 cells instead of 24
        #[arg(long)]
        quick: bool,
        /// Only cells like this: loss and reordering in percent, RTT in ms, as in 1,20,0; may be repeated
        #[arg(long, value_name = "LOSS,RTT,REORDER")]
        cell: Vec<String>,
        /// Only this round-trip time in ms; may be repeated
        #[arg(long, value_name = "MS")]
        rtt: Vec<u64>,
        /// Seconds that a run lasts
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Runs per cell and pair, of which the median counts
        #[arg(long, default_value_t = 3)]
        runs: u64,
        /// Pairs measured side by side
        #[arg(long, default_value_t = 4)]
        jobs: usize,
        /// Times that a run is repeated when the emulator fell behind
        #[arg(long, default_value_t = 2)]
        repeats: u64,
        /// Leave out the cells, or the two flows that share a bottleneck
        #[arg(long, value_parser = ["cells", "shares"])]
        skip: Option<String>,
        /// Write everything measured to a file
        #[arg(long, value_name = "FILE")]
        json: Option<std::path::PathBuf>,
        /// Draw it
        #[arg(long, value_name = "FILE")]
        svg: Option<std::path::PathBuf>,
        /// Measure nothing: show and draw what was written with --json
        #[arg(long, value_name = "FILE")]
        from: Option<std::path::PathBuf>,
    }

    impl Args {
        fn wants(&self, rtt_ms: u64) -> bool {
            self.rtt.is_empty() || self.rtt.contains(&rtt_ms)
        }
    }

    pub(crate) fn main() -> io::Result<()> {
        let args = Args::parse();
        let report = match &args.from {
            Some(file) => serde_json::from_str(&std::fs::read_to_string(file)?)?,
            None => measure(&args)?,
        };
        print!("{}", report.text());
        if let Some(file) = &args.json {
            std::fs::write(file, report.json()?)?;
        }
        if let Some(file) = &args.svg {
            std::fs::write(file, plot::svg(&report))?;
        }
        Ok(())
    }

    fn measure(args: &Args) -> io::Result<Report> {
        let mut report = Report {
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
            seconds: args.seconds,
            runs: args.runs,
            ..Report::default()
        };
        if args.skip.as_deref() != Some("cells") {
            for cell in cells(args)? {
                let results = pairs(args, cell)?;
                report.cells.push(Cell {
                    results,
                    ..cell_of(cell)
                });
                eprint!("{}", report.last());
            }
        }
        if args.skip.as_deref() != Some("shares") {
            for rtt_ms in RTTS_MS.into_iter().filter(|rtt| args.wants(*rtt)) {
                report.shares.push(shares(args, rtt_ms)?);
                eprint!("{}", report.shares.last().map(Share::text).unwrap_or_default());
            }
        }
        Ok(report)
    }

    type Numbers = (f64, u64, f64);

    fn cell_of((loss, rtt_ms, reorder): Numbers) -> Cell {
        Cell {
            loss,
            rtt_ms,
            reorder,
            ..Cell::default()
        }
    }

    fn cells(args: &Args) -> io::Result<Vec<Numbers>> {
        if !args.cell.is_empty() {
            let wrong = |cell: &str| io::Error::other(format!("{cell:?} is not like 1,20,0"));
            let parse = |cell: &String| {
                let numbers: Vec<f64> = cell.split(',').map_while(|n| n.parse().ok()).collect();
                match numbers[..] {
                    [loss, rtt, reorder] => Ok((loss / 100.0, rtt as u64, reorder / 100.0)),
                    _ => Err(wrong(cell)),
                }
            };
            return args.cell.iter().map(parse).collect();
        }
        let mut cells = Vec::new();
        for reorder in REORDERS {
            for rtt_ms in RTTS_MS {
                for loss in LOSSES {
                    let quick = [5, 100].contains(&rtt_ms) && [0.0, 0.01].contains(&loss);
                    if args.wants(rtt_ms) && (!args.quick || quick) {
                        cells.push((loss, rtt_ms, reorder));
                    }
                }
            }
        }
        Ok(cells)
    }

    /// A path that is the same for every pair.
    fn path((loss, rtt_ms, reorder): Numbers, run: u64) -> Path {
        Path {
            rate: RATE,
            rtt: Duration::from_millis(rtt_ms),
            loss,
            reorder,
            seed: 1 + run,
        }
    }

    fn pairs(args: &Args, cell: Numbers) -> io::Result<Vec<Result>> {
        let mut results: Vec<Result> = PAIRS
            .iter()
            .map(|pair| Result::new(pair.from.name(), pair.to.name()))
            .collect();
        for run in 0..args.runs {
            let path = path(cell, run);
            let jobs: Vec<usize> = (0..PAIRS.len()).collect();
            for jobs in jobs.chunks(args.jobs.max(1)) {
                let outcomes = std::thread::scope(|scope| {
                    let spawn = |job: &usize| {
                        let pair = PAIRS[*job];
                        scope.spawn(move || undisturbed(args, &[pair], &path))
                    };
                    let threads: Vec<_> = jobs.iter().map(spawn).collect();
                    let join =
                        |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("a run does not panic");
                    threads.into_iter().map(join).collect::<Vec<io::Result<Outcome>>>()
                });
                for (job, outcome) in jobs.iter().zip(outcomes) {
                    results[*job].add(&outcome?);
                }
            }
        }
        Ok(results)
    }

    /// Measures until the emulator kept up, or keeps the attempt in which it did best.
    fn undisturbed(args: &Args, flows: &[Flow], path: &Path) -> io::Result<Outcome> {
        let length = Duration::from_secs(args.seconds);
        let mut best = lab::run(flows, path, length)?;
        for _ in 0..args.repeats {
            if best.late() <= TOO_LATE {
                break;
            }
            let again = lab::run(flows, path, length)?;
            if again.late() < best.late() {
                best = again;
            }
        }
        Ok(best)
    }

    /// Two flows without loss over one bottleneck, of which one starts a moment before the other.
    fn shares(args: &Args, rtt_ms: u64) -> io::Result<Share> {
        let mut share = Share {
            rtt_ms,
            ..Share::default()
        };
        for run in 0..args.runs {
            let mut both = |first, second, into: fn(&mut Share) -> &mut Vec<Both>| -> io::Result<()> {
                let flows = [pair(first, Who::Linux), pair(second, Who::Linux)];
                let outcome = undisturbed(args, &flows, &path((0.0, rtt_ms, 0.0), run))?;
                into(&mut share).extend(Both::new(&outcome));
                Ok(())
            };
            both(Who::Estab, Who::Linux, |share| &mut share.estab_first)?;
            both(Who::Linux, Who::Estab, |share| &mut share.linux_first)?;
            both(Who::Linux, Who::Linux, |share| &mut share.linux_both)?;
        }
        Ok(share)
    }
}
