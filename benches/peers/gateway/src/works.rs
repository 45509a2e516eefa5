//! What is measured of each gateway in a round.

use crate::flood;
use crate::host::{listens, wait_for};
use crate::subjects::{Running, Subject};
use anyhow::{Context, Result};
use peers_common::Sample;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long and how much.
pub struct Plan<'a> {
    /// Of each load.
    pub seconds: u64,
    /// Idle connections.
    pub idle: u64,
    /// The works wanted; empty: all.
    pub only: &'a [String],
    /// How long connections are made in bursts before they are compared with the first, and how long it rests between bursts.
    pub soak: Duration,
    pub rest: Duration,
}

impl Plan<'_> {
    fn wants(&self, work: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|w| w == work)
    }
}

/// Every work of one round; what fails says why.
pub fn all(subject: &Subject, plan: &Plan) -> Vec<Sample> {
    let mut samples = Vec::new();
    if let Err(err) = subject.program() {
        return vec![Sample::failed("down", 1, "Gbit/s", err)];
    }
    for (mtu, works) in [
        (None, &["idle", "bulk", "conn", "connect", "rr"][..]),
        (Some(1500), &["bulk1500"]),
    ] {
        if !works.iter().any(|work| plan.wants(work)) {
            continue;
        }
        match subject.start(mtu) {
            Err(err) => samples.push(Sample::failed("down", 1, "Gbit/s", format!("{err:#}"))),
            Ok(running) => {
                let mut round = Round {
                    running,
                    plan,
                    samples: &mut samples,
                    process: subject.has_process(),
                };
                round.all(works);
            }
        }
    }
    if plan.wants("flood") && subject.meets_floods() {
        samples.extend(
            flooded(subject, plan).unwrap_or_else(|err| vec![Sample::failed("flood", 1, "ns", format!("{err:#}"))]),
        );
    }
    if plan.wants("start") && subject.has_process() {
        samples.extend(
            start_up(subject)
                .transpose()
                .map(|sample| sample.unwrap_or_else(|err| Sample::failed("start", 0, "ms", format!("{err:#}")))),
        );
    }
    samples
}

struct Round<'a> {
    running: Running,
    plan: &'a Plan<'a>,
    samples: &'a mut Vec<Sample>,
    process: bool,
}

