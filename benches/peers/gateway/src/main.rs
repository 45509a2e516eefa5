//! `estab gateway` beside its peers: one command that plays host and guest in namespaces of its own, and prints a table.

mod flood;
mod guest;
mod host;
mod server;
mod subjects;
mod works;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};
use peers_common::table::{self, Row};
use peers_common::{Results, Sample};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Measures `estab gateway`, pasta, slirp4netns, tun2proxy and a plain veth pair at the same works, one round of all after the
/// other, and prints medians; beside each figure stands its ratio to estab's. Needs root (or user namespaces), iperf3 and wrk.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    stage: Option<Stage>,
    /// Under two minutes: each load a second long.
    #[arg(long, global = true)]
    quick: bool,
    /// Only these: veth, estab, pasta, slirp4netns, tun2proxy, or the NAME of a --peer.
    #[arg(long, value_delimiter = ',', value_name = "SUBJECT", global = true)]
    only: Vec<String>,
    /// Only these works: idle, bulk, bulk1500, conn, connect, rr, flood, start.
    #[arg(long, value_delimiter = ',', value_name = "WORK", global = true)]
    work: Vec<String>,
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 3, value_name = "N", global = true)]
    rounds: usize,
    /// After `conn`, make connections this long: the first bursts beside the last.
    #[arg(long, default_value_t = 0, value_name = "SECONDS", global = true)]
    soak: u64,
    /// Rest this long after each burst, then of one second, to leave the machine to others.
    #[arg(long, default_value_t = 0, value_name = "MS", global = true)]
    rest: u64,
    /// Keep the figures in this file; those it holds of other works and subjects stay.
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// The estab to measure; otherwise the workspace's release build.
    #[arg(long, value_name = "PATH", global = true)]
    estab: Option<PathBuf>,
    /// Another gateway or another build of one: NAME is pasta…, slirp4netns…, tun2proxy… or hev…, PATH its program.
    #[arg(long, value_name = "NAME=PATH", global = true)]
    peer: Vec<String>,
}

#[derive(Subcommand)]
enum Stage {
    /// In the host's namespaces: what the command starts itself as.
    #[command(hide = true)]
    Host,
    /// In the guest's: does what it reads from standard input.
    #[command(hide = true)]
    Guest { server: Ipv4Addr },
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.stage {
        None => enter_host(),
        Some(Stage::Guest { server }) => guest::serve(server),
        Some(Stage::Host) => measure(&args),
    }
}

/// Starts this program again in a network and a mount namespace of its own.
fn enter_host() -> Result<()> {
    let mut unshare = Command::new("unshare");
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare
        .args(["--net", "--mount"])
        .arg(std::env::current_exe()?)
        .arg("host");
    let err = unshare.args(std::env::args_os().skip(1)).exec();
    Err(err).context("cannot run unshare (util-linux)")
}

fn measure(args: &Args) -> Result<()> {
    host::set_up()?;
    server::start()?;
    let mut results = match &args.json {
        Some(file) => Results::load(file).map_err(|e| anyhow!(e))?,
        None => Results {
            machine: peers_common::sample::machine(),
            samples: Vec::new(),
        },
    };
    let estab = args.estab.clone().unwrap_or_else(workspace_build);
    let subjects = subjects::all(&estab, &args.peer, &args.only)?;
    let mut measured: Vec<Sample> = Vec::new();
    for round in 1..=args.rounds {
        for subject in &subjects {
            eprintln!("round {round} of {}: {}", args.rounds, subject.name);
            let plan = works::Plan {
                seconds: if args.quick { 1 } else { 3 },
                idle: if args.quick { 2000 } else { 5000 },
                only: &args.work,
                // Once is enough.
                soak: Duration::from_secs(if round == args.rounds { args.soak } else { 0 }),
                rest: Duration::from_millis(args.rest),
            };
            for sample in works::all(subject, &plan) {
                merge(&mut measured, sample, &subject.name);
            }
        }
    }
    for sample in measured {
        results.add(sample);
    }
    if let Some(file) = &args.json {
        results.save(file).map_err(|e| anyhow!(e))?;
    }
    println!("{}; medians; in brackets the ratio to estab's.\n", results.machine);
    println!("{}", table::markdown(&results, "estab", &rows(args)));
    print!("{}", table::notes(&results));
    Ok(())
}

/// Adds a round's figure to the earlier rounds'.
fn merge(measured: &mut Vec<Sample>, sample: Sample, subject: &str) {
    let sample = Sample {
        subject: subject.into(),
        ..sample
    };
    let same = |s: &&mut Sample| (&s.subject, &s.work, s.point) == (&sample.subject, &sample.work, sample.point);
    match measured.iter_mut().find(same) {
        None => measured.push(sample),
        Some(old) => {
            old.runs.extend(sample.runs);
            old.value = (!old.runs.is_empty()).then(|| peers_common::median(&old.runs));
            if old.note.is_empty() {
                old.note = sample.note;
            }
        }
    }
}

fn workspace_build() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/release/estab")
}

fn rows(args: &Args) -> Vec<Row> {
    let more = |title: &str, work: &str, point| Row {
        more_is_better: true,
        ..Row::new(title, work, point)
    };
    let idle = if args.quick { 2000 } else { 5000 };
    let mut rows = vec![
        more("download, 1 stream: Gbit/s", "down", 1),
        more("download, 8 streams: Gbit/s", "down", 8),
        more("upload, 1 stream: Gbit/s", "up", 1),
        more("upload, 8 streams: Gbit/s", "up", 8),
        more("download, 1 stream: Gbit per CPU-second", "down-cpu", 1),
        more("upload, 1 stream: Gbit per CPU-second", "up-cpu", 1),
        more("MTU 1500, download, 1 stream: Gbit/s", "down1500", 1),
        more("MTU 1500, upload, 1 stream: Gbit/s", "up1500", 1),
        more("new connections per second, 16 at a time", "conn", 16),
        Row::new("… CPU-seconds per 1,000", "conn-cpu", 16),
        Row::new("connect, a byte each way, close, p50: µs", "connect", 50),
        Row::new("request and reply, p50: µs", "rr", 50),
        Row::new("request and reply, p99: µs", "rr", 99),
        Row::new("RSS idle: kB", "rss", 0),
        Row::new(format!("RSS per idle connection ({idle}): bytes"), "idle", idle),
        Row::new(
            "SYN flood through a TUN (veth: the kernel's listener): CPU ns per SYN",
            "flood",
            1,
        ),
        Row::new("… of which the gateway's", "flood-gateway", 1),
        Row::new("start-up of `true`: ms", "start", 0),
    ];
    if args.soak > 0 {
        for (point, when) in [(0, "first"), (1, "last")] {
            let title = format!("{} s of them, the {when} tenth: per second", args.soak);
            rows.push(more(&title, "soak", point));
            rows.push(Row::new("… CPU-seconds per 1,000", "soak-cpu", point));
            rows.push(Row::new("… RSS: kB", "soak-rss", point));
        }
    }
    rows
}