impl Round<'_> {
    fn all(&mut self, works: &[&str]) {
        // Neighbours and routes are found before anything is timed.
        let up = wait_for("a way to the server", || self.running.ask("reach").is_ok());
        for work in works.iter().filter(|work| self.plan.wants(work)) {
            let done = match (*work, &up) {
                (_, Err(err)) => Err(anyhow::anyhow!("{err:#}")),
                ("idle", _) => self.idle(),
                ("bulk", _) => self.bulk(""),
                ("bulk1500", _) => self.bulk("1500"),
                ("conn", _) => self.connections(),
                ("connect", _) => self.one("connect", &[50]),
                _ => self.one("rr", &[50, 99]),
            };
            if let Err(err) = done {
                let (name, point) = match *work {
                    "idle" => ("idle", self.plan.idle),
                    "bulk" => ("down", 8),
                    "bulk1500" => ("down1500", 1),
                    "conn" => ("conn", 16),
                    other => (other, 50),
                };
                self.samples.push(Sample::failed(name, point, "", format!("{err:#}")));
            }
        }
    }

    fn put(&mut self, work: &str, point: u64, unit: &str, figure: f64) {
        self.samples.push(Sample::of(work, point, unit, vec![figure]));
    }

    fn idle(&mut self) -> Result<()> {
        if !self.process {
            return Ok(());
        }
        let n = self.plan.idle;
        let before = self.running.rss();
        self.put("rss", 0, "kB", before / 1024.0);
        self.running.ask(&format!("idle {n}"))?;
        let each = (self.running.rss() - before) / n as f64;
        self.running.ask("drop")?;
        self.put("idle", n, "bytes", each);
        Ok(())
    }

    fn bulk(&mut self, suffix: &str) -> Result<()> {
        for (streams, way) in [(1, "down"), (1, "up"), (8, "down"), (8, "up")] {
            if streams == 8 && !suffix.is_empty() {
                continue;
            }
            let (rate, gbit, cpu) = self.iperf(streams, way)?;
            let work = format!("{way}{suffix}");
            self.put(&work, streams, "Gbit/s", rate);
            if self.process && suffix.is_empty() && cpu > 0.0 {
                self.put(&format!("{way}-cpu"), streams, "Gbit/CPU-s", gbit / cpu);
            }
        }
        Ok(())
    }

    /// Gbit/s, Gbit in all, CPU seconds of the gateway.
    fn iperf(&mut self, streams: u64, way: &str) -> Result<(f64, f64, f64)> {
        // One server a test: one that was left in the middle of a test would refuse the next.
        let mut server = Command::new("iperf3");
        let mut server = server
            .args(["-s", "-1"])
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run iperf3")?;
        let cpu = self.running.cpu();
        let figures = wait_for("iperf3", || listens(5201)).and_then(|()| {
            self.running
                .ask(&format!("iperf {} {streams} {way}", self.plan.seconds))
        });
        let cpu = self.running.cpu() - cpu;
        let _ = server.kill();
        let _ = server.wait();
        let figures = figures.with_context(|| format!("{way}, {streams} streams"))?;
        Ok((figures[0], figures[1], cpu))
    }

    fn connections(&mut self) -> Result<()> {
        let (rate, cpu) = self.wrk(self.plan.seconds)?;
        self.put("conn", 16, "per second", rate);
        if self.process {
            self.put("conn-cpu", 16, "CPU-s per 1,000", cpu);
        }
        if !self.plan.soak.is_zero() {
            self.soak()?;
        }
        Ok(())
    }

    /// Bursts of connections: the first tenth of them beside the last, as whatever else runs meanwhile moves every single one.
    fn soak(&mut self) -> Result<()> {
        // Without a rest, as long as a work may take before it is taken for dead.
        let seconds = if self.plan.rest.is_zero() { 10 } else { 1 };
        let begin = Instant::now();
        let mut bursts = Vec::new();
        while begin.elapsed() < self.plan.soak {
            let (rate, cpu) = self.wrk(seconds)?;
            let rss = self.running.rss() / 1024.0;
            let at = begin.elapsed().as_secs();
            eprintln!("  {at} s: {rate:.0} per second, {cpu:.4} CPU-s per 1,000, RSS {rss:.0} kB");
            bursts.push([rate, cpu, rss]);
            std::thread::sleep(self.plan.rest);
        }
        let tenth = bursts.len().div_ceil(10);
        let figures = [
            ("soak", "per second"),
            ("soak-cpu", "CPU-s per 1,000"),
            ("soak-rss", "kB"),
        ];
        // A veth pair has no process to look at.
        let figures = figures.into_iter().take(if self.process { 3 } else { 1 });
        for (n, (work, unit)) in figures.enumerate() {
            for (point, some) in [(0, &bursts[..tenth]), (1, &bursts[bursts.len() - tenth..])] {
                let runs: Vec<f64> = some.iter().map(|burst| burst[n]).collect();
                self.put(work, point, unit, peers_common::median(&runs));
            }
        }
        Ok(())
    }

    /// Connections per second, and CPU seconds of the gateway per 1,000.
    fn wrk(&mut self, seconds: u64) -> Result<(f64, f64)> {
        let cpu = self.running.cpu();
        let figures = self.running.ask(&format!("wrk {seconds}"))?;
        let cpu = (self.running.cpu() - cpu) / figures[1].max(1.0) * 1000.0;
        if figures[2] > 0.0 {
            eprintln!("  {} of {} connections failed", figures[2], figures[1]);
        }
        Ok((figures[0], cpu))
    }

    /// Percentiles of a latency.
    fn one(&mut self, work: &str, percentiles: &[u64]) -> Result<()> {
        let figures = self.running.ask(&format!("{work} {}", self.plan.seconds.min(2)))?;
        for (point, figure) in percentiles.iter().zip(figures) {
            self.put(work, *point, "µs", figure);
        }
        Ok(())
    }
}

/// A SYN flood's cost.
fn flooded(subject: &Subject, plan: &Plan) -> Result<Vec<Sample>> {
    let cost = flood::cost(subject, 100_000 * plan.seconds as usize)?;
    let of = |work, figure| Sample::of(work, 1, "ns", vec![figure]);
    let gateway = cost.gateway.map(|figure| of("flood-gateway", figure));
    Ok([Some(of("flood", cost.all)), gateway].into_iter().flatten().collect())
}

/// The wall time of running `true` in a network of its own; `None` for those that only attach to one.
fn start_up(subject: &Subject) -> Result<Option<Sample>> {
    let Some(mut command) = subject.whole_command(subject.program()?, None) else {
        return Ok(None);
    };
    command
        .arg("true")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut times = Vec::new();
    for _ in 0..5 {
        let begin = Instant::now();
        let status = command.status()?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
        // What the kernel tidies up behind it is not the next one's.
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(Some(Sample::of("start", 0, "ms", vec![peers_common::median(&times)])))
}
